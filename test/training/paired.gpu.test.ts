/** Training on pairs of noise and latents: each picture trains with the noise that belongs to it, and goes on bit for bit. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, UsageError } from '../../engine/errors.ts';
import { paramLayout } from '../../model/params.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { loadCheckpoint } from '../../training/checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import type { StreamedDataset } from '../../training/data/dataset.ts';
import { openTrainingData } from '../../training/data/open.ts';
import { dataOrder } from '../../training/data/order.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import { runTraining } from '../../training/run.node.ts';
import { readRunConfig } from '../../training/run-config.node.ts';
import { learningRate } from '../../training/schedule.ts';
import { startingWeights } from '../../training/start.ts';
import { createState } from '../../training/state.ts';
import { TrainStep } from '../../training/step.ts';
import { createTrainer, type TrainerOptions } from '../../training/trainer.ts';
import { type StepOutputs, stepOutputs } from '../../verify/recorded-step.ts';
import { npy } from '../support/archives.ts';
import { testEngine } from '../support/engine.ts';
import { relativeError } from '../support/golden.ts';
import { normals } from '../support/normals.ts';
import { setBits, tinyModel, tinyTrain } from '../support/tiny.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

const COUNT = 12;
const PIXELS = 64;
const normal = normals(4);
const values = () => Float32Array.from({ length: COUNT * PIXELS }, () => normal());
const [x0, x1] = [values(), values()];
const labels = Uint8Array.from({ length: COUNT }, (_, i) => i % 3);
const scratch = mkdtempSync(join(tmpdir(), 'odelt-paired-'));
const train = parseTrainConfig({ ...tinyTrain, steps: 4, accumulate: 2, lengthEvery: 0 });

let engine: Engine;
let data: StreamedDataset;
beforeAll(async () => {
  engine = await testEngine();
  const shape = [COUNT, 8, 8, 1];
  for (const [name, array] of Object.entries({ x0, x1 }))
    writeFileSync(join(scratch, `${name}.npy`), npy('<f4', shape, array));
  writeFileSync(join(scratch, 'labels.npy'), npy('|u1', [COUNT], labels));
  data = (await openTrainingData(scratch)) as StreamedDataset;
  expect(data).toMatchObject({ paired: true, count: COUNT, classes: 3 });
});
afterAll(() => {
  engine.dispose();
  rmSync(scratch, { recursive: true });
});

const modelFor = (objective: ObjectiveName) => ({ ...tinyModel, ignoreDt: !factsOf(objective).stepLevel });

/** The state and losses after training on the set, at most to `last` updates. */
async function trained(
  config: TrainConfig,
  last: number,
  from?: TrainerOptions['from'],
  set: TrainerOptions['data'] = data,
) {
  const model = modelFor(config.objective);
  const trainer = await createTrainer(engine, { model, train: config, data: set, from });
  const losses: number[] = [];
  try {
    for await (const event of trainer.run()) {
      losses.push(event.losses.loss);
      if (event.step === last) break;
    }
    return { losses, sets: await trainer.snapshot() };
  } finally {
    trainer.dispose();
  }
}

/** The same by a step that is given the arrays' own rows in the order of training, and what its batches looked like. */
async function byHand(config: TrainConfig, last: number) {
  const model = modelFor(config.objective);
  const state = createState(engine, await startingWeights(model, config, {}));
  const step = await TrainStep.create(engine, model, config, state, { givenNoise: true });
  const order = dataOrder({ count: COUNT, seed: config.seed });
  const seen: { out: StepOutputs; noise: Float32Array; images: Float32Array }[] = [];
  for (let at = 0; at < last * config.accumulate; at++) {
    const which = Array.from({ length: config.batch }, (_, row) => order.at(at * config.batch + row).index);
    const rows = (from: Float32Array) =>
      Float32Array.from(which.flatMap((i) => Array.from(from.subarray(i * PIXELS, (i + 1) * PIXELS))));
    const [noise, images] = [rows(x0), rows(x1)];
    const batch = assembleBatch(
      model,
      config,
      which.map((i) => labels[i]!),
      drawStep(model, config, at),
    );
    const index = Math.floor(at / config.accumulate);
    const request = { noise, images, batch, index };
    const result = await step.run({ ...request, part: at % config.accumulate, lr: learningRate(index, config) });
    seen.push({ out: await stepOutputs(step, request, result), noise, images });
  }
  const sets = {
    params: await state.params.read(),
    ema: await state.ema.read(),
    m: await state.m.read(),
    v: await state.v.read(),
  };
  step.dispose();
  for (const weights of Object.values(state)) weights.release();
  return { sets, seen };
}

