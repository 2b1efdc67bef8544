/** A recorded training step as input of the real one: its flags as a training configuration, its draws as a batch. */
import type { Engine } from '../engine/engine.ts';
import { DataError } from '../engine/errors.ts';
import type { Tensors } from '../formats/safetensors.ts';
import type { ModelConfig } from '../model/config.ts';
import type { ParamSet } from '../model/params.ts';
import { assembleBatch, type Batch } from '../training/batch.ts';
import { batchShares, parseTrainConfig, type TrainConfig } from '../training/config.ts';
import { createState, type TrainState } from '../training/state.ts';
import { type StepResult, TrainStep } from '../training/step.ts';
import { relativeError, worst } from './case.ts';
import { permuted } from './network.ts';
import { recordedDraws } from './recorded-draws.ts';
import type { TrainFlags } from './schemas.ts';

/** What is trained, from the reference's flags; a string says why it cannot be replayed. */
export function trainingOf(
  model: ModelConfig,
  flags: TrainFlags,
  batch: number,
  options: Partial<TrainConfig> = {},
): { config: ModelConfig; train: TrainConfig } | string {
  if (flags.depth_wise !== 0 && flags.depth_wise !== model.depth) return `depth_wise ${flags.depth_wise}`;
  const guided = flags.cfg_scale !== 0 || flags.bootstrap_cfg === 1;
  const train = parseTrainConfig({
    batch,
    finest: flags.denoise_timesteps,
    timeEvery: flags.bootstrap_every,
    lengthEvery: flags.depth_bootstrap,
    targetsFromEma: flags.bootstrap_ema === 1,
    guidance: guided ? { weight: flags.cfg_scale, distill: flags.bootstrap_cfg === 1 } : null,
    classDropout: flags.class_dropout_prob,
    timeSampling: flags.t_sampling,
    ...options,
  });
  return { config: flags.depth_wise === 0 ? { ...model, lengths: null } : model, train };
}

export interface RecordedStep {
  readonly images: Float32Array;
  readonly noise: Float32Array;
  readonly batch: Batch;
  readonly index: number;
}

/** The draws in the tensors `at(...)` of a file for update `update`, from 0. `labels` and `images` are those before the recorded permutation, if any. */
export function recordedStep(
  config: ModelConfig,
  train: TrainConfig,
  f: Tensors,
  at: (tensor: string) => string,
  raw: { images: Float32Array; labels: ArrayLike<number> },
  update: number,
): RecordedStep {
  const { lengthRows } = batchShares(train, config);
  const pixels = config.imageSize ** 2 * config.channels;
  const perm = f.has(at('perm')) ? f.integers(at('perm')) : Int32Array.from({ length: train.batch }, (_, i) => i);
  const integers = (name: string, count: number): ArrayLike<number> => {
    const values = f.integers(at(name));
    if (values.length === count) return values;
    throw new DataError(`${at(name)} has ${values.length} values; the recorded flags ask for ${count}`);
  };
  if (perm.length !== train.batch) {
    throw new DataError(`${at('perm')} has ${perm.length} values; the recorded flags ask for ${train.batch}`);
  }
  const { targets, noise } = recordedDraws(config, train, f, at, update);
  const labels = Array.from(perm, (p) => raw.labels[p]!);
  const batch = assembleBatch(config, train, labels, {
    ...targets,
    // Targets alone are recorded without lengths: all rows then run everything.
    lengths: f.has(at('blocks')) ? integers('blocks', train.batch) : new Array(train.batch).fill(config.depth),
    targetLengths: lengthRows > 0 ? integers('blocks_target', lengthRows) : [],
  });
  return { images: permuted(raw.images, perm, pixels), noise, batch, index: update };
}

/** Builds the training step and its state, lets `work` use them, and frees them. */
export async function withTrainStep<T>(
  engine: Engine,
  config: ModelConfig,
  train: TrainConfig,
  sets: { params: ParamSet; ema: ParamSet; teacher?: ParamSet },
  work: (step: TrainStep, state: TrainState) => Promise<T>,
): Promise<T> {
  const state = createState(engine, sets);
  try {
    const step = await TrainStep.create(engine, config, train, state, { givenNoise: true });
    try {
      return await work(step, state);
    } finally {
      step.dispose();
    }
  } finally {
    for (const weights of Object.values(state)) weights.release();
  }
}

/** What a step computed, rows in the reference's order. */
export interface StepOutputs extends StepResult {
  /** Points on the path, targets and predictions [B, H, W, C]; times, step levels and labels [B]. */
  readonly x_t: Float32Array;
  readonly v_t: Float32Array;
  readonly v_prime: Float32Array;
  readonly t: Float32Array;
  readonly dt_base: Float32Array;
  readonly labels_out: Float32Array;
}

export async function stepOutputs(step: TrainStep, { batch }: RecordedStep, result: StepResult): Promise<StepOutputs> {
  const { xt, target, prediction } = step.tensors;
  const read = await step.program.read(xt!, target!, prediction!);
  const { position, main } = batch;
  const [x_t, v_t, v_prime] = read.map((rows) => permuted(rows, position, rows.length / position.length));
  const column = (values: ArrayLike<number>) => Float32Array.from(position, (p) => values[p]!);
  return {
    ...result,
    x_t: x_t!,
    v_t: v_t!,
    v_prime: v_prime!,
    t: column(main.t),
    dt_base: column(main.levels),
    labels_out: column(main.labels),
  };
}

/** The error of the rows' times, step levels and labels, which no GPU computes. A level that is recorded once holds for all rows. */
export const rowErrors = (f: Tensors, at: (tensor: string) => string, got: StepOutputs) =>
  worst(
    (['t', 'dt_base', 'labels_out'] as const).map((name) => {
      const want = f.numbers(at(name));
      const each = name === 'dt_base' && want.length === 1 ? got[name].map(() => want[0]!) : want;
      return [name, relativeError(got[name], each)];
    }),
  );

/** The logged means of the rows' losses, as the reference divides them. */
export function loggedLosses(config: ModelConfig, train: TrainConfig, { perSample, loss, gradNorm }: StepResult) {
  const { timeRows, lengthRows } = batchShares(train, config);
  const mean = (rows: Float32Array) => rows.reduce((sum, x) => sum + x, 0) / rows.length;
  return {
    loss,
    loss_flow: mean(perSample.subarray(timeRows)),
    loss_bootstrap: mean(perSample.subarray(0, timeRows)),
    depth_consistency: mean(perSample.subarray(perSample.length - lengthRows)),
    grad_norm: gradNorm,
  };
}

/** Which of the logged values a run has: a model without lengths learns no length consistency. */
export function loggedNames(config: ModelConfig, train: TrainConfig) {
  const { timeRows, lengthRows } = batchShares(train, config);
  const time = timeRows > 0 ? (['loss_bootstrap'] as const) : [];
  const length = lengthRows > 0 ? (['depth_consistency'] as const) : [];
  return ['loss', 'loss_flow', ...time, ...length, 'grad_norm'] as const;
}

/** Losses of velocities that are nearly equal, so that rounding shows. */
export const isConsistency = (name: string): boolean => name === 'loss_bootstrap' || name === 'depth_consistency';

/** A loss below this share of the whole one is rounding noise: a row whose target is its own velocity has such a loss. */
export const LOSS_FLOOR = 1e-6;

export const rms = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
