/** The training loop. Knows nothing of files: checkpoints and logs are the caller's, through the events it yields. */
import { agree } from '../cluster/agree.ts';
import { alone, type Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DataError, InterruptedError, NonFiniteError, UsageError } from '../engine/errors.ts';
import { Arena } from '../engine/memory/arena.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import type { ParamSet } from '../model/params.ts';
import { drawStep, skippedShare } from './batch.ts';
import { parseTrainConfig, type TrainConfig } from './config.ts';
import { type Dataset, isPaired, type StreamedDataset, type TrainingData } from './data/dataset.ts';
import { dealRows } from './deal.ts';
import { assembleDealt, gathered, readDealt } from './dealt.ts';
import { DIVERGED } from './finite.ts';
import { type Inspected, Inspection } from './inspection.ts';
import { type Losses, type Part, splitLosses } from './losses.ts';
import { checkFits } from './model-for-data.ts';
import { oneLoop } from './one-loop.ts';
import { learningRate } from './schedule.ts';
import { divide, stateBytes } from './share.ts';
import { replaceTeacher, startingWeights, teacherChanges } from './start.ts';
import { averageTeaches, createState, readState, type TrainSets } from './state.ts';
import { TrainStep } from './step.ts';
import { checkValidation, Validation, type ValidationLosses, type ValidationOptions } from './validation.ts';

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
  /** Losses on held-out pictures, in updates that are followed by a validation. */
  readonly validation?: ValidationLosses;
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
  /**
   * The processes that train this together: each its rows of every batch, with the same options and data, and all of them from the
   * state of the first. Default: this one alone.
   */
  readonly communicator?: Communicator;
  /** Pictures that are not trained on, whose loss is computed now and then. Changes nothing of the training. Default: none. */
  readonly validation?: ValidationOptions;
  /** Whether `inspect` is wanted: its programs are compiled then. Default false. */
  readonly inspect?: boolean;
  /**
   * Whether `average` is wanted where processes divide the state (`shardState`): each then keeps all of the average, as it does where targets
   * come from it. The same on all of them. Default false.
   */
  readonly wholeAverage?: boolean;
  /**
   * Told of each picture that this process could not read from disk and skipped (`badPictures`), those that are held out among them: once,
   * with the number of them so far.
   */
  readonly onBadPicture?: (error: DataError, count: number) => void;
  readonly signal?: AbortSignal;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

