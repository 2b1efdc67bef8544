/** Training but for its files: the work that lengths spare, and the learning rate. */
import { describe, expect, it, vi } from 'vitest';
import { assembleBatch, drawStep, skippedShare } from '../../training/batch.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { learningRate } from '../../training/schedule.ts';
import { testEngine } from '../support/engine.ts';
import { goldenModel } from '../support/golden.ts';
import { tinyModel, tinyStep, tinyTrain } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

describe('the work that lengths spare', () => {
  it('is the share of blocks not run, by hand', () => {
    expect(skippedShare(tinyModel, [4, 4, 4, 4])).toBe(0);
    expect(skippedShare(tinyModel, [2, 2, 2, 2])).toBe(0.5);
    // 8 samples run blocks 0 and 1, two of them also 2 and 3: 20 of 32.
    expect(skippedShare(tinyModel, [4, 2, 2, 4, 2, 2, 2, 2])).toBe(0.375);
    expect(skippedShare({ ...tinyModel, lengths: null }, [4, 4])).toBe(0);
    // Lengths 3 and 5 of 6 blocks in groups of 2: two and four blocks run.
    expect(skippedShare({ ...tinyModel, depth: 6, lengths: { min: 3, group: 2 } }, [3, 5])).toBeCloseTo(1 - 6 / 12, 12);
  });

  it('is really not dispatched: workgroups grow by the same amount for every sample that goes on', async () => {
    const engine = await testEngine();
    const { step } = await tinyStep(
      engine,
      {},
      tinyModel,
      parseTrainConfig({ ...tinyTrain, timeEvery: 0, lengthEvery: 0 }),
    );
    const counted: number[] = [];
    let groups = 0;
    const pass = engine.device.createCommandEncoder().beginComputePass();
    const prototype = Object.getPrototypeOf(pass) as GPUComputePassEncoder;
    pass.end();
    const original = prototype.dispatchWorkgroups;
    prototype.dispatchWorkgroups = function (x, y = 1, z = 1) {
      groups += x * y * z;
      return original.call(this, x, y, z);
    };
    const config = parseTrainConfig({ ...tinyTrain, timeEvery: 0, lengthEvery: 0 });
    try {
      for (let long = 0; long <= 8; long++) {
        const draws = drawStep(tinyModel, config, 0);
        const lengths = Array.from({ length: 8 }, (_, i) => (i < long ? 4 : 2));
        const batch = assembleBatch(tinyModel, config, new Array(8).fill(0), { ...draws, lengths });
        groups = 0;
        await step.run({ images: new Float32Array(8 * 64), batch, index: 0, lr: 0 });
        counted.push(groups);
      }
    } finally {
      prototype.dispatchWorkgroups = original;
    }
    engine.dispose();
    const [none, one, ...more] = counted as [number, number, ...number[]];
    expect(one).toBeGreaterThan(none);
    for (const [i, value] of more.entries()) expect(value).toBeGreaterThanOrEqual(counted[i + 1]!);
    // Attention alone has a workgroup per head and sample in each of two blocks, forward once and backward twice.
    expect(counted[8]! - counted[1]!).toBeGreaterThanOrEqual(7 * 2 * 3 * 2);
  });
});

describe('the learning rate', () => {
  it.each([
    ['lr_by_count_0_99_this_run', 4],
    ['lr_by_count_0_99_reference_default_warmup_5000', 5000],
  ])('follows the reference: %s', async (key, warmup) => {
    const recorded = (await (await goldenModel('a')).json('train_trajectory')) as Record<string, number[]>;
    const want = recorded[key]!;
    expect(want.length).toBe(100);
    for (const [i, rate] of want.entries()) {
      // The reference computes in float32, with errors of a few units in the last place of the peak rate.
      expect(Math.abs(learningRate(i, { lr: 1e-3, warmup, steps: 100 }) - rate), `update ${i}`).toBeLessThan(3e-10);
    }
  });

  it('without warm-up starts at the peak, and ends above zero', () => {
    expect(learningRate(0, { lr: 2, warmup: 0, steps: 10 })).toBe(2);
    expect(learningRate(9, { lr: 2, warmup: 0, steps: 10 })).toBe(2);
    expect(learningRate(99, { lr: 2, warmup: 0, steps: 100 })).toBeGreaterThan(0);
    expect(learningRate(100, { lr: 2, warmup: 0, steps: 100 })).toBeCloseTo(0, 12);
    expect(learningRate(0, { lr: 2, warmup: 3, steps: 1 })).toBe(2);
  });
});
