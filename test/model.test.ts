/** The network against the reference's recorded outputs and gradients. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eager } from '../engine/eager.ts';
import type { Engine } from '../engine/engine.ts';
import { allowedLengths, blocksThatRun } from '../model/config.ts';
import { rowsPerGroup, velocity } from '../model/dit.ts';
import { formulaParams } from '../model/formula.ts';
import { uploadModel } from '../model/model.ts';
import { testEngine } from './support/engine.ts';
import { goldenModel, goldenTensors, relativeError } from './support/golden.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

describe('forward', () => {
  for (const name of ['a', 'b', 'misaligned']) {
    it(`${name}: every recorded length and the conventional network`, async () => {
      const golden = await goldenModel(name);
      const f = await goldenTensors(golden, 'forward');
      const { config } = golden;
      const model = uploadModel(engine, config, formulaParams(config, golden.seed));
      const [B] = f.shape('x') as [number, ...number[]];
      const x = engine.tensor('x', f.shape('x') as [number, ...number[]], { data: f.floats('x') });
      const t = engine.tensor('t', [B], { data: f.floats('t') });
      const step = engine.tensor('step', [B], { data: Float32Array.from(f.integers('dt_int')) });
      const labels = engine.tensor('labels', [B], { dtype: 'u32', data: Uint32Array.from(f.integers('y')) });
      for (const length of [0, ...allowedLengths(config)]) {
        const key = length === 0 ? 'out/conventional' : `out/ode_l${length}`;
        if (!f.has(key)) continue;
        const out = await eager(engine, async (ctx) => {
          const lengths = engine.tensor('lengths', [B], { dtype: 'u32', data: new Uint32Array(B).fill(length) });
          const rows = rowsPerGroup(config, new Array(B).fill(length)).filter((n) => n > 0);
          const v = velocity(ctx, model, { x, t, step, labels }, length === 0 ? undefined : { lengths, rows });
          return engine.read(v);
        });
        expect(blocksThatRun(config, allowedLengths(config)[0]!)).toBeGreaterThan(0);
        expect(relativeError(out, f.floats(key)), key).toBeLessThan(2e-6);
      }
    });
  }
});