/** A training run on an engine, update by update; who drives it decides what is kept. */
export interface Trainer {
  /**
   * Runs the remaining updates, one event each; after a loop that was left early, another goes on where that one ended. @throws
   * NonFiniteError, InterruptedError (after a whole update, the same on all processes); DataError for a picture that cannot be read: on
   * all processes before the same update, or after it and its event for a held-out one; ClusterError where another process has ended;
   * UsageError while another run has not ended.
   */
  run(): AsyncGenerator<TrainEvent>;
  /** Reads back everything a checkpoint holds. Where processes divide the state it is for the first, while the others `contribute`. */
  snapshot(): Promise<TrainSets>;
  /** Of all processes but the first: gives it what it lacks for its `snapshot`; nothing, where the state is not divided. @throws ClusterError */
  contribute(): Promise<void>;
  /** Reads back the moving average of the weights. @throws UsageError where processes divide it (see `wholeAverage`). */
  average(): Promise<ParamSet>;
  /**
   * Norms of the last update, group by group, and on request histograms of the parameters. Between updates: after an event and before
   * the next is asked for. @throws UsageError without `inspect`, and before the first update
   */
  inspect(options?: { histograms?: boolean }): Promise<Inspected>;
  readonly plan: {
    readonly bytes: number;
    readonly lowerBound: number;
    readonly dispatches: number;
    /** Bytes of the optimizer's state where processes divide it: what this one keeps, and all of it. */
    readonly divided?: { readonly own: number; readonly whole: number; readonly average: boolean };
  };
  /** The loss of each sample of the last update; of none before the first. */
  sampleLosses(): Float32Array;
  /** Updates that the state on the GPU has had; one that failed on its way counts. After an error of `run`: what a `snapshot` would be of. */
  updates(): number;
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
  const { data, signal, communicator = alone } = options;
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
  if (options.validation) checkValidation(model, options, options.validation);
  const deal = dealRows(train, model, communicator);
  const { seed, flip, overfit } = train;
  const bad = new Set<string>();
  const skip = (error: DataError) => {
    if (bad.has(error.message)) return;
    bad.add(error.message);
    options.onBadPicture?.(error, bad.size);
  };
  const onBadPicture = train.badPictures === 'skip' ? skip : undefined;
  const batchesFrom = (update: number) => {
    const first = update * train.accumulate * train.batch;
    return readDealt(communicator, data, deal, { seed, flip, first, only: overfit, onBadPicture });
  };
  let batches = batchesFrom(done);
  const sets = await startingWeights(model, train, options);
  await sameSets(communicator, sets);
  const { wholeAverage = false, validation: held } = options;
  const whole = averageTeaches(train, model) || wholeAverage || held !== undefined;
  const { layout } = sets.params;
  const division =
    train.shardState && communicator.size > 1 ? divide(layout, engine.largestBinding, communicator, !whole) : null;
  if (division)
    await agree(communicator, { averages: division.average, buffers: division.buffers.map((b) => b.length) });
  const state = createState(engine, sets, division);
  const release = () => {
    for (const weights of Object.values(state)) weights.release();
  };
  const givenNoise = isPaired(data);
  // Programs that take turns with the step use the same place for what they compute.
  const arena = new Arena(engine, 'train');
  const made: { dispose(): void }[] = [arena, { dispose: release }];
  const dispose = () => {
    for (const each of made.splice(0).reverse()) each.dispose();
  };
  const compile = async () => {
    const step = await TrainStep.create(engine, model, train, state, {
      givenNoise,
      deal,
      division,
      communicator,
      onProgress: options.onCompile,
      signal,
      arena,
    });
    made.push(step);
    const shared = { inputs: step.inputs, arena, signal, deal, communicator, onBadPicture };
    const validation = held && (await Validation.create(engine, model, train, state, shared, held));
    if (validation) made.push(validation);
    const inspection = options.inspect ? await Inspection.create(engine, train, state, step.total, shared) : undefined;
    if (inspection) made.push(inspection);
    return { step, validation, inspection };
  };
  const { step, validation, inspection } = await compile().catch((error: unknown) => {
    dispose();
    throw error;
  });
  const size = model.imageSize ** 2 * model.channels;
  const rows = deal.rows.length;
  const images = new Float32Array(rows * size);
  const noise = givenNoise ? new Float32Array(images.length) : undefined;
  const labels = new Uint32Array(rows);
  // Rows can share pictures, so that there are fewer pictures than rows; the rest of the arrays then stays as it is.
  const read = deal.pictures.length;
  const next = () =>
    batches.next(images.subarray(0, read * size), labels.subarray(0, read), noise?.subarray(0, read * size));

  /** Updates that have changed the state, or begun to. */
  let touched = done;
  /** Runs batch `at` of update `index`; its losses are of all rows of the batch, whoever trained them. */
  const runBatch = async (
    index: number,
    lr: number,
    part: number,
  ): Promise<Part & { gradNorm: number; stop: boolean }> => {
    const at = index * train.accumulate + part;
    await next();
    if (part === train.accumulate - 1) touched = index + 1;
    const draws = drawStep(model, train, at);
    const { batch, places, whole } = assembleDealt(model, deal, labels, draws);
    const { perSample, gradNorm } = await step.run({ images, noise, batch, places, index, lr, part });
    const { stop, ...result } = await gathered(communicator, deal, perSample, signal?.aborted ?? false);
    return { result, batch: whole, draws, gradNorm, stop };
  };

