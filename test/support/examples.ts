/** Runs what documents and examples show, as a user's program would: under Node, with the package's sources in the place of the built package. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

export const run = promisify(execFile);

/** Text of a file of the repository. */
export const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** A folder inside the repository, where the package's dependencies are found. */
export function scratch(): string {
  mkdirSync(join(ROOT, 'out'), { recursive: true });
  return mkdtempSync(join(ROOT, 'out', 'test-'));
}

/** Bundles a module that imports 'odelt' into `outfile`, runs it in the repository's root, and returns what it prints. */
export async function runModule(file: string, outfile: string, ...parameters: string[]): Promise<string> {
  const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> };
  await build({
    entryPoints: [file],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'es2022',
    loader: { '.wgsl': 'text' },
    alias: {
      ...Object.fromEntries(['node', 'ops', 'bench'].map((name) => [`odelt/${name}`, join(ROOT, `${name}.ts`)])),
      odelt: join(ROOT, 'node.ts'),
    },
    external: [...Object.keys(dependencies), 'webgpu'].flatMap((name) => [name, `${name}/*`]),
    logLevel: 'silent',
  });
  const { stdout } = await run(process.execPath, [outfile, ...parameters], { cwd: ROOT, timeout: 110_000 });
  return stdout;
}
