/** Late blocks in some steps only, on a network: all steps give the bits of all blocks, others what they are said to, and memory. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { add } from '../../kernels/add.ts';
import { block } from '../../model/block.ts';
import { modulationsOf } from '../../model/condition.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { decode, embedPatches } from '../../model/dit.ts';
import { ResidentModel, uploadModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { chooseSettings, estimateSampling } from '../../sampling/budget.ts';
import type { SampleRequest } from '../../sampling/request.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { relativeError } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';

const config: ModelConfig = preset('tiny', {
  ...{ imageSize: 8, patch: 2, width: 24, heads: 2, depth: 6, lengths: { min: 2, group: 2 } },
});
const params = formulaParams(config, 7, { strong: true });
const source = memorySource(params);
const labels = [3, null, 7];
const PIXELS = 64;
const noise = Float32Array.from({ length: 3 * PIXELS }, (_, i) => Math.sin(i * i));

let engine: Engine;
let model: ResidentModel;
let sampler: Sampler;
beforeAll(async () => {
  engine = await testEngine();
  model = new ResidentModel(engine, config, source);
  sampler = new Sampler(engine, model, { batch: 3 });
});
afterAll(() => engine.dispose());

const draw = async (request: Partial<SampleRequest>, by = sampler) =>
  (await by.sample({ labels, seed: 4, steps: 4, noise, ...request })).values;
const refreshed = (every: number, blocks = 2) => ({ blocks, refresh: { blocks: 6, every } });

/** Euler's steps of three samples, block by block, with what the last four or two blocks add taken from the last of every so many steps. */
async function byHand(every: number, blocks: number, guidance: number): Promise<Float32Array> {
  const whole = uploadModel(engine, config, params);
  const x = noise.slice();
  /** For labels and for no class: the late sums. */
  const kept: Float32Array[] = [];
  const velocity = (i: number, classes: number[], which: number) =>
    eager(engine, async (ctx) => {
      const input = (data: Float32Array, ...shape: [number, ...number[]]) => engine.tensor('input', shape, { data });
      const u32 = (data: number[]) => engine.tensor('input', [3], { data: Uint32Array.from(data), dtype: 'u32' });
      const conditions = { t: input(new Float32Array(3).fill(i / 4), 3), step: input(new Float32Array(3).fill(2), 3) };
      const inputs = { ...conditions, labels: u32(classes) };
      const modulations = modulationsOf(ctx, whole, inputs, u32([6, 6, 6]));
      const images = input(x, 3, 8, 8, 1);
      let state = embedPatches(ctx, whole, images);
      const outputs: Tensor[] = [];
      for (let b = 0; b < 6; b += 2) {
        let y = state;
        let entered = y;
        for (const n of [b, b + 1]) {
          entered = y;
          y = block(ctx, whole, n, y, modulations.block(n, 3));
        }
        outputs.push(y);
        state = add(ctx, entered, y);
      }
      const sum = (some: readonly Tensor[]) => some.reduce((a, b) => add(ctx, a, b));
      const late = sum(outputs.slice(blocks / 2));
      if (i % every === 0) kept[which] = (await engine.read(late)).slice();
      const v = add(ctx, sum(outputs.slice(0, blocks / 2)), input(kept[which]!, 3, 16, 24));
      return (
        await engine.read(decode(ctx, whole, v, modulations.head(), () => ({ x: images, t: conditions.t })))
      ).slice();
    });
  const none = config.classes;
  for (let i = 0; i < 4; i++) {
    const c = await velocity(i, [3, none, 7], 0);
    const u = guidance === 1 ? c : await velocity(i, [none, none, none], 1);
    for (let e = 0; e < x.length; e++) x[e] = x[e]! + (u[e]! + guidance * (c[e]! - u[e]!)) / 4;
  }
  whole.weights.release();
  engine.release(whole.positions);
  return x;
}

