/**
 * A training run as a folder: `config.json`, `env.json`, `metrics.jsonl` (one line per update), `checkpoints/step-N/`. Interrupts and
 * failures leave it whole: the checkpoint is written first, then the error goes on.
 */
import { appendFile, mkdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { CheckpointError, ConfigError, InterruptedError, NonFiniteError, UsageError } from '../engine/errors.ts';
import { writeAtomically } from '../formats/files.node.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { paramEntries, paramLayout } from '../model/params.ts';
import { checkpointSteps, loadCheckpoint, saveCheckpoint, type TrainSets } from './checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from './config.ts';
import type { Dataset } from './data/dataset.ts';
import { checkSameData, type Fingerprint, fingerprint, parseFingerprint } from './data/fingerprint.node.ts';
import { createTrainer, type TrainEvent, type Trainer } from './trainer.ts';

export interface RunConfig {
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  /** Where the pictures come from: the caller's to interpret. The command keeps an absolute path, or 'bundled'. */
  readonly data: string;
  /** What the pictures are. Made by `runTraining`, which compares it on resume; absent in runs of earlier versions. */
  readonly pictures?: Fingerprint;
}

export interface RunOptions {
  readonly folder: string;
  readonly config: RunConfig;
  readonly data: Dataset;
  /** Goes on from the folder's newest checkpoint; without it the folder must not hold a run. */
  readonly resume: boolean;
  /** Updates between checkpoints. */
  readonly saveEvery: number;
  readonly environment: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
  readonly onReady?: (trainer: Trainer, startedAt: number) => void;
  readonly onStep?: (event: TrainEvent) => void;
  readonly onSave?: (folder: string) => void;
}

const encode = (value: unknown) => [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)];

/** Reads a run's configuration. @throws ConfigError when the folder holds none. */
export async function readRunConfig(folder: string): Promise<RunConfig> {
  const path = join(folder, 'config.json');
  let raw: { model: unknown; train: Partial<TrainConfig>; data: string; pictures?: unknown };
  try {
    raw = JSON.parse(await readFile(path, 'utf8'));
    if (typeof raw?.train !== 'object' || raw.train === null || typeof raw.data !== 'string')
      throw new Error('wrong fields');
  } catch (cause) {
    throw new ConfigError(`${path} is not a run's configuration`, {
      cause,
      hint: 'give --out the folder of an earlier run',
    });
  }
  const pictures = raw.pictures === undefined ? {} : { pictures: parseFingerprint(raw.pictures, path) };
  return { model: parseModelConfig(raw.model), train: parseTrainConfig(raw.train), data: raw.data, ...pictures };
}

/**
 * Trains to the end of the schedule. @returns the folder of the last checkpoint.
 * @throws what the trainer throws; ConfigError when data, model and folder do not fit; CheckpointError when the folder cannot be
 * written; NonFiniteError rather than saving a state that cannot be trained on.
 */
export async function runTraining(engine: Engine, options: RunOptions): Promise<string> {
  const { folder, config, data, signal } = options;
  const { model, train } = config;
  const pictures = fingerprint(data);
  if (options.resume && config.pictures) checkSameData(config.pictures, pictures);
  if (data.height !== model.imageSize || data.width !== model.imageSize || data.channels !== model.channels) {
    throw new ConfigError(
      `the model takes ${model.imageSize}x${model.imageSize}x${model.channels} pictures; '${data.name}' has ${data.height}x${data.width}x${data.channels}`,
      { hint: 'give the data that the model was made for, or make the model with modelForData' },
    );
  }
  if (data.classes > model.classes) {
    throw new ConfigError(`'${data.name}' has ${data.classes} classes; the model has ${model.classes}`);
  }
  const checkpoints = join(folder, 'checkpoints');
  if (!options.resume && (await checkpointSteps(checkpoints)).length > 0) {
    throw new ConfigError(`${folder} already holds a run`, { hint: 'add --resume to go on, or choose another --out' });
  }
  const loaded = options.resume ? await loadCheckpoint(checkpoints, paramLayout(model)) : undefined;
  const from = loaded && { sets: loaded.sets, step: loaded.state.step };
  const metrics = join(folder, 'metrics.jsonl');
  await writing(folder, async () => {
    await mkdir(checkpoints, { recursive: true });
    await writeAtomically(join(folder, 'config.json'), encode({ ...config, pictures }));
    await writeAtomically(join(folder, 'env.json'), encode(options.environment));
    await dropLinesAfter(metrics, from?.step ?? 0);
  });

  const trainer = await createTrainer(engine, { model, train, data, from, signal, onCompile: options.onCompile });
  let done = from?.step ?? 0;
  let saved = from ? done : -1;
  const save = async () => {
    if (saved === done) return join(checkpoints, `step-${done}`);
    const sets = await trainer.snapshot();
    checkFinite(sets, done);
    const at = await saveCheckpoint(checkpoints, { step: done, model, classNames: data.classNames }, sets);
    saved = done;
    options.onSave?.(at);
    return at;
  };
  try {
    options.onReady?.(trainer, from?.step ?? 0);
    for await (const event of trainer.run()) {
      done = event.step;
      await writing(metrics, () => appendFile(metrics, `${JSON.stringify(event)}\n`));
      options.onStep?.(event);
      if (done % options.saveEvery === 0) await save();
    }
    if (done === 0) throw new UsageError('there was nothing to train');
    return await save();
  } catch (error) {
    if (error instanceof InterruptedError) await save();
    throw error;
  } finally {
    trainer.dispose();
  }
}

/** Runs `body`; what the file system refuses becomes a CheckpointError about `path`. */
async function writing(path: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (cause) {
    throw new CheckpointError(`${path} could not be written`, {
      cause,
      hint: 'free disk space or check permissions, then add --resume to go on from the last checkpoint',
    });
  }
}

/** A state that holds a NaN or infinity must not replace a good checkpoint: losses show it one update later than weights. */
function checkFinite(sets: TrainSets, step: number): void {
  for (const [part, set] of Object.entries(sets)) {
    for (const { spec, values } of paramEntries(set)) {
      if (values.every(Number.isFinite)) continue;
      throw new NonFiniteError(`step ${step}: ${part}/${spec.name} is no longer finite; nothing was saved`, {
        hint: 'continue from the last checkpoint with a lower --lr',
      });
    }
  }
}

/** Removes the metrics of updates that a resumed run does again (those after its checkpoint, and a torn last line). */
async function dropLinesAfter(path: string, step: number): Promise<void> {
  const text = await readFile(path, 'utf8').catch(() => '');
  let keep = 0;
  for (const line of text.split('\n').slice(0, -1)) {
    let at = Number.POSITIVE_INFINITY;
    try {
      at = (JSON.parse(line) as { step: number }).step;
    } catch {
      // A torn line ends what is kept.
    }
    if (!(at <= step)) break;
    keep += Buffer.byteLength(line) + 1;
  }
  if (text.length > 0) await truncate(path, keep);
}