  /** The last update, if there was one. */
  let last: { readonly count: number; readonly lr: number; readonly parts: readonly Part[] } | null = null;
  const isDue = (count: number) => held !== undefined && (count % held.every === 0 || count === train.steps);

  async function* updates(): AsyncGenerator<TrainEvent> {
    // Among several processes one that is to stop tells the others with its losses, so that all stop after the same update.
    let stop = communicator.size === 1 && signal?.aborted;
    for (let index = touched; index < train.steps; index++) {
      if (stop || (communicator.size === 1 && signal?.aborted))
        throw new InterruptedError(`training was interrupted after ${index} steps`, { cause: signal?.reason });
      const started = performance.now();
      const lr = learningRate(index, train);
      const parts: Part[] = [];
      let gradNorm = 0;
      for (let part = 0; part < train.accumulate; part++) {
        const ran = await runBatch(index, lr, part);
        stop ||= ran.stop;
        gradNorm = ran.gradNorm;
        parts.push(ran);
      }
      const losses = splitLosses(model, train, parts);
      if (!Number.isFinite(losses.loss) || !Number.isFinite(gradNorm)) {
        throw new NonFiniteError(`step ${index + 1}: the loss is ${losses.loss} and the gradient norm ${gradNorm}`, {
          hint: DIVERGED,
        });
      }
      if (state.teacher && teacherChanges(train, index + 1)) {
        await replaceTeacher(state.teacher, train.targetsFromEma ? state.ema : state.params);
      }
      const seconds = (performance.now() - started) / 1000;
      last = { count: index + 1, lr, parts };
      // The update stands, whatever becomes of its validation: that is told once its event has been taken.
      let unread: DataError | undefined;
      const validated = isDue(index + 1)
        ? await validation?.losses(index + 1, signal).catch((error: unknown) => {
            if (!(error instanceof DataError)) throw error;
            unread = error;
          })
        : null;
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
        ...(validated ? { validation: validated } : {}),
      };
      if (unread) throw unread;
    }
  }

  const run = oneLoop(async function* () {
    batches = batchesFrom(touched);
    try {
      yield* updates();
    } finally {
      await batches.close();
    }
  });

  const { bytes, lowerBound } = step.program.plan;
  return {
    run,
    plan: {
      bytes,
      lowerBound,
      dispatches: step.program.dispatches,
      ...(division ? { divided: { ...stateBytes(division), average: division.average } } : {}),
    },
    async snapshot() {
      const read = await readState(state, division, communicator);
      if (!read) throw new UsageError('the state is divided, and only the first process can have all of it');
      return read;
    },
    async contribute() {
      if (division) await readState(state, division, communicator);
    },
    async average() {
      if (!division?.average) return state.ema.read();
      throw new UsageError('the processes divide the average', { hint: 'create the trainers with wholeAverage: true' });
    },
    async inspect({ histograms = false } = {}) {
      if (!inspection) throw new UsageError('this trainer cannot inspect', { hint: 'create it with inspect: true' });
      if (!last) throw new UsageError('there has been no update to inspect');
      return inspection.look(last.count, last.lr, { histograms });
    },
    updates: () => touched,
    sampleLosses: () => Float32Array.from(last?.parts.flatMap(({ result }) => [...result.perSample]) ?? []),
    dispose,
  };
}

/** All processes begin with what the first has: weights of files, and of a checkpoint that only the first can read. */
async function sameSets(communicator: Communicator, sets: Partial<TrainSets>): Promise<void> {
  if (communicator.size === 1) return;
  for (const part of ['params', 'ema', 'm', 'v', 'teacher'] as const) {
    for (const { buffer, byteOffset, byteLength } of sets[part]?.groups ?? []) {
      await communicator.broadcast(new Uint8Array(buffer, byteOffset, byteLength));
    }
  }
}