describe('late blocks', () => {
  const ways: SamplerOptions[] = [{ ahead: false }, { ahead: true }];

  it('in every step give the bits of all blocks', async () => {
    for (const options of ways) {
      const one = new Sampler(engine, model, { batch: 3, ...options });
      for (const more of [{}, { guidance: 2.5 }, { guidance: 2.5, guidanceInterval: [0.2, 0.6] }] as const) {
        const expected = await draw({ ...more, blocks: 6 }, one);
        for (const blocks of [2, 4]) expect(await draw({ ...more, ...refreshed(1, blocks) }, one)).toEqual(expected);
      }
      one.dispose();
    }
  });

  it.each([
    [2, 2, 1],
    [2, 4, 1],
    [3, 2, 2.5],
  ])('once in %d steps add to the first %d what they gave last (guidance %d)', async (every, blocks, guidance) => {
    const expected = await byHand(every, blocks, guidance);
    for (const options of ways) {
      const one = new Sampler(engine, model, { batch: 3, ...options });
      expect(relativeError(await draw({ ...refreshed(every, blocks), guidance }, one), expected)).toBeLessThan(1e-5);
      one.dispose();
    }
    // It is an approximation, and not that of fewer blocks.
    for (const other of [6, blocks]) {
      expect(relativeError(await draw({ blocks: other, guidance }), expected)).toBeGreaterThan(1e-4);
    }
  });

  it('give a sample the same bits whatever the batch, and after other requests', async () => {
    const narrow = new Sampler(engine, model, { batch: 2 });
    for (const more of [{ guidance: 1.5 }, { guidance: 1.5, guidanceInterval: [0.2, 0.6] }] as const) {
      const request = { ...refreshed(2), ...more, noise: undefined };
      const all = await draw(request);
      expect(await draw(request, narrow)).toEqual(all);
      await draw({ blocks: 4 }, narrow);
      expect(await draw({ ...request, loadBlocks: 'along' }, narrow)).toEqual(all);
    }
    narrow.dispose();
  });

  it('do not go with streaming', async () => {
    const one = new Sampler(engine, model, { batch: 3, residentBlocks: 4 });
    await expect(draw(refreshed(2), one)).rejects.toThrow(ConfigError);
    await expect(draw(refreshed(2), one)).rejects.toThrow('refresh keeps all 6 blocks resident; residentBlocks is 4');
    expect(await draw({ blocks: 4 }, one)).toHaveLength(3 * PIXELS);
    one.dispose();
  });
});

describe('memory', () => {
  it('is estimated to the byte, with what is kept', async () => {
    for (const more of [{}, { guidance: 2 }, { guidance: 2, guidanceInterval: [0.3, 0.6] }] as const) {
      for (const options of [{ ahead: false }, { ahead: true }]) {
        const own = await testEngine();
        const request = { labels, steps: 4, refresh: { blocks: 6, every: 2 }, ...more };
        const settings = { blocks: 2, precision: 'f32', batch: 2, ...options } as const;
        const { peak, live, planned, byKind } = await estimateSampling(own, config, settings, request);
        const one = new Sampler(own, new ResidentModel(own, config, source), { batch: 2, ...options });
        await one.sample({ ...request, blocks: 2 });
        expect(own.memory.report()).toMatchObject({ peak, live });
        const all = await estimateSampling(own, config, { ...settings, blocks: 6 }, { ...request, refresh: undefined });
        // [rows, T, D], and the sum while it is made.
        const kept = 2 * ('guidance' in more ? 2 : 1) * 16 * 24 * 4;
        expect(byKind.weights).toBe(all.byKind.weights);
        expect(byKind.activations! - all.byKind.activations!).toBe(kept + planned - all.planned);
        expect(planned - all.planned).toBeGreaterThanOrEqual(0);
        expect(planned - all.planned).toBeLessThanOrEqual(kept);
        own.dispose();
      }
    }
  });

  it('goes with the next request, and a limit is kept to without streaming', async () => {
    const one = new Sampler(engine, model, { batch: 3, ahead: false });
    const live = async (request: Partial<SampleRequest>) => {
      await draw(request, one);
      return engine.memory.report().live;
    };
    const before = [await live({ blocks: 6 }), await live(refreshed(2))];
    for (let i = 0; i < 5; i++) expect([await live({ blocks: 6 }), await live(refreshed(2))]).toEqual(before);
    one.dispose();
    const request = { labels, steps: 4, refresh: { blocks: 6, every: 2 } };
    const wanted = { blocks: 2, batch: 3 };
    const { peak } = await estimateSampling(engine, config, { ...wanted, precision: 'f32' }, request);
    const { settings } = await chooseSettings(engine, config, wanted, request, peak - 1);
    expect(settings).toMatchObject({ blocks: 2, precision: 'f16' });
    await expect(chooseSettings(engine, config, wanted, request, 5e4)).rejects.toThrow('the smallest setting needs');
  });
});
