/**
 * A training run as a folder: `config.json`, `config.yaml` (the same to be given again), `env.json`, `metrics.jsonl` (one line per update), `checkpoints/step-N/`, and `lock`
 * while a process trains. Interrupts and failures leave it whole: the checkpoint is written first, then the error goes on.
 */
import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { agree } from '../cluster/agree.ts';
import { alone, type Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import { CheckpointError, ConfigError, DataError, InterruptedError, UsageError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';
import { syncFolder, TEMPORARY } from '../formats/files.node.ts';
import { shippedVersion } from '../formats/shipped.node.ts';
import { type ParamSet, paramLayout } from '../model/params.ts';
import {
  abandonAfter,
  checkpointSteps,
  KEPT,
  loadCheckpoint,
  type OnNotice,
  saveCheckpoint,
} from './checkpoint.node.ts';
import { listCheckpoints, removeLeftovers } from './checkpoint-folders.node.ts';
import { latentsOrigin, type TrainingData } from './data/dataset.ts';
import { fingerprint } from './data/fingerprint.node.ts';
import { checkSameData, type Fingerprint } from './data/fingerprint.ts';
import { checkFinite } from './finite.ts';
import { lockFolder } from './lock.node.ts';
import { appendEvent, dropLinesAfter, readMetrics, syncMetrics } from './metrics.node.ts';
import { modelAsTrained } from './model-as-trained.ts';
import { checkFits } from './model-for-data.ts';
import { type ConfigChange, changesOnResume } from './resume.ts';
import {
  exists,
  isConfigText,
  type RunConfig,
  readRunConfig,
  tuningToRecord,
  writeConfig,
  writeJson,
} from './run-config.node.ts';
import { checkObjective, checkStart } from './start.ts';
import { type Start, startOfFirst, tellStart } from './start-together.ts';
import { createTrainer, type TrainEvent, type Trainer, type TrainerOptions } from './trainer.ts';
import { checkValidation, type ValidationOptions } from './validation.ts';
import { checkWatch, startWatch, type Watch, type WatchOptions } from './watch.node.ts';

/** Files of a run folder that are written whole, under a temporary name first. */
const OURS: ReadonlySet<string> = new Set(['config.json', 'config.yaml', 'env.json', 'loss.svg']);

/** A run: its folder, what is trained, and who is told. */
export interface RunOptions {
  readonly folder: string;
  readonly config: RunConfig;
  readonly data: TrainingData;
  /** Goes on from the folder's newest checkpoint, or from that of this step; false: the folder must not hold a run. */
  readonly resume: boolean | number;
  /** Of a new run: begins again where an earlier one was ended before its first checkpoint, whose log is dropped. Default false: refuses. */
  readonly restart?: boolean;
  /** Updates between checkpoints. */
  readonly saveEvery: number;
  /** Newest checkpoints that are kept, at least 1. Default 2. */
  readonly keep?: number;
  /** Besides those, the checkpoints of every so many updates are kept for good: a multiple of `saveEvery`, or 0 for none. Default 0. */
  readonly keepEvery?: number;
  /**
   * Seconds after which the run ends in order, after at least one update: a checkpoint, and no error. By the clock of the first process.
   * Default: no end.
   */
  readonly maxTime?: number;
  /** When that time began, by `performance.now()`: with 0 reading the data, starting and compiling count. Default: with the call. */
  readonly began?: number;
  /** Goes on although the engine's tuning is not that of the run: numbers then differ in their last bits. Default false. */
  readonly otherTuning?: boolean;
  /** Facts about the machine, for `env.json`. */
  readonly environment: Readonly<Record<string, unknown>>;
  /** Of a new run: the teacher that the objective needs, and weights to start from; as in TrainerOptions. */
  readonly teacher?: ParamSet;
  readonly params?: ParamSet;
  /**
   * The processes that train this together, as in TrainerOptions; the first alone reads and writes the folder. All must be given the same
   * configuration, data and version of odelt.
   */
  readonly communicator?: Communicator;
  /** Pictures that are not trained on; as in TrainerOptions. */
  readonly validation?: ValidationOptions;
  /** What is written beside the metrics, to be looked at. Default: nothing. */
  readonly watch?: WatchOptions;
  readonly signal?: AbortSignal;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
  /** Told once before the first update, with the number of updates done by earlier runs. */
  readonly onReady?: (trainer: Trainer, startedAt: number) => void;
  /** Told after each update. */
  readonly onStep?: (event: TrainEvent) => void;
  /** Told the folder of each checkpoint. */
  readonly onSave?: (folder: string) => void;
  /** As in TrainerOptions. */
  readonly onBadPicture?: TrainerOptions['onBadPicture'];
  /** Told what was repaired, skipped or moved in the folder, one sentence each. */
  readonly onNotice?: OnNotice;
}

/**
 * Trains to the end of the schedule. @returns the folder of the last checkpoint.
 * When the signal aborts, a callback throws or a picture cannot be read, what is done is saved before the error goes on.
 * @throws what the trainer and the callbacks throw; ConfigError when data, model and folder do not fit, the folder holds another run,
 * another process trains into it, or the processes of a cluster were not given the same; CheckpointError when the folder cannot be read or written; NonFiniteError rather than
 * saving a state that cannot be trained on.
 */
export async function runTraining(engine: Engine, given: RunOptions): Promise<string> {
  const { model: asked, train: how } = given.config;
  const options = { ...given, config: { ...given.config, model: modelAsTrained(asked, how) } };
  const { folder, data, keep = KEPT, maxTime = Number.POSITIVE_INFINITY, communicator = alone } = options;
  const { began = performance.now() } = options;
  if (!(Number.isInteger(keep) && keep >= 1)) throw new ConfigError(`keep is ${keep}; it must be a positive integer`);
  checkKeepEvery(options);
  if (!(maxTime > 0)) throw new ConfigError(`maxTime is ${maxTime}; it must be a positive number of seconds`);
  checkWatch(options.watch ?? {});
  const { validation } = options;
  if (validation) checkValidation(options.config.model, options, validation);
  const ends = began + 1000 * maxTime;
  const pictures = fingerprint(data);
  if (options.resume !== false && options.config.pictures) checkSameData(options.config.pictures, pictures);
  const config = { ...options.config, pictures, tuning: tuningToRecord(engine) };
  checkFits(config.model, data);
  checkObjective(config.model, config.train);
  if (options.resume === false) checkStart(config.model, config.train, options);
  const { model, train, tuning = null } = config;
  const { saveEvery } = options;
  // Names are only where the pictures lie.
  const contents = ({ name: _, ...rest }: Fingerprint) => rest;
  const held = validation && communicator.size > 1 && { ...validation, data: contents(fingerprint(validation.data)) };
  await agree(communicator, {
    ...{ odelt: shippedVersion(), model, training: train, tuning, data: contents(pictures) },
    out: { saveEvery, maxTime: options.maxTime },
    validation: held || null,
  });
  if (communicator.rank > 0) return trainInto(engine, options, await startOfFirst(communicator, model), ends);
  await writing(folder, async () => {
    await makeFolder(folder);
    await syncFolder(dirname(folder));
  });
  const unlock = await lockFolder(folder);
  try {
    const from = await openRun({ ...options, config });
    const start = { from, wholeAverage: options.watch?.samples !== undefined };
    await tellStart(communicator, start);
    return await trainInto(engine, options, start, ends);
  } finally {
    await unlock();
  }
}

/** Makes the locked folder ready for the updates to come: tidy, configured, its metrics cut back to the checkpoint. */
async function openRun(options: RunOptions): Promise<Start['from']> {
  const { folder, config, resume, environment, onNotice = () => {} } = options;
  const checkpoints = join(folder, 'checkpoints');
  const metrics = join(folder, 'metrics.jsonl');
  if (resume === false) await refuseEarlierRun(folder, options.restart ?? false);
  await writing(folder, async () => {
    if (resume === false) await makeFolder(checkpoints);
    await removeLeftovers(checkpoints);
    for (const name of await readdir(folder)) {
      if (TEMPORARY.test(name) && OURS.has(name.replace(TEMPORARY, ''))) await rm(join(folder, name), { force: true });
    }
  });
  for (const { name, reason } of (await listCheckpoints(checkpoints)).skipped) {
    onNotice(`${join(checkpoints, name)} ${reason}: skipped, it is no checkpoint`);
  }
  if (resume === false) {
    await writing(folder, async () => {
      await writeConfig(folder, config);
      await writeJson(join(folder, 'env.json'), environment);
      await dropLinesAfter(metrics, 0);
    });
    return undefined;
  }
  const before = (await exists(join(folder, 'config.json'))) ? await readRunConfig(folder) : config;
  // The caller's may not say it.
  if (before.pictures && config.pictures) checkSameData(before.pictures, config.pictures);
  const changed = changesOnResume(before, config, options);
  const step = resume === true ? undefined : resume;
  const { state, sets, checked } = await loadCheckpoint(checkpoints, paramLayout(config.model), { step });
  if (!checked) onNotice(`${join(checkpoints, `step-${state.step}`)} is of an earlier version: it has no checksums`);
  if (config.train.steps < state.step) {
    throw new ConfigError(`${config.train.steps} steps were asked for; the run has done ${state.step}`, {
      hint: `give --steps ${state.step} or more, or go on from an earlier checkpoint with --resume step-N`,
    });
  }
  const change: ConfigChange = { step: state.step, time: new Date().toISOString(), changed };
  const history = [...(before.history ?? []), ...(Object.keys(changed).length > 0 ? [change] : [])];
  await writing(folder, async () => {
    await abandonAfter(checkpoints, state.step, onNotice);
    const lines = await dropLinesAfter(metrics, state.step);
    if (lines.torn) onNotice(`${metrics} ended within a line, which was dropped`);
    if (lines.kept < state.step) onNotice(`${metrics} has lines of ${lines.kept} of the ${state.step} updates`);
    await writeConfig(folder, history.length > 0 ? { ...config, history } : config);
    await writeJson(join(folder, 'env.json'), environment);
  });
  return { sets, step: state.step };
}

/** `ends`: when the run's time is over, by performance.now(). Of a cluster only the first process writes; the others follow it. */
async function trainInto(
  engine: Engine,
  options: RunOptions,
  { from, wholeAverage }: Start,
  ends: number,
): Promise<string> {
  const { folder, config, data, signal, onNotice, communicator = alone } = options;
  const { model, train } = config;
  const writes = communicator.rank === 0;
  const checkpoints = join(folder, 'checkpoints');
  const metrics = join(folder, 'metrics.jsonl');
  const { params, teacher, validation, onBadPicture, onCompile } = options;
  // The first process alone writes, so it alone looks.
  const watching = communicator.rank === 0 ? (options.watch ?? {}) : {};
  const wanted = { validation, wholeAverage, inspect: watching.tensorboard !== undefined };
  const given = { model, train, data, from, params, teacher };
  const trainer = await createTrainer(engine, { ...given, ...wanted, communicator, signal, onBadPicture, onCompile });
  let done = from?.step ?? 0;
  let saved = from ? done : -1;
  /** Whether what is on the GPU is the state after `done` updates, all of which are logged, and the disk has not refused it. */
  let savable = false;
  const save = async () => {
    const place = join(checkpoints, `step-${done}`);
    if (saved === done) return place;
    if (!writes) {
      await trainer.contribute();
      saved = done;
      return place;
    }
    savable = false;
    const sets = await trainer.snapshot();
    await checkFinite(sets, done);
    await writing(metrics, () => syncMetrics(metrics));
    const at = await saveCheckpoint(
      checkpoints,
      { step: done, model, classNames: data.classNames, latents: latentsOrigin(data) },
      sets,
      onNotice,
      options,
    );
    saved = done;
    savable = true;
    options.onSave?.(at);
    return at;
  };
  /**
   * What ended the updates: an interrupt of theirs, and a picture that cannot be read, come on all processes after the same update, one of
   * anything else on this one alone.
   */
  let ending: unknown;
  const updates = async function* () {
    try {
      yield* trainer.run();
    } catch (error) {
      ending = error;
      throw error;
    }
  };
  let watch: Watch | undefined;
  try {
    const run = { folder, done, steps: train.steps, samplesEach: train.batch * train.accumulate };
    watch = await startWatch(engine, run, watching, onNotice);
    options.onReady?.(trainer, done);
    for await (const event of updates()) {
      done = event.step;
      if (writes) await writing(metrics, () => appendEvent(metrics, event));
      savable = true;
      options.onStep?.(event);
      await watch.after(event, trainer);
      if (done % options.saveEvery === 0) await save();
      savable = false;
      if (done < train.steps && (await isOver(communicator, ends))) {
        onNotice?.(`the time is over after ${done} of ${train.steps} updates: --resume goes on`);
        break;
      }
    }
    if (done === 0) throw new UsageError('there was nothing to train');
    return await save();
  } catch (error) {
    const unsaved = (why: Error) => onNotice?.(`what was done could not be saved: ${why.message}`);
    // Pictures are read before an update, or after it: what cannot be read has changed nothing of the state.
    const unread = error === ending && error instanceof DataError && done > 0 && trainer.updates() === done;
    if (unread || (error === ending && error instanceof InterruptedError)) {
      if (unread) await save().catch(unsaved);
      else await save();
      // The launcher ends all processes when one has ended: none before the first has saved.
      await communicator.barrier();
    } else if (savable && trainer.plan.divided) {
      onNotice?.('what was done since the last checkpoint is not saved: its state is divided among processes');
    } else if (savable) {
      await save().catch(unsaved);
    }
    throw error;
  } finally {
    await watch?.close();
    trainer.dispose();
  }
}

/** @throws ConfigError for checkpoints to be kept that are not written. */
function checkKeepEvery({ keepEvery = 0, saveEvery }: RunOptions): void {
  if (Number.isInteger(keepEvery) && keepEvery >= 0 && keepEvery % saveEvery === 0) return;
  throw new ConfigError(`out.keepEvery is ${keepEvery}; checkpoints are written every ${saveEvery} updates`, {
    hint: 'give a multiple of out.saveEvery, or 0 for none',
  });
}

/** Whether the run's time is over, by the clock of the first process. */
async function isOver(communicator: Communicator, ends: number): Promise<boolean> {
  if (ends === Number.POSITIVE_INFINITY) return false;
  const over = Uint8Array.of(Number(performance.now() >= ends));
  await communicator.broadcast(over);
  return over[0] === 1;
}

/** @throws ConfigError when a new run in this folder would write over something. */
async function refuseEarlierRun(folder: string, restart: boolean): Promise<void> {
  if ((await checkpointSteps(join(folder, 'checkpoints'))).length > 0) {
    throw new ConfigError(`${folder} already holds a run`, { hint: 'add --resume to go on, or choose another --out' });
  }
  const updates = (await readMetrics(join(folder, 'metrics.jsonl')))?.events.length ?? 0;
  if (updates > 0 && !restart) {
    throw new ConfigError(`${folder} already holds a run of ${updates} updates and no checkpoint`, {
      hint: 'choose another --out, or remove the folder',
    });
  }
  // Of a run that did no update nothing is lost; files of something else are not to be written over.
  const ours = (await exists(join(folder, 'config.json'))) ? await readRunConfig(folder) : null;
  for (const name of ['config.yaml', 'env.json', 'metrics.jsonl']) {
    const path = join(folder, name);
    const isOurs = name === 'config.yaml' ? ours && (await isConfigText(path, ours)) : ours;
    if (isOurs || !(await exists(path))) continue;
    throw new ConfigError(`${path} is of no run, and a new one would write over it`, {
      hint: 'choose another --out, or move the file',
    });
  }
}

/** Runs `body`; what the file system refuses becomes a CheckpointError about `path`. */
async function writing(path: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${path} could not be written`, {
      cause,
      hint: 'free disk space or check permissions, then add --resume to go on from the last checkpoint',
    });
  }
}
