/** The training loop. Knows nothing of files: checkpoints and logs are the caller's, through the events it yields. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError, NonFiniteError } from '../engine/errors.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import type { ParamSet } from '../model/params.ts';
import { assembleBatch, type Batch, type Draws, drawStep, skippedShare } from './batch.ts';
import { readBatches } from './batches.ts';
import { batchShares, parseTrainConfig, type TrainConfig } from './config.ts';
import { type Dataset, isPaired, type StreamedDataset, type TrainingData } from './data/dataset.ts';
import { checkFits } from './model-for-data.ts';
import { learningRate } from './schedule.ts';
import { replaceTeacher, startingWeights, teacherChanges } from './start.ts';
import { createState, type StepResult, type TrainSets, TrainStep } from './step.ts';

/** Means of the per-sample loss over the rows that learn the same thing. Absent where a batch has no such rows. */
export interface Losses {
  readonly loss: number;
  readonly flow?: number;
  /** Of the rows whose target a network makes. */
  readonly time?: number;
  readonly length?: number;
  /**
   * Over the flow rows, or where there are none over those of `time`, by their time (in quarters); and over all rows, by number of
   * blocks and by step level.
   */
  readonly byTime: Readonly<Record<string, number>>;
  readonly byBlocks: Readonly<Record<string, number>>;
  readonly byLevel: Readonly<Record<string, number>>;
}

/** One update, as it went. */
export interface TrainEvent {
  /** Updates done, this one included. */
  readonly step: number;
  readonly lr: number;
  readonly losses: Losses;
  /** Of the gradient before it is clipped. */
  readonly gradNorm: number;
  /** What clipping left of it, 1 being all; absent where nothing is clipped. */
  readonly kept?: number;
  readonly seconds: number;
  /** Share of block work that was skipped because samples had fewer blocks. */
  readonly skipped: number;
}

