/** The house rules on imports, checked on the sources themselves: they point one way, and browser code stays browser code. */
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, normalize, relative } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { ROOT } from './support/repository.ts';
import { ALLOWED, sourceFiles } from './support/rooms.ts';

interface Import {
  readonly from: string;
  readonly specifier: string;
}

/** Files of the sources, relative to the root. */
const sources: readonly string[] = [
  ...readdirSync(ROOT).filter((name) => /^(index|node|ops|bench|worker)\.ts$/.test(name)),
  ...sourceFiles,
];

const IMPORT =
  /^(?:import|export)\s+(?:type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)(?=[^;\n]*(;|\n))/gm;

function importsOf(from: string): Import[] {
  const text = readFileSync(join(ROOT, from), 'utf8');
  return Array.from(text.matchAll(IMPORT), ([, still, dynamic]) => ({
    from,
    specifier: (still ?? dynamic)!,
  }));
}

const imports = sources.flatMap(importsOf);
const isRelative = ({ specifier }: Import) => specifier.startsWith('.');
/** The imported file, relative to the root. */
const target = ({ from, specifier }: Import) => normalize(join(dirname(from), specifier));
const folderOf = (file: string) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : '');
const isBuiltin = (specifier: string) =>
  specifier.startsWith('node:') || builtinModules.includes(specifier.split('/')[0]!);

/** Code for Node alone: files named so, the readers of data files, and the command. */
const isForNode = (file: string) =>
  file.endsWith('.node.ts') || file === 'node.ts' || /^(cli|training\/data)\//.test(file);

describe('imports', () => {
  it('are found', () => {
    expect(sources.length).toBeGreaterThan(100);
    const known = imports.filter((i) => i.from === 'engine/adapters.node.ts').map((i) => i.specifier);
    expect(known).toEqual(expect.arrayContaining(['node:fs', './device.ts', './errors.ts', './dawn.node.ts']));
    const dynamic = imports.filter((i) => i.from === 'engine/dawn.node.ts').map((i) => i.specifier);
    expect(dynamic).toEqual(['./errors.ts', 'webgpu']);
    // For types alone.
    expect(imports).toContainEqual({ from: 'engine/context.ts', specifier: './engine.ts' });
  });

  it('point one way', () => {
    const wrong = imports.filter(isRelative).filter((i) => {
      const [from, to] = [folderOf(i.from), folderOf(target(i))];
      return from !== '' && from !== to && !ALLOWED[from]!.includes(to);
    });
    expect(wrong.map((i) => `${i.from} imports ${i.specifier}`)).toEqual([]);
  });

  it('never run in a circle, not even for types', () => {
    const targets = new Map(
      sources.map((file) => [file, imports.filter((i) => i.from === file && isRelative(i)).map(target)]),
    );
    const circles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      if (done.has(file)) return;
      done.add(file);
      for (const next of targets.get(file) ?? []) visit(next, [...path, file]);
    };
    for (const file of sources) visit(file, []);
    expect(circles).toEqual([]);
  });

  it('name files with their extension', () => {
    const wrong = imports.filter(isRelative).filter((i) => !/\.(ts|wgsl|json)$/.test(i.specifier));
    expect(wrong.map((i) => `${i.from} imports ${i.specifier}`)).toEqual([]);
  });

  it('of browser code reach neither Node nor files for Node, not even for types', () => {
    const wrong = imports.filter(
      (i) => !isForNode(i.from) && (isBuiltin(i.specifier) || (isRelative(i) && isForNode(target(i)))),
    );
    // These files about training data are pure, whatever their neighbours do.
    const pure = ['order', 'dataset', 'fingerprint'].map((name) => `training/data/${name}.ts`);
    expect(wrong.filter((i) => !pure.includes(target(i))).map((i) => `${i.from} imports ${i.specifier}`)).toEqual([]);
    expect(imports.filter((i) => pure.includes(i.from) && isBuiltin(i.specifier))).toEqual([]);
  });

  it('of wgsl_reflect are in tests only', () => {
    expect(imports.filter((i) => i.specifier.startsWith('wgsl_reflect'))).toEqual([]);
  });
});

describe('browser bundles', () => {
  // verify is no part of the entry, but pages may replay recordings with it.
  it.each([
    ['index.ts', 'engine/engine.ts'],
    ['verify/replay.ts', 'verify/manifest.ts'],
  ])('of %s hold no Node module', async (entry, part) => {
    const result = await build({
      entryPoints: [join(ROOT, entry)],
      bundle: true,
      write: false,
      metafile: true,
      format: 'esm',
      platform: 'browser',
      target: 'es2022',
      loader: { '.wgsl': 'text' },
      logLevel: 'silent',
    });
    const inputs = Object.keys(result.metafile.inputs).map((file) => relative(ROOT, join(process.cwd(), file)));
    expect(inputs).toContain(part);
    expect(inputs.filter((file) => file.endsWith('.node.ts'))).toEqual([]);
    const external = Object.values(result.metafile.outputs).flatMap((output) => output.imports.map((i) => i.path));
    expect(external).toEqual([]);
    const code = result.outputFiles[0]!.text;
    expect(code).not.toMatch(/from\s*["']node:|require\(["']node:|\bprocess\.(env|cwd|exit)\b/);
  });
});
