/** The examples run, the kernel of docs/write-a-kernel.md is right, and the page shows the code as it is. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { caseInputs, checkCase, largestError, tolerance, uploadCase } from '../bench/harness.ts';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { Tape } from '../engine/tape.ts';
import { rmsnormContract } from '../examples/rmsnorm.ts';
import { addGradients } from '../kernels/add.ts';
import { preset } from '../model/config.ts';
import { modelMetadata, modelTensors } from '../model/model-file.ts';
import { initParams } from '../model/params.ts';
import { writeSafetensors } from '../model/safetensors.node.ts';
import { testEngine } from './support/engine.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
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
  const c = rmsnormContract;

  for (const k of c.cases) {
    it(`${JSON.stringify(k)} agrees with float64, its backward with central differences`, async () => {
      const arrays = caseInputs(c, k);
      const inputs = uploadCase(engine, c, k, arrays);
      const want = c.reference(arrays, k);
      expect(await checkCase(engine, c, k, inputs, want)).toBeLessThan(tolerance(c, k));

      // Cotangents 1, -1/2, 1/3, ... for the sum that is differentiated.
      const dy = Float64Array.from(want.y!, (_, i) => Math.fround((i % 2 ? -1 : 1) / (1 + (i % 7))));
      const seed = engine.tensor('dy', inputs.x!.shape, { data: Float32Array.from(dy) });
      const gradients = c.differentiable.map(
        (name) => [name, engine.tensor(`d(${name})`, inputs[name]!.shape)] as const,
      );
      await eager(engine, async (ctx) => {
        ctx.tape = new Tape(addGradients);
        for (const [name, gradient] of gradients) ctx.tape.watch(inputs[name]!, gradient);
        const { y } = c.run(ctx, inputs, k);
        ctx.tape.backward(ctx, [[y!, seed]]);
        await engine.idle();
      });
      const total = (moved: Record<string, Float64Array>) =>
        c.reference(moved, k).y!.reduce((sum, y, i) => sum + y * dy[i]!, 0);
      for (const [name, gradient] of gradients) {
        const got = await engine.read(gradient);
        const size = got.length;
        const picks = Array.from({ length: Math.min(size, 40) }, (_, j) => Math.floor((j * size) / Math.min(size, 40)));
        const h = 1e-5;
        const expected = picks.map((i) => {
          const at = (delta: number) =>
            total({ ...arrays, [name]: arrays[name]!.map((v, j) => (j === i ? v + delta : v)) });
          return (at(h) - at(-h)) / (2 * h);
        });
        const error = largestError(
          picks.map((i) => got[i]!),
          Float64Array.from(expected),
        );
        expect(error, `d(${name})`).toBeLessThan(4 * tolerance(c, k) + 1e-6);
      }
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
