/** Targets of splitmeanflow: those of shortcut where intervals are halved, else a mean by lengths that float64 puts together. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { assembleBatch, type Draws } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { type StepOutputs, stepOutputs, withTrainStep } from '../../verify/recorded-step.ts';
import { testEngine } from '../support/engine.ts';
import { relativeError } from '../support/golden.ts';
import { normals } from '../support/normals.ts';
import { bits, tinyModel, tinyTrain } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const SEED = 6;
const WEIGHT = 1.75;
const PIXELS = tinyModel.imageSize ** 2 * tinyModel.channels;
const normal = normals(11);
const values = (rows: number) => Float32Array.from({ length: rows * PIXELS }, () => normal());
const [images, noise] = [values(16), values(16)];
const labels = Array.from({ length: 16 }, (_, i) => i % tinyModel.classes);

const training = (distill: boolean, change: Partial<TrainConfig> = {}): TrainConfig =>
  parseTrainConfig({
    ...tinyTrain,
    ...{ objective: 'splitmeanflow', batch: 16, timeEvery: 2, lengthEvery: 0, finest: 16 },
    guidance: { weight: WEIGHT, distill },
    ...change,
  });

/** What the training step makes of draws; only the average of the weights may make targets. */
async function outputs(train: TrainConfig, draws: Pick<Draws, 'levels' | 'timeT' | 'fractions'>): Promise<StepOutputs> {
  const flowRows = train.batch - train.batch / train.timeEvery;
  const batch = assembleBatch(tinyModel, train, labels, {
    ...draws,
    flowT: Float32Array.from({ length: flowRows }, (_, i) => i / 16),
    dropped: new Uint8Array(flowRows),
    lengths: new Array<number>(train.batch).fill(tinyModel.depth),
    targetLengths: [],
  });
  const sets = {
    params: formulaParams(tinyModel, 5, { strong: true }),
    ema: formulaParams(tinyModel, SEED, { strong: true }),
  };
  const request = { images, noise, batch, index: 0 };
  return withTrainStep(engine, tinyModel, train, sets, async (step) =>
    stepOutputs(step, request, await step.run({ ...request, lr: 0 })),
  );
}

const INTERVALS = [
  { t: 0, length: 1, fraction: 0.25 },
  { t: 0.25, length: 0.5, fraction: 0.75 },
  // Length and split anywhere.
  { t: 0.3125, length: 0.34375, fraction: 0.4375 },
  // The first part is shorter than a finest step: its level stays the finest; the second's does not.
  { t: 0.5, length: 0.25, fraction: 0.125 },
  { t: 0.0625, length: 0.875, fraction: 2 / 7 },
  { t: 0.75, length: 0.1875, fraction: 1 / 3 },
  // So is the second part.
  { t: 0.5, length: 0.125, fraction: 0.875 },
  { t: 0.25, length: 0.75, fraction: 0.5 },
];

describe.each([false, true])('with distilled guidance %s', (distill) => {
  const pairs = distill ? 4 : 8;

  it('halves on the grid have the targets of shortcut, bit for bit', async () => {
    const levels = [0, 1, 2, 3, 0, 1, 2, 3].slice(0, pairs);
    const timeT = Float32Array.from(levels, (d, i) => (i % 2 ** d) / 2 ** d);
    const halved = await outputs(training(distill), { levels, timeT, fractions: levels.map(() => 0.5) });
    const plain = await outputs(training(distill, { objective: 'shortcut' }), { levels, timeT });
    for (const part of ['x_t', 'v_t', 't', 'dt_base', 'v_prime'] as const) {
      expect(bits(halved[part]), part).toBe(bits(plain[part]));
    }
  });

  it('other splits have the mean of the parts by their lengths, as float64 puts it together', async () => {
    const train = training(distill, { timeSampling: 'continuous' });
    const chosen = INTERVALS.filter((_, i) => !distill || i % 2 === 0 || i === 3).slice(0, pairs);
    const got = await outputs(train, {
      levels: chosen.map(({ length }) => -Math.log2(length)),
      timeT: Float32Array.from(chosen, ({ t }) => t),
      fractions: chosen.map(({ fraction }) => fraction),
    });
    const network = new Network(engine, tinyModel);
    network.load(SEED, true);
    const none = chosen.map(() => tinyModel.classes);
    const lengths = chosen.map(() => tinyModel.depth);
    /** Velocities in float64, of all pairs. */
    const velocity = async (x: Float64Array, t: number[], part: number[], of: number[]) => {
      const step = part.map((length) => Math.min(4, -Math.log2(length)));
      const found = await network.velocity({ x: Float32Array.from(x), t, step, labels: of, lengths });
      return Float64Array.from(found);
    };
    const pairOf = (i: number) => Math.floor(i / PIXELS);
    const each = (f: (i: number, pair: (typeof INTERVALS)[number]) => number) =>
      Float64Array.from({ length: chosen.length * PIXELS }, (_, i) => f(i, chosen[pairOf(i)]!));
    const own = labels.slice(0, chosen.length);
    const x = each((i, { t }) => (1 - t) * noise[i]! + t * images[i]!);
    const [start, split] = [chosen.map(({ t }) => t), chosen.map(({ t, length, fraction }) => t + length * fraction)];
    const first = chosen.map(({ length, fraction }) => length * fraction);
    const second = chosen.map(({ length, fraction }) => length * (1 - fraction));
    const moved = (v: Float64Array) => each((i, { length, fraction }) => x[i]! + length * fraction * v[i]!);
    const mean = (a: Float64Array, b: Float64Array) => each((i, { fraction: f }) => f * a[i]! + (1 - f) * b[i]!);
    const guided = (u: Float64Array, c: Float64Array) => each((i) => u[i]! + WEIGHT * (c[i]! - u[i]!));

    const c1 = await velocity(x, start, first, own);
    const c2 = await velocity(moved(c1), split, second, own);
    const wanted = [mean(c1, c2)];
    if (distill) {
      const g1 = guided(await velocity(x, start, first, none), c1);
      const u2 = await velocity(moved(g1), split, second, none);
      wanted.push(mean(g1, guided(u2, c2)));
    }
    network.dispose();
    expect(wanted).toHaveLength(8 / pairs);
    const size = pairs * PIXELS;
    for (const [half, target] of wanted.entries()) {
      expect(relativeError(got.x_t.subarray(half * size, (half + 1) * size), x)).toBeLessThan(1e-6);
      for (let p = 0; p < pairs; p++) {
        const [a, b] = [p * PIXELS, (p + 1) * PIXELS];
        const error = relativeError(got.v_t.subarray(half * size + a, half * size + b), target.subarray(a, b));
        expect(error, `pair ${p}, half ${half}`).toBeLessThan(1e-5);
      }
    }
    // Rows know the length of their whole interval.
    chosen.forEach(({ length }, p) => {
      expect(got.dt_base[p]).toBeCloseTo(-Math.log2(length), 6);
    });
    // Flow rows have the path's velocity.
    const path = Float64Array.from({ length: 8 * PIXELS }, (_, i) => images[i]! - noise[i]!);
    expect(relativeError(got.v_t.subarray(8 * PIXELS), path)).toBeLessThan(1e-6);
  });
});
