/** Models larger than one binding or buffer: held in parts, with the bits of the whole. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomSource } from '../../../bench/memory.bench.ts';
import { createNodeEngine } from '../../../engine/engine.node.ts';
import { Engine } from '../../../engine/engine.ts';
import { LimitError } from '../../../engine/errors.ts';
import { type ModelConfig, preset } from '../../../model/config.ts';
import { paramLayout } from '../../../model/params.ts';
import { PRECISIONS, type Precision, storedGroup } from '../../../model/weights/quantize.ts';
import { ResidentModel } from '../../../model/weights/residency.ts';
import { memorySource } from '../../../model/weights/source.ts';
import { Weights } from '../../../model/weights/weights.ts';
import { estimateSampling } from '../../../sampling/budget.ts';
import { Sampler, type SamplerOptions } from '../../../sampling/sampler.ts';
import { formulaParams } from '../../../verify/formula-params.ts';
import { testEngine } from '../../support/engine.ts';
import { relativeError } from '../../support/golden.ts';
import { bits, tinyStep } from '../../support/tiny.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const config: ModelConfig = preset('tiny', {
  imageSize: 4,
  patch: 2,
  channels: 1,
  width: 72,
  heads: 6,
  depth: 4,
  lengths: { min: 2, group: 2 },
});
const params = formulaParams(config, 5, { strong: true });

/** An engine on the same device that takes no more than `largestBinding` bytes into one binding. */
const limited = (largestBinding: number) =>
  new Engine(engine.device, engine.adapterClass, { ownsDevice: false, largestBinding });

describe('the layout under a limit', () => {
  it('no buffer exceeds it, every element has one place, and places do not overlap', () => {
    for (const precision of PRECISIONS) {
      for (const largest of [6144, 8000, 20_000, 100_000]) {
        for (const group of paramLayout(config).groups) {
          const { params: stored, parts } = storedGroup(group, precision, largest);
          for (const bytes of parts) expect(bytes).toBeLessThanOrEqual(largest);
          const columns = new Map<string, number>();
          stored.forEach((p, i) => {
            const { name } = p.spec;
            expect(p.column).toBe(columns.get(name) ?? 0);
            columns.set(name, p.column + p.shape.at(-1)!);
            const next = stored[i + 1];
            const end = next?.part === p.part ? next.offset : parts[p.part]!;
            expect(end).toBeGreaterThan(p.offset);
            expect(p.offset % 256).toBe(0);
          });
          expect([...columns]).toEqual(group.specs.map(({ name, shape }) => [name, shape.at(-1)]));
        }
      }
    }
  });

  it('values go in and come back, whatever the parts', async () => {
    for (const largest of [6144, 12_000, 1_000_000]) {
      const small = limited(largest);
      const weights = new Weights(small, params.layout, 'weights', { values: params });
      expect(Math.max(...weights.parts.map((t) => t.storage.bytes))).toBeLessThanOrEqual(largest);
      expect((await weights.read()).groups).toEqual(params.groups);
      weights.release();
      expect(small.memory.report().live).toBe(0);
      small.dispose();
    }
  });
});

/** One sample's activations fit (guided: 9,216 bytes), and no matrix of a block at any precision. */
const LIMIT = 10_496;

