/** Starts that want of memory ends, at whichever buffer it does: they leave nothing behind, and the next one works. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { OutOfMemoryError } from '../../engine/errors.ts';
import { uploadModel } from '../../model/weights/residency.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { createTrainer } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';
import { tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 300_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const rows = {
  x: new Float32Array(2 * 64).fill(0.5),
  t: [0.2, 0.7],
  step: [2, 3],
  labels: [0, 1],
  lengths: [4, 2],
};
const train = parseTrainConfig({ ...tinyTrain, accumulate: 2, guidance: { weight: 2, distill: true } });

/** What is started; each returns what ends it. */
const STARTS: Readonly<Record<string, () => Promise<() => void>>> = {
  'a training': async () => {
    const trainer = await createTrainer(engine, { model: tinyModel, train, data: tinyData() });
    return () => trainer.dispose();
  },
  'a whole model': async () => {
    const model = uploadModel(engine, tinyModel, formulaParams(tinyModel, 1));
    return () => {
      model.weights.release();
      engine.release(model.positions);
    };
  },
  'gradients of verify': async () => {
    const network = new Network(engine, tinyModel);
    try {
      network.load(1, false);
      await network.gradients(rows, rows.x);
    } catch (error) {
      network.dispose();
      throw error;
    }
    return () => network.dispose();
  },
};

describe('a start without enough memory leaves nothing behind', () => {
  for (const [name, start] of Object.entries(STARTS)) {
    it(name, async () => {
      (await start())(); // The engine keeps its read-back buffers from here on.
      const before = engine.memory.report();
      engine.memory.resetPeak();
      (await start())();
      const { peak } = engine.memory.report();
      expect(peak).toBeGreaterThan(before.live + 10_000);
      const steps = 40;
      for (let part = 0; part < steps; part++) {
        engine.memory.limit = before.live + Math.floor(((peak - before.live) * part) / steps);
        await expect(start(), `part ${part}`).rejects.toThrow(OutOfMemoryError);
        expect(engine.memory.report().byKind, `part ${part}`).toEqual(before.byKind);
      }
      engine.memory.limit = Number.POSITIVE_INFINITY;
      (await start())();
      expect(engine.memory.report().live).toBe(before.live);
    });
  }
});
