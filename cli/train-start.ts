/** What `odelt train` starts with: configuration, data, and weights of other models; of a new run and of one that goes on. */
import { join } from 'node:path';
import { type Communicator, fromFirst } from '../cluster/communicator.ts';
import { ConfigError } from '../engine/errors.ts';
import { type ModelConfig, preset } from '../model/config.ts';
import { allSpecs, type ParamSet, paramLayout } from '../model/params.ts';
import { checkpointSteps } from '../training/checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from '../training/config.ts';
import type { TrainingData } from '../training/data/dataset.ts';
import type { OpenOptions } from '../training/data/open.ts';
import { modelAsTrained } from '../training/model-as-trained.ts';
import { modelForData } from '../training/model-for-data.ts';
import { factsOf } from '../training/objectives/facts.ts';
import { changesOnResume } from '../training/resume.ts';
import { type RunConfig, readRunConfig, unconfiguredModel } from '../training/run-config.node.ts';
import type { Settings } from '../training/settings.ts';
import { checkObjective, checkTeacher, checkTeacherModel } from '../training/start.ts';
import { warmStart, warmStartText } from '../training/warm-start.ts';
import { readModel, readWeights } from './models.node.ts';
import { type ProgressLine, log as say } from './output.node.ts';
import { dataPlace, encodedChannels, openPlace, type TrainFlags } from './train-flags.ts';
import { validationPlace, withHeldOut } from './train-watch.ts';

/** Flags whose --resume is decided. */
export type Begun = TrainFlags & { resume?: number | true };

/**
 * Decides --resume auto: where the folder has a checkpoint the run goes on, and flags that only begin one say nothing. So one command
 * begins a run, and goes on with it whenever it is given again.
 */
export async function begunBefore(flags: TrainFlags, folder: string, processes: Communicator): Promise<Begun> {
  const { resume, ...rest } = flags;
  if (resume !== 'auto') return { ...rest, resume };
  const steps = await fromFirst(processes, () => checkpointSteps(join(folder, 'checkpoints')));
  return steps.length > 0 ? { ...rest, resume: true, init: undefined, teacher: undefined } : rest;
}

/** What training starts with. */
export interface Run {
  readonly config: RunConfig;
  readonly data: TrainingData;
  /** Pictures that are not trained on. */
  readonly held?: TrainingData;
  /** Of a new run: weights to start from, and the teacher. */
  readonly params?: ParamSet;
  readonly teacher?: ParamSet;
}

/** Says how far reading is, once it has taken two seconds. */
export function readingProgress(line: Pick<ProgressLine, 'update'>): (done: number, total: number) => void {
  const began = performance.now();
  return (done, total) => {
    if (performance.now() - began > 2000) line.update(`reading pictures: ${done} of ${total}`);
  };
}

/** A run that goes on: its configuration, with what flags change, and its data. */
export async function resumedRun(
  folder: string,
  flags: Begun,
  settings: Settings,
  reading: OpenOptions,
  processes: Communicator,
): Promise<Run> {
  for (const name of ['init', 'teacher'] as const) {
    if (flags[name] === undefined) continue;
    throw new ConfigError(`--${name} is for new runs; ${folder} goes on with the weights of its checkpoint`, {
      hint: `leave --${name} out, or start another run in another --out`,
    });
  }
  const config = await fromFirst(processes, () => resumedConfig(folder, flags.resume, settings));
  const { imageSize: size, channels } = config.model;
  const data = await openPlace(config.data, { ...reading, size, channels: encodedChannels(channels) });
  return { config, ...(await withHeldOut(config, data, reading)) };
}

/** What the run began with; of checkpoints that no run made (`odelt convert --optimizer`), their model and what is given now. */
async function configBefore(folder: string, step: Begun['resume'], { train, data }: Settings): Promise<RunConfig> {
  const model = await unconfiguredModel(folder, step === true ? undefined : step);
  if (!model) return readRunConfig(folder);
  say(`${folder} has checkpoints and no config.json: goes on with the settings given now, and defaults`);
  return { model, train: parseTrainConfig(train), data: dataPlace(data.path) };
}

/** The run's configuration with what was given instead. @throws ConfigError for what a run cannot change. */
async function resumedConfig(folder: string, step: Begun['resume'], settings: Settings): Promise<RunConfig> {
  const { preset: name, model, train, data } = settings;
  const before = await configBefore(folder, step, settings);
  const { imageSize, channels, classes, ignoreDt } = before.model;
  const trained = parseTrainConfig({ ...before.train, ...train });
  const config: RunConfig = {
    ...before,
    data: data.path === undefined ? before.data : dataPlace(data.path),
    model: modelAsTrained(
      name === undefined
        ? { ...before.model, ...model }
        : preset(name, { imageSize, channels, classes, ignoreDt, ...model }),
      trained,
    ),
    train: trained,
  };
  changesOnResume(before, config);
  const validation = validationPlace(data.validation);
  return validation === undefined ? config : { ...config, validation };
}

/** The data, and the model that they and the settings make of the preset; what cannot be is refused before pictures are read. */
export async function newRun(
  flags: TrainFlags,
  settings: Settings,
  reading: OpenOptions,
  log: typeof say,
): Promise<Run> {
  const train = parseTrainConfig(settings.train);
  const { preset: presetName = 'tiny' } = settings;
  checkTeacher(train, flags.teacher !== undefined);
  // What the network is told of step sizes, sampling must know: it goes into the model's description.
  const given = { ignoreDt: !factsOf(train.objective).stepLevel, ...settings.model };
  const place = dataPlace(settings.data.path);
  const validation = validationPlace(settings.data.validation);
  const data = await openPlace(place, {
    ...reading,
    size: given.imageSize ?? preset(presetName).imageSize,
    channels: encodedChannels(given.channels),
    onShape: (shape) => checkObjective(modelForData(presetName, shape, given), train),
  });
  const model = modelAsTrained(modelForData(presetName, data, given), train);
  const config = { model, train, data: place, ...(validation === undefined ? {} : { validation }) };
  return { config, ...(await withHeldOut(config, data, reading)), ...(await startOf(flags, model, train, log)) };
}

/** The weights that --init and --teacher name. @throws CheckpointError for a teacher of another model, and for what cannot be read. */
async function startOf(
  { init, teacher }: TrainFlags,
  model: ModelConfig,
  train: TrainConfig,
  log: typeof say,
): Promise<Partial<Run>> {
  const start: { params?: ParamSet; teacher?: ParamSet } = {};
  if (init !== undefined) {
    const names = new Set(allSpecs(paramLayout(model)).map(({ name }) => name));
    const source = await readWeights(init, (name) => names.has(name));
    const warm = warmStart(model, train.seed, source, source.path);
    for (const text of warmStartText(warm)) log(`${source.path}: ${text}`);
    start.params = warm.params;
  }
  if (teacher !== undefined) {
    const { config, params, path } = await readModel(teacher);
    checkTeacherModel(config, model, path);
    start.teacher = params;
  }
  return start;
}
