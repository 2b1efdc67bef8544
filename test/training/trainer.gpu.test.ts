/** A trainer made by a program: what does not fit is refused before anything is on the GPU. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import { datasetOf } from '../../training/data/dataset.ts';
import { createTrainer, type TrainerOptions } from '../../training/trainer.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const shape = { name: 'other', channels: 1, labels: Uint8Array.of(0, 4) };
it.each<[string, Partial<TrainerOptions>, RegExp]>([
  [
    'labels that the model does not have',
    { data: datasetOf({ ...shape, height: 8, width: 8, classes: 5, pixels: new Uint8Array(128) }) },
    /^'other' has 5 classes; the model has 3$/,
  ],
  [
    'as many pixels in another shape',
    { data: datasetOf({ ...shape, height: 4, width: 16, classes: 5, pixels: new Uint8Array(128) }) },
    /^the model takes 8x8x1 pictures; 'other' has 4x16x1$/,
  ],
  ['no data set', { data: {} as never }, /^data is no data set/],
  ['no number of steps', { train: { ...tinyTrain, steps: Number.NaN } }, /^training.steps is null/],
  ['no width', { model: { ...tinyModel, width: 0 } }, /width/],
  [
    'more updates than there are to do',
    { from: { step: 9, sets: {} as never } },
    /^8 steps were asked for; 9 are done$/,
  ],
])('refuses %s', async (_, change, message) => {
  const { live, buffers } = engine.memory.report();
  const made = createTrainer(engine, { model: tinyModel, train: tinyTrain, data: tinyData(), ...change });
  const error = await made.catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).message).toMatch(message);
  expect(engine.memory.report()).toMatchObject({ live, buffers });
});

it('a loop that is left early goes on in another, to the bits of one; two at once are refused', async () => {
  const train = { ...tinyTrain, steps: 5 };
  const whole = async (leave: (step: number) => boolean) => {
    const trainer = await createTrainer(engine, { model: tinyModel, train, data: tinyData() });
    const steps: number[] = [];
    for (let loops = 0; trainer.updates() < train.steps && loops < 5; loops++) {
      for await (const { step } of trainer.run()) {
        steps.push(step);
        await expect(trainer.run().next()).rejects.toThrow(/^this trainer is running already$/);
        if (leave(step)) break;
      }
    }
    // There is nothing left to do.
    for await (const { step } of trainer.run()) steps.push(step);
    const { params, m } = await trainer.snapshot();
    trainer.dispose();
    return { steps, bits: setBits({ params, m }) };
  };
  const parted = await whole((step) => step === 2 || step === 3);
  expect(parted.steps).toEqual([1, 2, 3, 4, 5]);
  expect(parted).toEqual(await whole(() => false));
});
