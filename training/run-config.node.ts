/** What a run folder says of its run: `config.json`, and `config.yaml`, the same to be given again. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { TuningChoice } from '../engine/tuning.ts';
import { type FailFile, failAs, readRegular, writeText } from '../formats/files.node.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { checkpointModel, checkpointSteps } from './checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from './config.ts';
import { type Fingerprint, parseFingerprint } from './data/fingerprint.ts';
import { modelAsTrained } from './model-as-trained.ts';
import type { ConfigChange } from './resume.ts';
import { settingsText } from './settings.ts';

/** What a run folder's `config.json` holds. */
export interface RunConfig {
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  /** Where the pictures come from: the caller's to interpret. The command keeps an absolute path, or 'bundled'. */
  readonly data: string;
  /** Which pictures are held out, in the same way: the caller's to interpret. Absent: none. */
  readonly validation?: string;
  /** What the pictures are. Made by `runTraining`, which compares it on resume; absent in runs of earlier versions. */
  readonly pictures?: Fingerprint;
  /** The variants of kernels that the run's engine was told to take. Kept by `runTraining`; absent without tuning. */
  readonly tuning?: readonly TuningChoice[];
  /** What changed when the run went on, oldest first. `runTraining` keeps it. */
  readonly history?: readonly ConfigChange[];
}

export const writeJson = (path: string, value: unknown) => writeText(path, `${JSON.stringify(value, null, 2)}\n`);

/** Writes all that is known of the run, and what was asked for, to ask again. */
export async function writeConfig(folder: string, config: RunConfig): Promise<void> {
  await writeJson(join(folder, 'config.json'), config);
  await writeText(join(folder, 'config.yaml'), settingsText(config));
}

/** Whether this config.yaml is what `writeConfig` wrote of the run, which nobody has made their own. */
export async function isConfigText(path: string, config: RunConfig): Promise<boolean> {
  const bytes = await readRegular(path, { most: 16 << 20, fail: failAs(ConfigError, path) }).catch(() => null);
  return bytes !== null && new TextDecoder().decode(bytes) === settingsText(config);
}

/** Reads a run's configuration. @throws ConfigError when the folder holds none. */
export async function readRunConfig(folder: string): Promise<RunConfig> {
  const path = join(folder, 'config.json');
  const refuse: FailFile = failAs(ConfigError, path, 'give --out the folder of an earlier run');
  const bytes = await readRegular(path, { most: 16 << 20, fail: refuse });
  let raw: {
    model: unknown;
    train: Partial<TrainConfig>;
    data: string;
    validation?: unknown;
    pictures?: unknown;
    tuning?: TuningChoice[];
    history?: ConfigChange[];
  };
  try {
    raw = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof raw?.train !== 'object' || raw.train === null || typeof raw.data !== 'string')
      throw new Error('wrong fields');
    if (raw.tuning !== undefined && !areChoices(raw.tuning)) throw new Error('its tuning is no list of choices');
    if (raw.validation !== undefined && typeof raw.validation !== 'string')
      throw new Error('its validation is no text');
    if (raw.history !== undefined && !Array.isArray(raw.history)) throw new Error('its history is no list');
  } catch (cause) {
    return refuse("is not a run's configuration", cause);
  }
  const train = parseTrainConfig(raw.train);
  return {
    // Runs of earlier versions do not say what follows from how they train.
    model: modelAsTrained(parseModelConfig(raw.model), train),
    train,
    data: raw.data,
    ...(raw.validation === undefined ? {} : { validation: raw.validation as string }),
    ...(raw.pictures === undefined ? {} : { pictures: parseFingerprint(raw.pictures, path) }),
    ...(raw.tuning === undefined ? {} : { tuning: raw.tuning }),
    ...(raw.history === undefined ? {} : { history: raw.history }),
  };
}

/**
 * The model of the newest checkpoint, or that of `step`, in a folder that no run configured, as `odelt convert --optimizer` writes
 * it: `runTraining` goes on from it with any configuration. Undefined where there is a config.json, or no checkpoint at all.
 * @throws CheckpointError for a step that is not there, or that cannot be read.
 */
export async function unconfiguredModel(folder: string, step?: number): Promise<ModelConfig | undefined> {
  const checkpoints = join(folder, 'checkpoints');
  if ((await exists(join(folder, 'config.json'))) || !(await exists(checkpoints))) return undefined;
  if ((await checkpointSteps(checkpoints)).length === 0) return undefined;
  return checkpointModel(checkpoints, step);
}

/** The engine's tuning as `config.json` keeps it. @throws ConfigError for one that cannot be written down. */
export function tuningToRecord({ tuning }: Engine): readonly TuningChoice[] | undefined {
  if (!tuning) return undefined;
  if (!tuning.choices) {
    throw new ConfigError("the engine's tuning cannot be written down, and a run must be able to go on with the same", {
      hint: 'make it with tuningOf of odelt/bench, or give it its choices',
    });
  }
  // Without a choice everything is as without tuning.
  return tuning.choices.length > 0 ? tuning.choices : undefined;
}

function areChoices(value: unknown): value is TuningChoice[] {
  const isChoice = (c: Partial<TuningChoice> | null) =>
    typeof c?.family === 'string' && typeof c.variant === 'string' && typeof c.shape === 'object' && c.shape !== null;
  return Array.isArray(value) && value.every(isChoice);
}

/** Whether there is something of that name. */
export const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
