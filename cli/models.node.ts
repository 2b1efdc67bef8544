/** Finds and opens the model that a command is to use: a file, a checkpoint, the newest of a run folder, or a URL. */
import { stat } from 'node:fs/promises';
import { join, parse } from 'node:path';
import type { Engine } from '../engine/engine.ts';
import { CheckpointError, ConfigError } from '../engine/errors.ts';
import { type FailFile, failAs, readRegular } from '../formats/files.node.ts';
import { type ReadTensors, readTensors } from '../formats/safetensors.node.ts';
import { createDecoder, type Decoder, matchDecoder } from '../model/autoencoder/decoder.ts';
import type { ImportedAutoencoder } from '../model/autoencoder/import.ts';
import { openAutoencoder } from '../model/autoencoder/open.node.ts';
import type { LatentsOrigin } from '../model/autoencoder/origin.ts';
import { type ModelConfig, parseModelConfig, preset } from '../model/config.ts';
import type { ModelFile } from '../model/weights/model-file.ts';
import { openModelSource } from '../model/weights/source.node.ts';
import { type GroupSource, type ModelSource, readParams } from '../model/weights/source.ts';
import { openModelUrl } from '../model/weights/source-url.ts';
import { checkpointSteps } from '../training/checkpoint.node.ts';
import { log } from './output.node.ts';

export type WhichWeights = 'ema' | 'raw';

/** A model that is measured; `path` is what it is called. */
export interface Evaluated extends Pick<ModelSource, 'config' | 'metadata'> {
  readonly source: GroupSource;
  readonly path: string;
}

const isUrl = (path: string): boolean => /^https?:\/\//i.test(path);

const refuse = (path: string, problem: string, cause?: unknown): never => {
  throw new CheckpointError(`${path} ${problem}`, { cause, hint: 'give a .safetensors file or a run folder' });
};

/**
 * Reads a model from a .safetensors file, a checkpoint folder (step-N) or a run folder (its newest checkpoint). Folders
 * hold two sets of weights: the moving average (`ema`) and the raw ones.
 * @throws CheckpointError for what is no such thing, cannot be read or holds no model.
 */
export async function readModel(path: string, which: WhichWeights = 'ema'): Promise<ModelFile & { path: string }> {
  if (isUrl(path)) refuse(path, 'is a URL; a file is wanted');
  const found = await modelPath(path, which);
  const { config, metadata, source, close } = await openModelSource(found);
  try {
    return { config, metadata, params: await readParams(source), path: found };
  } finally {
    await close();
  }
}

/**
 * Opens a model of which only the groups in use are to be read: at the paths that `readModel` takes, or at a URL. `path` of
 * the result is the file that was found; `signal` stops the opening.
 * @throws CheckpointError, and for URLs UnsupportedError and InterruptedError.
 */
export async function openModel(
  path: string,
  which: WhichWeights = 'ema',
  signal?: AbortSignal,
): Promise<ModelSource & { path: string }> {
  if (isUrl(path)) return { ...(await openModelUrl(path, { signal })), path };
  const found = await modelPath(path, which);
  return { ...(await openModelSource(found)), path: found };
}

/**
 * The tensors of a weight file, at the paths that `readModel` takes, that need not describe a model; values only of those that are
 * `wanted`. @throws CheckpointError, ConfigError.
 */
export async function readWeights(
  path: string,
  wanted: (name: string) => boolean,
): Promise<ReadTensors & { path: string }> {
  if (isUrl(path)) refuse(path, 'is a URL; a file is wanted');
  const found = await modelPath(path, 'ema');
  return { ...(await readTensors(found, wanted)), path: found };
}

/** The file that holds the weights: `path` itself, or one in that folder. */
async function modelPath(path: string, which: WhichWeights): Promise<string> {
  if (path === '')
    throw new ConfigError("the model's path is empty", { hint: 'give a .safetensors file or a run folder' });
  const info = await whatIs(path);
  if (info === null) return refuse(path, 'cannot be read: there is no such file, or it is a link to nothing');
  if (info.isFile()) return path;
  if (!info.isDirectory()) return refuse(path, 'is neither a file nor a folder');
  const name = which === 'ema' ? 'ema.safetensors' : 'model.safetensors';
  const newest = (await checkpointSteps(join(path, 'checkpoints'))).at(-1);
  const inRun = join('checkpoints', `step-${newest ?? 'N'}`, name);
  const found = join(path, newest === undefined ? name : inRun);
  if (await whatIs(found)) return found;
  return refuse(path, `holds no model: there is no ${newest === undefined ? `${inRun} or ${name}` : inRun} in it`);
}

/** What is at a path, behind links; null for nothing. */
async function whatIs(path: string) {
  try {
    return await stat(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    return refuse(path, `cannot be read${code === 'EACCES' ? ': no permission' : ''}`, cause);
  }
}

/** @throws ConfigError for a model of latents: what it makes are no pictures until they are decoded. */
export function checkShown(
  { channels }: ModelConfig,
  path: string,
  hint = 'odelt sample and odelt eval decode them: --decode FILE',
): void {
  if (channels === 1 || channels === 3) return;
  throw new ConfigError(`${path} makes latents of ${channels} channels; pictures have 1 or 3`, {
    hint,
  });
}

/** A decoder that is not on a GPU yet. */
export interface OpenedDecoder {
  readonly imported: ImportedAutoencoder;
  /** Side and channels of the pictures that the model's samples become. */
  readonly shown: Pick<ModelConfig, 'imageSize' | 'channels'>;
  create(engine: Engine, options?: Parameters<typeof createDecoder>[3]): Promise<Decoder>;
}

/**
 * The autoencoder of `--decode`, for a model whose latents come from `origin`, where that is known: warns where it is another.
 * @throws ConfigError, CheckpointError
 */
export async function openDecoder(
  path: string,
  model: Pick<ModelConfig, 'imageSize' | 'channels'>,
  origin: LatentsOrigin | undefined,
): Promise<OpenedDecoder> {
  const imported = await openAutoencoder(path);
  const { shown, warning } = await matchDecoder(model, imported, origin);
  if (warning) log(`warning: ${path}: ${warning}`);
  return { imported, shown, create: (engine, options) => createDecoder(engine, model, imported, options) };
}

/** A model to measure: named by a preset or by a file; without a source of weights where there are none. */
export interface BenchedModel {
  readonly name: string;
  readonly config: ModelConfig;
  readonly source?: GroupSource;
  close(): Promise<void>;
}

/** The model that `--preset` or `--model` (a model file, or a description that ends in .json) names. @throws ConfigError, CheckpointError. */
export async function benchedModel(
  { preset: name, model }: { preset: string; model?: string },
  signal?: AbortSignal,
): Promise<BenchedModel> {
  const close = async () => {};
  if (model === undefined) return { name, config: preset(name), close };
  if (!model.endsWith('.json')) return { ...(await openModel(model, 'ema', signal)), name: parse(model).name };
  const fail: FailFile = failAs(ConfigError, model, 'give a JSON file of the fields of a model');
  const text = new TextDecoder().decode(await readRegular(model, { fail }));
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (cause) {
    return fail('is no JSON', cause);
  }
  return { name: parse(model).name, config: parseModelConfig(fields), close };
}

/** The same, of which only the description is wanted. */
export async function describedModel(flags: { preset: string; model?: string }) {
  const { name, config, close } = await benchedModel(flags);
  await close();
  return { name, config };
}
