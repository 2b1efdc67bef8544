/** What the build makes: every entry that package.json promises, modules that browsers load as they are, licences of what is built in. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { borrow, manifestIn } from '../support/package.ts';
import { buildInto, ROOT, run } from '../support/repository.ts';

const { bin, exports, version, dependencies, peerDependencies, files } = manifestIn(ROOT);

describe('the build', () => {
  let folder: string;
  let dist: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'odelt-build-'));
    dist = join(folder, 'dist');
    mkdirSync(join(folder, 'node_modules'));
    borrow(folder, Object.keys(dependencies!));
    await buildInto(dist);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Every module that a built one reaches, and what it imports that is no module of the build. */
  function reach(entry: string): { modules: string[]; bare: string[] } {
    const modules = new Set<string>();
    const bare = new Set<string>();
    const visit = (file: string): void => {
      if (modules.has(file)) return;
      modules.add(file);
      // Types in comments, which packages that are built in have, import nothing.
      const code = readFileSync(file, 'utf8').replace(/\/\*\* @type .*?\*\//g, '');
      const imports = [/^(?:import|export)\b[^'"`;]*?["']([^"']+)["'];$/gm, /\bimport\(["']([^"']+)["']\)/g];
      for (const [, specifier] of imports.flatMap((pattern) => [...code.matchAll(pattern)])) {
        if (specifier!.startsWith('.')) visit(join(dirname(file), specifier!));
        else bare.add(specifier!);
      }
    };
    visit(join(dist, entry));
    return { modules: [...modules].map((file) => relative(dist, file)), bare: [...bare].sort() };
  }

  /** Names that a built module exports, as plain Node sees it. */
  async function names(path: string): Promise<string[]> {
    const code = `console.log(JSON.stringify(Object.keys(await import('${pathToFileURL(join(folder, path)).href}'))))`;
    return JSON.parse((await run(process.execPath, ['--input-type=module', '-e', code])).stdout);
  }

  it('has every entry, and odelt/node has all of odelt', async () => {
    const entries = Object.values(exports).flatMap((to) => (typeof to === 'string' ? [] : [to]));
    const promised = entries.flatMap(({ types, ...others }) => {
      expect(types).toMatch(/\.d\.ts$/);
      return Object.values(others);
    });
    expect(new Set(promised).size).toBe(7);
    for (const path of promised) expect(existsSync(join(folder, path)), path).toBe(true);
    const root = exports['.'] as Record<string, string>;
    const node = exports['./node'] as Record<string, string>;
    expect(root.node).toBe(node.default);
    const everywhere = await names(root.default!);
    expect(everywhere).toEqual(
      expect.arrayContaining(['createEngine', 'checkpoint', 'createTrainer', 'classAgreement', 'datasetOf', 'wgslLib']),
    );
    expect(everywhere).not.toContain('runTraining');
    expect(await names(node.default!)).toEqual(
      expect.arrayContaining([...everywhere, 'runTraining', 'shippedModel', 'shippedData']),
    );
    expect(await names('dist/ops.js')).toEqual(expect.arrayContaining(['linear', 'attention', 'adamw', 'patchify']));
    expect(await names('dist/worker.js')).toEqual(['createWorker', 'serveWorker']);
    expect(await names('dist/jax.js')).toEqual(expect.arrayContaining(['jaxLabels', 'jaxNoise']));
    expect(await names('dist/bench.js')).toEqual(expect.arrayContaining(['contract', 'checkCase', 'runBench']));
  });

  for (const entry of ['index.js', 'ops.js', 'bench.js', 'worker.js', 'web/module.js']) {
    it(`${entry} is loaded by browsers as it is: no Node, no package, no eval, no wasm`, () => {
      const { modules, bare } = reach(entry);
      expect(modules).toContain('engine/wgsl.js');
      expect(bare).toEqual([]);
      expect(modules.filter((file) => file.includes('.node.'))).toEqual([]);
      for (const file of modules) {
        const code = readFileSync(join(dist, file), 'utf8');
        expect(code, file).not.toMatch(
          /\beval\(|new Function\(|WebAssembly|\brequire\(["'`]|\bprocess\.(env|cwd|exit)\b/,
        );
      }
    });
  }

  it('imports under Node only what package.json lists, and names the licences of the rest', () => {
    const packages = ['node.js', 'cli.js']
      .flatMap((entry) => reach(entry).bare)
      .filter((at) => !at.startsWith('node:'));
    const known = ['webgpu', ...Object.keys({ ...dependencies, ...peerDependencies })];
    expect([...new Set(packages)].filter((name) => !known.includes(name))).toEqual([]);
    const licences = readFileSync(join(dist, 'THIRD-PARTY-LICENSES.txt'), 'utf8');
    for (const name of ['fflate', 'hyparquet', 'valibot']) {
      expect(licences).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\\n\\n.*MIT`, 'ms'));
    }
  });

  it("names the browsers' worker once, where it is started: bundlers would take another name for a file to copy", () => {
    const client = readFileSync(join(dist, 'web/client.js'), 'utf8');
    expect(client).toContain('new Worker(new URL("./module.js", import.meta.url), { type: "module" })');
    expect(client.split('module.js').length).toBe(2);
  });

  it('has the worker that decodes pictures beside the module that starts it', () => {
    const pool = readFileSync(join(dist, 'training/data/decode-pool.js'), 'utf8');
    expect(pool).toContain('new URL("./decode-worker.js", import.meta.url)');
    const { bare } = reach('training/data/decode-worker.js');
    expect(bare).toEqual(expect.arrayContaining(['node:worker_threads', 'sharp']));
  });

  it('makes the command, which knows its version', async () => {
    const cli = join(folder, bin.odelt!);
    expect(readFileSync(cli, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
    // Its version is that of the package.json beside it.
    await run('cp', [join(ROOT, 'package.json'), folder]);
    expect((await run(process.execPath, [cli, '--version'])).stdout).toBe(`${version}\n`);
  });

  it('ships folders that exist', () => {
    const missing = files.filter((name) => name !== 'dist' && !existsSync(join(ROOT, name)));
    expect(missing.filter((name) => name !== 'CHANGELOG.md')).toEqual([]);
  });
});
