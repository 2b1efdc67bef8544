/** The examples run, the kernel of docs/write-a-kernel.md is right, and the page shows the code as it is. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
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
import { runModule } from '../support/examples.ts';
import { fencedBlocks } from '../support/fenced.ts';
import { ROOT, scratch, textOf } from '../support/repository.ts';

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
  it('shows pieces of the examples as they are', () => {
    const shown = { ts: ['rmsnorm.ts'], wgsl: ['rmsnorm.wgsl'], js: ['square.mjs', 'own-kernel.mjs', 'train-mlp.mjs'] };
    const blocks = fencedBlocks(textOf('docs/write-a-kernel.md')).flatMap(({ language, code }) =>
      language in shown ? [{ files: shown[language as keyof typeof shown], code }] : [],
    );
    const holds = (file: string, code: string) => textOf(`examples/${file}`).includes(code);
    for (const name of Object.values(shown).flat())
      expect(blocks.filter(({ code }) => holds(name, code)).length, name).toBeGreaterThan(1);
    for (const { files, code } of blocks)
      expect(
        files.some((file) => holds(file, code)),
        code,
      ).toBe(true);
  });
});

describe('the examples for Node', () => {
  let folder: string;
  beforeAll(() => {
    folder = scratch();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const runExample = (name: string, ...parameters: string[]) =>
    runModule(join(ROOT, 'examples', name), join(folder, name), ...parameters);

  it('first-kernel prints the sum', async () => {
    expect(await runExample('first-kernel.mjs')).toContain('y[3] = 333\n');
  });

  it('own-kernel is right at every size, forward and backward, and is timed', async () => {
    const [timing, ...checked] = (await runExample('own-kernel.mjs')).trimEnd().split('\n').reverse();
    expect(timing).toMatch(/^1048576 elements in \d+\.\d\d ms$/);
    const cases = checked.reverse().map((line) => /^(\{.*\}) (true|false) (\S+)$/.exec(line)!.slice(1));
    expect(cases.map(([k, within]) => `${k} ${within}`)).toEqual([1, 63, 4099].map((size) => `{"size":${size}} true`));
    for (const [, , backward] of cases) expect(Number(backward)).toBeLessThan(1e-5);
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

  it('train-node trains on a folder of pictures, draws what was learnt, and goes on', async () => {
    const pictures = join(folder, 'pictures');
    for (const [label, background] of ['red', 'blue'].entries()) {
      mkdirSync(join(pictures, background), { recursive: true });
      for (let n = 0; n < 4; n++) {
        const file = join(pictures, background, `${n}.png`);
        await sharp({ create: { width: 40 + label, height: 30 + n, channels: 3, background } })
          .png()
          .toFile(file);
      }
    }
    const run = join(folder, 'run');
    const updates = async (count: number) =>
      (await runExample('train-node.mjs', pictures, String(count), run)).replace(/loss \d+\.\d{3}$/gm, 'loss');
    const out = join(run, 'samples.png');
    expect(await updates(1)).toBe(`update 1: loss\nwrote ${out}\n`);
    const { width, height, channels } = await sharp(out).metadata();
    expect(channels).toBe(3);
    expect(width).toBeGreaterThanOrEqual(2 * 28 * 3);
    expect(height).toBeGreaterThanOrEqual(28 * 3);
    expect(await updates(2)).toBe(`update 2: loss\nwrote ${out}\n`);
    const missing = await runExample('train-node.mjs', join(folder, 'nowhere')).catch((error) => error);
    expect([missing.code, missing.stderr]).toEqual([
      1,
      expect.stringMatching(/^DataError: .*nowhere: no such file.*\n {2}hint: .*\n$/),
    ]);
  });
});
