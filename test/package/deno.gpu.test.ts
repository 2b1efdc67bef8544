/**
 * The package in Deno, where it is installed: on wgpu, a WebGPU made independently of Dawn, kernels keep their contracts, a worker replays
 * recordings, and the program of docs/browsers.md draws what Node draws.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromUnit, grid, openModelSource, ResidentModel, Sampler, shippedModel } from '../../node.ts';
import { deno } from '../support/deno.ts';
import { testEngine } from '../support/engine.ts';
import { fencedBlocks } from '../support/fenced.ts';
import { FIXTURES } from '../support/golden.ts';
import { buildInto, ROOT, run, textOf } from '../support/repository.ts';

describe.skipIf(!deno)(`in ${deno ?? 'Deno (none found)'}`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'odelt-deno-'));
    const installed = join(folder, 'node_modules/odelt');
    mkdirSync(installed, { recursive: true });
    await buildInto(join(installed, 'dist'));
    copyFileSync(join(ROOT, 'package.json'), join(installed, 'package.json'));
    symlinkSync(join(ROOT, 'models'), join(installed, 'models'));
    writeFileSync(join(folder, 'package.json'), '{}');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs a program in the folder; LLVM as for tests of variants that lavapipe takes long to compile. */
  async function runs(name: string, code: string, ...args: string[]): Promise<string> {
    writeFileSync(join(folder, name), code);
    const env = { GALLIVM_PERF: 'nopt', ...process.env };
    return (await run(deno!, ['run', '-A', name, ...args], { cwd: folder, env })).stdout;
  }

  it("every kernel, by GPUs' variants, agrees with float64", { timeout: 600_000 }, async () => {
    const { checked, failed } = JSON.parse(await runs('kernels.js', textOf('test/package/deno/kernels.js')));
    expect(failed).toEqual({});
    expect(checked).toBeGreaterThan(40);
  });

  it('a worker replays recordings', { timeout: 300_000 }, async () => {
    const url = `${pathToFileURL(FIXTURES)}/`;
    const text = await runs('recordings.js', textOf('test/package/deno/recordings.js'), url, 'a/forward');
    expect(JSON.parse(text)).toEqual({ cases: 35, failed: 0 });
  });

  it('the program of docs/browsers.md draws what Node draws', { timeout: 300_000 }, async () => {
    const [block] = fencedBlocks(textOf('docs/browsers.md')).filter(({ heading }) => heading === 'Deno');
    await runs('sample.js', block!.code);
    const drawn = await sharp(readFileSync(join(folder, 'garments.png')))
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer();

    const engine = await testEngine();
    const { config, source, close } = await openModelSource(shippedModel());
    const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 10 });
    const { values } = await sampler.sample({ labels: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], steps: 4, blocks: 4, seed: 1 });
    const { pixels } = grid(fromUnit(values, 28, 28, 1), { columns: 10, scale: 3 });
    await close();
    engine.dispose();

    expect(drawn.length).toBe(pixels.length);
    // A value near the middle between two levels may be rounded to either.
    const off = drawn.map((level, i) => Math.abs(level - pixels[i]!)).filter((levels) => levels > 0);
    expect(off.filter((levels) => levels > 1)).toHaveLength(0);
    expect(off.length / drawn.length).toBeLessThan(1e-3);
  });
});
