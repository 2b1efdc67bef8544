/** Twelve whole training steps against the reference's own run, from its recorded draws. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../engine/engine.ts';
import { formulaParams } from '../model/formula.ts';
import { isKeyBias } from '../model/golden.ts';
import { paramsByName } from '../model/params.ts';
import { assembleBatch } from '../training/batch.ts';
import { batchShares, parseTrainConfig, type TrainConfig } from '../training/config.ts';
import { learningRate } from '../training/schedule.ts';
import { createState, TrainStep } from '../training/step.ts';
import { testEngine } from './support/engine.ts';
import { goldenModel, goldenTensors } from './support/golden.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

interface Logged {
  loss: number;
  grad_norm: number;
  lr_applied: number;
}

for (const [name, guidance, classDropout] of [
  ['a', { weight: 1.5, distill: true }, 0.1],
  ['b', null, 1],
] as const) {
  it(`${name}: losses, gradient norms and the parameters after twelve steps`, async () => {
    const golden = await goldenModel(name);
    const f = await goldenTensors(golden, 'train_trajectory');
    const { steps } = (await golden.json('train_trajectory')) as { steps: Logged[] };
    const { config } = golden;
    const train: TrainConfig = parseTrainConfig({ batch: 16, steps: 100, lr: 1e-3, warmup: 4, guidance, classDropout });
    const initial = formulaParams(config, golden.seed);
    const state = createState(engine, { params: initial });
    const step = await TrainStep.create(engine, config, train, state, { givenNoise: true });
    const shares = batchShares(train, config);
    const size = config.imageSize ** 2 * config.channels;
    for (const [i, want] of steps.entries()) {
      const at = (tensor: string) => `step${String(i).padStart(2, '0')}/${tensor}`;
      const perm = f.integers(at('perm'));
      const raw = f.floats(at('images'));
      const images = new Float32Array(16 * size);
      for (const [to, from] of perm.entries()) images.set(raw.subarray(from * size, (from + 1) * size), to * size);
      const noise = new Float32Array(16 * size);
      noise.set(f.floats(at('draw_x0_flow')));
      const batch = assembleBatch(
        config,
        train,
        Array.from(perm, (p) => f.integers(at('labels'))[p]!),
        {
          levels: f.integers(at('draw_dt_base_bootstrap')),
          timeT: f.floats(at('draw_t_bootstrap')),
          flowT: f.floats(at('draw_t_flow')),
          dropped: f.integers(at('draw_label_dropout')),
          lengths: f.integers(at('blocks')),
          targetLengths: f.integers(at('blocks_target')),
        },
      );
      const lr = learningRate(i, train);
      expect(lr).toBeCloseTo(want.lr_applied, 9);
      const got = await step.run({ images, noise, batch, index: i, lr });
      expect(Math.abs(got.loss / want.loss - 1), `loss of step ${i}`).toBeLessThan(1e-5);
      expect(Math.abs(got.gradNorm / want.grad_norm - 1), `gradient norm of step ${i}`).toBeLessThan(1e-4);
      const perSample = f.floats(at('mse_v'));
      // A length row whose target has its own length and weights has a loss of rounding noise only.
      for (let r = 0; r < 16; r++) {
        expect(Math.abs(got.perSample[r]! - perSample[r]!), `row ${r}`).toBeLessThan(1e-4 * perSample[r]! + 1e-9);
      }
    }
    expect(shares.timeRows).toBe(2);
    if (name !== 'a') return;
    const final = paramsByName(await state.params.read());
    const before = paramsByName(initial);
    let difference = 0;
    let update = 0;
    for (const [leaf, values] of final) {
      if (isKeyBias(leaf)) continue;
      const want = f.floats(`final/params/${leaf}`);
      for (let i = 0; i < want.length; i++) {
        difference += (values[i]! - want[i]!) ** 2;
        update += (want[i]! - before.get(leaf)![i]!) ** 2;
      }
    }
    expect(Math.sqrt(difference / update)).toBeLessThan(1e-3);
  });
}
