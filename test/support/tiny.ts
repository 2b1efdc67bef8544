/** The smallest things worth training: a model of four blocks, its options, its data, and one training step over them. */
import type { Engine } from '../../engine/engine.ts';
import type { CompileOptions } from '../../engine/program.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import type { ParamSet } from '../../model/params.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { type Dataset, datasetOf } from '../../training/data/dataset.ts';
import { createState, type TrainState } from '../../training/state.ts';
import { TrainStep } from '../../training/step.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { normals } from './normals.ts';

export const tinyModel: ModelConfig = parseModelConfig({
  imageSize: 8,
  channels: 1,
  patch: 2,
  width: 16,
  heads: 2,
  depth: 4,
  mlpRatio: 2,
  classes: 3,
  lengths: { min: 2, group: 2 },
});

export const tinyTrain: TrainConfig = parseTrainConfig({
  batch: 8,
  steps: 8,
  lr: 1e-2,
  warmup: 1,
  timeEvery: 4,
  lengthEvery: 4,
});

/** Pictures that differ by class and by number. */
export function tinyData(count = 12): Dataset {
  const pixels = Uint8Array.from({ length: count * 64 }, (_, i) => (i * 37 + Math.floor(i / 64) * 91) % 256);
  return datasetOf({
    name: 'tiny',
    height: 8,
    width: 8,
    channels: 1,
    classes: 3,
    pixels,
    labels: Uint8Array.from({ length: count }, (_, i) => i % 3),
  });
}

export interface TinyStep {
  readonly step: TrainStep;
  readonly state: TrainState;
  /** Runs updates first .. last - 1 and returns the loss and the gradient norm of each. */
  run(first: number, last: number): Promise<{ loss: number; gradNorm: number }[]>;
  /** Parameters, average and moments. */
  read(): Promise<Record<'params' | 'ema' | 'm' | 'v', ParamSet>>;
}

/** A training step of the tiny model, its compilation open to options that only tests use. */
export async function tinyStep(
  engine: Engine,
  options: CompileOptions = {},
  model = tinyModel,
  train = tinyTrain,
): Promise<TinyStep> {
  const state = createState(engine, { params: formulaParams(model, 5) });
  const step = await TrainStep.create(engine, model, train, state, options);
  const normal = normals(3);
  const images = Float32Array.from({ length: train.batch * model.imageSize ** 2 * model.channels }, () => normal());
  const labels = Array.from({ length: train.batch }, (_, i) => i % model.classes);
  return {
    step,
    state,
    async run(first, last) {
      const out = [];
      for (let index = first; index < last; index++) {
        const batch = assembleBatch(model, train, labels, drawStep(model, train, index));
        const { loss, gradNorm } = await step.run({ images, batch, index, lr: train.lr });
        out.push({ loss, gradNorm });
      }
      return out;
    },
    read: async () => ({
      params: await state.params.read(),
      ema: await state.ema.read(),
      m: await state.m.read(),
      v: await state.v.read(),
    }),
  };
}

/** The bits of numbers, comparable with toEqual and readable when they differ. */
export const bits = (values: ArrayLike<number>): string =>
  Buffer.from(Float32Array.from(values).buffer).toString('base64');

/** The bits of parameter sets. */
export const setBits = (sets: Readonly<Record<string, ParamSet>>): Record<string, string[]> =>
  Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, set.groups.map(bits)]));