describe('sampling under a limit', () => {
  const draw = async (on: Engine, storing: ConstructorParameters<typeof ResidentModel>[3], options: SamplerOptions) => {
    const model = new ResidentModel(on, config, memorySource(params), storing);
    const sampler = new Sampler(on, model, { batch: 2, ...options });
    const { values } = await sampler.sample({ labels: [1, null, 9], steps: 2, blocks: 4, seed: 2, guidance: 2 });
    const report = on.memory.report();
    sampler.dispose();
    model.dispose();
    return { values, peak: report.peak, live: report.live };
  };

  for (const precision of PRECISIONS) {
    for (const [how, options] of [
      ['whole', { ahead: false }],
      ['modulations ahead', { ahead: true }],
      ['streamed', { residentBlocks: 1 }],
    ] as const) {
      it(`${precision}, ${how}: the same bits; the estimate is the allocation`, async () => {
        const want = await draw(engine, { precision }, options);
        const small = limited(LIMIT);
        const got = await draw(small, { precision }, options);
        expect(got.values).toEqual(want.values);
        const settings = { blocks: 4, precision, batch: 2, ...options };
        const estimate = await estimateSampling(small, config, settings, {
          labels: [1, null, 9],
          steps: 2,
          guidance: 2,
        });
        expect(estimate.peak).toBe(got.peak);
        small.dispose();
      });
    }
  }

  it('a batch whose activations would not fit is drawn in smaller ones', async () => {
    const want = await draw(engine, {}, {});
    const small = limited(LIMIT);
    const model = new ResidentModel(small, config, memorySource(params));
    const sampler = new Sampler(small, model, { batch: 64 });
    expect([sampler.batchFor(false), sampler.batchFor(true)]).toEqual([2, 1]);
    expect((await draw(small, {}, { batch: 64 })).values).toEqual(want.values);
    small.dispose();
  });
});

it('training over groups larger than a binding gives the same bits', async () => {
  const run = async (on: Engine) => {
    const { step, state, run, read } = await tinyStep(on);
    const losses = (await run(0, 3)).map(({ loss }) => loss);
    const sets = Object.values(await read()).flatMap(({ groups }) => groups.map(bits));
    const parts = state.params.parts.length;
    step.dispose();
    for (const weights of Object.values(state)) weights.release();
    return { losses, sets, parts };
  };
  const [whole, small] = [await run(engine), limited(20_480)];
  const split = await run(small);
  expect(split.parts).toBeGreaterThan(whole.parts);
  expect(split.losses).toEqual(whole.losses);
  expect(split.sets).toEqual(whole.sets);
  small.dispose();
});

it('what cannot be split is refused by name', async () => {
  const small = limited(4096);
  const weights = new Weights(small, params.layout, 'weights', { empty: true });
  const name = 'DiTBlock_0/Dense_0/kernel';
  expect(weights.blocks(name).map((t) => t.shape[1])).toEqual(new Array(36).fill(12));
  expect(() => weights.get(name)).toThrow(LimitError);
  expect(() => weights.get(name)).toThrow(/'DiTBlock_0\/Dense_0\/kernel' takes 124416 bytes; the device allows 4096/);
  const model = new ResidentModel(small, config, memorySource(params));
  await expect(new Sampler(small, model, { batch: 1 }).sample({ labels: [0], steps: 1 })).rejects.toThrow(LimitError);
  small.dispose();
});

it("matrices beyond WebGPU's default binding of 128 MiB, with default limits: the bits do not depend on where they are split", async () => {
  const { engine: plain } = await createNodeEngine({
    adapter: engine.adapterClass as 'lavapipe',
    forceDefaultLimits: true,
  });
  expect(plain.largestBinding).toBe(2 ** 27);
  const large = preset('tiny', {
    imageSize: 2,
    patch: 1,
    channels: 4,
    width: 3072,
    heads: 24,
    depth: 1,
    lengths: null,
  });
  const draw = async (on: Engine, precision: Precision) => {
    const model = new ResidentModel(on, large, randomSource(large), { precision });
    const sampler = new Sampler(on, model, { batch: 1, ahead: true });
    const { values } = await sampler.sample({ labels: [3], steps: 1, seed: 4 });
    const parts = model.weights.blocks('DiTBlock_0/MlpBlock_0/Dense_0/kernel').map((t) => t.storage.bytes);
    sampler.dispose();
    model.dispose();
    return { values, parts };
  };
  const halves = await draw(plain, 'f32');
  expect(halves.parts).toEqual([75_497_472, 75_497_472]);
  const small = new Engine(plain.device, plain.adapterClass, { ownsDevice: false, largestBinding: 40e6 });
  const quarters = await draw(small, 'f32');
  expect(quarters.parts.length).toBe(4);
  expect(quarters.values).toEqual(halves.values);
  const packed = await draw(plain, 'f16'); // not split
  expect(packed.parts).toEqual([75_497_472]);
  expect(relativeError(packed.values, halves.values)).toBeLessThan(2e-3);
  small.dispose();
  plain.dispose();
});
