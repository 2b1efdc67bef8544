/** The package as a stranger gets it: packed, and installed into an empty folder with what its dependencies pull in and nothing else. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { buildInto, ROOT, run } from './repository.ts';

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly files: readonly string[];
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export const manifestIn = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;

/** Builds and packs the package, away from the clone's own dist/. Returns the tarball's path; `scratch` is an empty folder. */
export async function pack(scratch: string): Promise<string> {
  const stage = join(scratch, 'stage');
  mkdirSync(stage);
  for (const name of ['package.json', 'README.md', 'LICENSE', ...manifestIn(ROOT).files]) {
    if (name !== 'dist' && existsSync(join(ROOT, name)))
      cpSync(join(ROOT, name), join(stage, name), { recursive: true });
  }
  await buildInto(join(stage, 'dist'), '--types');
  const packing = ['pack', '--ignore-scripts', '--json', '--offline', '--pack-destination', scratch];
  await run('npm', packing, { cwd: stage, maxBuffer: 2 ** 26 });
  return join(scratch, readdirSync(scratch).find((name) => name.endsWith('.tgz'))!);
}

/** Unpacks a tarball as `project`'s node_modules/odelt. The project is an ES module. */
export async function install(tarball: string, project: string): Promise<string> {
  const at = join(project, 'node_modules', 'odelt');
  mkdirSync(at, { recursive: true });
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', type: 'module', private: true }));
  await run('tar', ['-xzf', tarball, '-C', at, '--strip-components', '1']);
  const { dependencies, optionalDependencies } = manifestIn(at);
  borrow(project, Object.keys({ ...dependencies, ...optionalDependencies }));
  return at;
}

/** Puts packages of the clone, and all that they depend on, into a project's node_modules, without a network. */
export function borrow(project: string, names: readonly string[]): void {
  for (const name of names) {
    const [from, to] = [join(ROOT, 'node_modules', name), join(project, 'node_modules', name)];
    if (existsSync(to) || !existsSync(from)) continue; // an optional one for another platform
    duplicate(from, to);
    const { dependencies, optionalDependencies } = manifestIn(from);
    borrow(project, Object.keys({ ...dependencies, ...optionalDependencies }));
  }
}

/** Links files where both folders are on one disk (drivers are large), and copies them elsewhere. */
function duplicate(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) duplicate(source, target);
    else {
      try {
        linkSync(source, target);
      } catch {
        copyFileSync(source, target);
      }
    }
  }
}