/** What is trained, how and on what. */
export interface TrainerOptions {
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  /** Of a paired set each picture trains with the noise that belongs to it, whatever the objective; of another with noise of the seed. */
  readonly data: TrainingData;
  /** State to go on from, and the updates it has had. */
  readonly from?: { sets: TrainSets; step: number };
  /**
   * Trained weights that targets come from; needed by the objectives `progressive` and `consistency-distillation`, and refused by
   * the others. A state to go on from has its own.
   */
  readonly teacher?: ParamSet;
  /** Weights that a new run starts from. Default: the teacher's, if there is one, as in the reference; else initial ones. */
  readonly params?: ParamSet;
  readonly signal?: AbortSignal;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

/** A training run on an engine, update by update; who drives it decides what is kept. */
export interface Trainer {
  /** Runs the remaining updates, one event each. @throws NonFiniteError, InterruptedError (after a whole update). */
  run(): AsyncGenerator<TrainEvent>;
  /** Reads back everything a checkpoint holds. */
  snapshot(): Promise<TrainSets>;
  readonly plan: { readonly bytes: number; readonly lowerBound: number; readonly dispatches: number };
  /** Frees everything on the GPU. */
  dispose(): void;
}

/**
 * A trainer of a new model, or of the state to go on from; compiles its step.
 * @throws ConfigError for a configuration that makes no sense or data that do not fit the model; CheckpointError for a teacher or
 * parameters of another model, or that are not finite; both before anything is allocated. OutOfMemoryError, LimitError,
 * InterruptedError, UsageError.
 */
export async function createTrainer(engine: Engine, options: TrainerOptions): Promise<Trainer> {
  const { data, signal } = options;
  const model = parseModelConfig(options.model);
  const train = parseTrainConfig(options.train);
  if (
    typeof (data as Partial<Dataset>)?.image !== 'function' &&
    typeof (data as Partial<StreamedDataset>)?.open !== 'function'
  )
    throw new ConfigError('data is no data set', { hint: 'make one with datasetOf' });
  checkFits(model, data);
  const done = options.from?.step ?? 0;
  if (!(Number.isInteger(done) && done >= 0 && done <= train.steps)) {
    throw new ConfigError(`${train.steps} steps were asked for; ${done} are done`);
  }
  if (train.overfit > data.count) {
    throw new ConfigError(`training.overfit is ${train.overfit}; '${data.name}' has ${data.count} pictures`);
  }
  const { seed, flip, overfit } = train;
  const batches = readBatches(data, { seed, flip, first: done * train.accumulate * train.batch, only: overfit });
  const sets = startingWeights(model, train, options);
  const state = createState(engine, sets);
  const release = () => {
    for (const weights of Object.values(state)) weights.release();
  };
  const givenNoise = isPaired(data);
  const compiling = TrainStep.create(engine, model, train, state, {
    givenNoise,
    onProgress: options.onCompile,
    signal,
  });
  const step = await compiling.catch((error: unknown) => {
    release();
    throw error;
  });
  const images = new Float32Array(train.batch * model.imageSize ** 2 * model.channels);
  const noise = givenNoise ? new Float32Array(images.length) : undefined;
  const labels = new Uint32Array(train.batch);

  async function* updates(): AsyncGenerator<TrainEvent> {
    for (let index = done; index < train.steps; index++) {
      if (signal?.aborted) throw new InterruptedError(`training was interrupted after ${index} steps`);
      const started = performance.now();
      const lr = learningRate(index, train);
      const parts: Part[] = [];
      for (let part = 0; part < train.accumulate; part++) {
        const at = index * train.accumulate + part;
        await batches.next(images, labels, noise);
        const draws = drawStep(model, train, at);
        const batch = assembleBatch(model, train, labels, draws);
        parts.push({ batch, draws, result: await step.run({ images, noise, batch, index, lr, part }) });
      }
      const losses = splitLosses(model, train, parts);
      const { gradNorm } = parts.at(-1)!.result;
      if (!Number.isFinite(losses.loss) || !Number.isFinite(gradNorm)) {
        throw new NonFiniteError(`step ${index + 1}: the loss is ${losses.loss} and the gradient norm ${gradNorm}`, {
          hint: 'continue from the last checkpoint with a lower --lr',
        });
      }
      if (state.teacher && teacherChanges(train, index + 1)) {
        await replaceTeacher(state.teacher, train.targetsFromEma ? state.ema : state.params);
      }
      const seconds = (performance.now() - started) / 1000;
      yield {
        step: index + 1,
        lr,
        losses,
        gradNorm,
        ...(train.clip > 0 ? { kept: Math.min(1, train.clip / gradNorm) } : {}),
        seconds,
        skipped: skippedShare(
          model,
          parts.flatMap(({ draws }) => Array.from(draws.lengths)),
        ),
      };
    }
  }

  async function* run(): AsyncGenerator<TrainEvent> {
    try {
      yield* updates();
    } finally {
      await batches.close();
    }
  }

  const { bytes, lowerBound } = step.program.plan;
  return {
    run,
    plan: { bytes, lowerBound, dispatches: step.program.dispatches },
    snapshot: async () => ({
      params: await state.params.read(),
      ema: await state.ema.read(),
      m: await state.m.read(),
      v: await state.v.read(),
      ...(state.teacher ? { teacher: await state.teacher.read() } : {}),
    }),
    dispose() {
      step.dispose();
      release();
    },
  };
}

/** One of the batches of an update. */
interface Part {
  readonly batch: Batch;
  readonly draws: Draws;
  readonly result: StepResult;
}

function splitLosses(model: ModelConfig, train: TrainConfig, parts: readonly Part[]): Losses {
  const { timeRows, lengthRows } = batchShares(train, model);
  const rows = parts.flatMap(({ batch, draws, result }) =>
    Array.from(result.perSample, (value, r) => ({
      value,
      // Length targets come last, and replace those of the objective.
      kind: r >= train.batch - lengthRows ? 'length' : r < timeRows ? 'time' : 'flow',
      t: batch.main.t[batch.position[r]!]!,
      blocks: draws.lengths[r]!,
      level: batch.main.levels[batch.position[r]!]!,
    })),
  );
  const loss = parts.reduce((sum, { result }) => sum + result.loss, 0) / parts.length;
  const mean = (some: typeof rows) => some.reduce((s, r) => s + r.value, 0) / some.length;
  const means = (some: typeof rows, key: (r: (typeof rows)[number]) => string | number) => {
    const parts = new Map<string, typeof rows>();
    for (const row of some) parts.set(String(key(row)), [...(parts.get(String(key(row))) ?? []), row]);
    return Object.fromEntries([...parts].sort(([a], [b]) => Number(a) - Number(b)).map(([k, part]) => [k, mean(part)]));
  };
  const of = (kind: string) => rows.filter((r) => r.kind === kind);
  const [flow, time, length] = [of('flow'), of('time'), of('length')];
  return {
    loss,
    ...(flow.length > 0 ? { flow: mean(flow) } : {}),
    ...(time.length > 0 ? { time: mean(time) } : {}),
    ...(length.length > 0 ? { length: mean(length) } : {}),
    byTime: means(flow.length > 0 ? flow : time, (r) => Math.min(0.75, Math.floor(r.t * 4) / 4)),
    byBlocks: means(rows, (r) => r.blocks),
    byLevel: means(rows, (r) => r.level),
  };
}