describe('a trainer on pairs', () => {
  const free = (Object.keys(OBJECTIVES) as ObjectiveName[]).filter((name) => !factsOf(name).teacher);
  it.each(free)('%s trains with the noise of the set, gradients accumulated', async (objective) => {
    const config = parseTrainConfig({ ...train, objective });
    const { sets, losses } = await trained(config, 2);
    const { sets: wanted, seen } = await byHand(config, 2);
    expect(setBits({ ...sets })).toEqual(setBits(wanted));
    expect(losses).toEqual([0, 2].map((at) => (seen[at]!.out.loss + seen[at + 1]!.out.loss) / 2));
  });

  it('has points and targets on the paths between the pairs', async () => {
    const { seen } = await byHand(parseTrainConfig({ ...train, objective: 'rfm' }), 2);
    expect(seen).toHaveLength(4);
    for (const { out, noise, images } of seen) {
      const t = (i: number) => out.t[Math.floor(i / PIXELS)]!;
      const points = Float64Array.from(noise, (x, i) => (1 - t(i)) * x + t(i) * images[i]!);
      const targets = Float64Array.from(noise, (x, i) => images[i]! - x);
      expect(relativeError(out.x_t, points)).toBeLessThan(1e-6);
      expect(relativeError(out.v_t, targets)).toBeLessThan(1e-6);
    }
  });

  it('is another than one with noise of the seed', async () => {
    const unpaired: StreamedDataset = {
      ...data,
      paired: false,
      open() {
        const reader = data.open();
        return { ...reader, read: async (i) => (await reader.read(i)).subarray(PIXELS) };
      },
    };
    const [own, drawn] = [await trained(train, 2), await trained(train, 2, undefined, unpaired)];
    expect(own.losses[0]).not.toBe(drawn.losses[0]);
  });
});

it('a run on pairs goes on bit for bit, and not on other noise', async () => {
  const state = async (name: string) =>
    setBits({ ...(await loadCheckpoint(join(scratch, name, 'checkpoints'), paramLayout(tinyModel))).sets });
  const stopping = new AbortController();
  const config = { model: tinyModel, train, data: scratch };
  const options = { config, data, resume: false, saveEvery: 100, environment: {} };
  await runTraining(engine, { ...options, folder: join(scratch, 'whole') });
  const stopped = runTraining(engine, {
    ...options,
    folder: join(scratch, 'halves'),
    signal: stopping.signal,
    onStep: ({ step }) => step === 2 && stopping.abort(),
  });
  await expect(stopped).rejects.toThrow('training was interrupted after 2 steps');
  expect(await state('halves')).not.toEqual(await state('whole'));
  await runTraining(engine, { ...options, resume: true, folder: join(scratch, 'halves') });
  expect(await state('halves')).toEqual(await state('whole'));

  writeFileSync(join(scratch, 'x0.npy'), npy('<f4', [COUNT, 8, 8, 1], x1));
  const other = (await openTrainingData(scratch)) as StreamedDataset;
  const kept = await readRunConfig(join(scratch, 'halves'));
  const again = { ...options, config: { ...kept, train: { ...kept.train, steps: 5 } }, data: other, resume: true };
  const error = await runTraining(engine, { ...again, folder: join(scratch, 'halves') }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).message).toMatch(/trained on other data .*contents of the pictures$/);
});

it('a step says whether it is given noise', async () => {
  const state = createState(engine, await startingWeights(tinyModel, tinyTrain, {}));
  const batch = assembleBatch(tinyModel, tinyTrain, [0, 1, 2, 0, 1, 2, 0, 1], drawStep(tinyModel, tinyTrain, 0));
  const images = new Float32Array(8 * PIXELS);
  for (const [givenNoise, noise, message] of [
    [true, undefined, 'the step takes its noise and none was given'],
    [false, images, 'the step draws its noise and noise was given'],
  ] as const) {
    const step = await TrainStep.create(engine, tinyModel, tinyTrain, state, { givenNoise });
    const error = await step.run({ images, noise, batch, index: 0, lr: 0 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UsageError);
    expect((error as UsageError).message).toBe(message);
    step.dispose();
  }
  for (const weights of Object.values(state)) weights.release();
});
