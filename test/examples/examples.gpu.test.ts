/** The examples run, the kernel of docs/write-a-kernel.md is right, and the page shows the code as it is. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { rmsnormContract } from '../../examples/rmsnorm.ts';
import { writeSafetensors } from '../../formats/safetensors.node.ts';
import { checkCase } from '../../kernels/check.ts';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelMetadata, modelTensors } from '../../model/weights/model-file.ts';
import { testEngine } from '../support/engine.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
const text = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const run = promisify(execFile);

/** A folder inside the repository, where the package's dependencies are found. */
function scratch(): string {
  mkdirSync(join(ROOT, 'out'), { recursive: true });
  return mkdtempSync(join(ROOT, 'out', 'test-'));
}

describe('examples/rmsnorm', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await testEngine();
  });
  afterAll(() => engine.dispose());

  for (const k of rmsnormContract.cases) {
    it(`${JSON.stringify(k)} agrees with float64, its backward with central differences`, async () => {
      const { forward, backward } = await checkCase(engine, rmsnormContract, k);
      expect(Math.max(forward, backward)).toBeLessThan(2e-5);
    });
  }
});

describe('docs/write-a-kernel.md', () => {
  it('shows pieces of the example as they are', () => {
    const page = text('docs/write-a-kernel.md');
    const blocks = Array.from(page.matchAll(/```(ts|wgsl)\n(.*?)```/gs), ([, language, code]) => ({
      language,
      code: code!,
    }));
    expect(blocks.length).toBeGreaterThan(4);
    for (const { language, code } of blocks) expect(text(`examples/rmsnorm.${language}`)).toContain(code);
  });
});

describe('the examples for Node', () => {
  let folder: string;
  beforeAll(() => {
    folder = scratch();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Bundles an example with the package's sources in the place of the built package, and runs it. */
  async function runExample(name: string, ...parameters: string[]): Promise<string> {
    const outfile = join(folder, name);
    await build({
      entryPoints: [join(ROOT, 'examples', name)],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      target: 'es2022',
      loader: { '.wgsl': 'text' },
      alias: { odelt: join(ROOT, 'node.ts') },
      external: Object.keys({ ...JSON.parse(text('package.json')).dependencies, webgpu: '' }).flatMap((p) => [
        p,
        `${p}/*`,
      ]),
    });
    const { stdout } = await run(process.execPath, [outfile, ...parameters], { timeout: 110_000 });
    return stdout;
  }

  it('first-kernel prints the sum', async () => {
    expect(await runExample('first-kernel.mjs')).toContain('y[3] = 333\n');
  });

  it('sample-node samples a model file into a PNG', async () => {
    const config = preset('tiny', {
      width: 32,
      heads: 2,
      depth: 4,
      patch: 7,
      classes: 3,
      lengths: { min: 2, group: 2 },
    });
    const model = join(folder, 'model.safetensors');
    await writeSafetensors(model, modelTensors(initParams(config, 1)), modelMetadata(config));
    const out = join(folder, 'example.png');
    const printed = await runExample('sample-node.mjs', model, out);
    const bytes = Array.from(printed.matchAll(/T=(\d+) L=(\d+): (\d+) bytes/g), ([, T, L, live]) => [
      T,
      L,
      Number(live),
    ]);
    expect(bytes.map(([T, L]) => `${T} ${L}`)).toEqual(['16 4', '4 2']);
    expect(bytes[1]![2]).toBeLessThan(bytes[0]![2] as number);
    const { data, info } = await sharp(out).greyscale().raw().toBuffer({ resolveWithObject: true });
    expect(info.width).toBeGreaterThan(3 * 28 * 2);
    expect(info.height).toBeGreaterThan(2 * 28 * 2);
    // An untrained network has velocity zero, so both rows show the same noise.
    expect(new Set(data).size).toBeGreaterThan(100);
  });
});

describe('the package', () => {
  it('exports what the build makes, and node.ts has all of index.ts', async () => {
    const folder = scratch();
    try {
      await run(process.execPath, [join(ROOT, 'scripts', 'build.mjs'), folder], { cwd: ROOT });
      const { exports, bin } = JSON.parse(text('package.json'));
      /** Names that a built file exports, as plain Node sees it. */
      const names = async (path: string): Promise<string[]> => {
        const file = pathToFileURL(join(folder, path.replace('./dist/', ''))).href;
        const code = `console.log(JSON.stringify(Object.keys(await import('${file}'))))`;
        return JSON.parse((await run(process.execPath, ['--input-type=module', '-e', code])).stdout);
      };
      const [browser, node] = [await names(exports['.'].default.default), await names(exports['.'].node.default)];
      expect(browser).toEqual(expect.arrayContaining(['createEngine', 'defineKernel', 'Sampler', 'LimitError']));
      expect(node).toEqual(expect.arrayContaining([...browser, 'runTraining', 'requestNodeDevice']));
      expect(exports['./node'].default).toBe(exports['.'].node.default);
      expect(readFileSync(join(folder, bin.odelt.replace('dist/', '')), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
