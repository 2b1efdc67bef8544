/** Autoencoders on disk: a file of weights, or diffusers' folder, with the configuration that lies beside it. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { failAs, readRegular } from '../../formats/files.node.ts';
import { openCheckpointFile } from '../weights/imports/open.node.ts';
import type { ImportedAutoencoder } from './import.ts';
import { autoencoderIn, MOST_CONFIG, parseAutoencoderConfig } from './open.ts';

/** How diffusers calls the weights in a folder. */
const WEIGHTS = 'diffusion_pytorch_model.safetensors';
const CONFIG = 'config.json';

/** The parsed configuration of an autoencoder in a folder; undefined where there is none, or one of something else. */
async function configIn(folder: string): Promise<Record<string, unknown> | undefined> {
  const path = join(folder, CONFIG);
  if (!(await stat(path).catch(() => null))?.isFile()) return undefined;
  const bytes = await readRegular(path, { most: MOST_CONFIG, fail: failAs(CheckpointError, path) });
  const parsed = parseAutoencoderConfig(bytes, path) as { _class_name?: unknown } | null;
  return String(parsed?._class_name).startsWith('Autoencoder') ? (parsed as Record<string, unknown>) : undefined;
}

/**
 * Reads an autoencoder: safetensors or a .pth of AutoencoderKL or the TAESD family, under all names that `importAutoencoder` knows, a
 * whole model of latents that holds one, or diffusers' folder. A config.json beside the weights gives groups and scale.
 * @throws ConfigError for an empty path; CheckpointError for what cannot be read or is no autoencoder, and what `importAutoencoder` throws.
 */
export async function openAutoencoder(path: string): Promise<ImportedAutoencoder> {
  if (path === '') throw new ConfigError("the autoencoder's path is empty", { hint: 'give a file of weights' });
  const isFolder = (await stat(path).catch(() => null))?.isDirectory() === true;
  const file = isFolder ? join(path, WEIGHTS) : path;
  if (isFolder && !(await stat(file).catch(() => null))) {
    throw new CheckpointError(`${path} holds no ${WEIGHTS}`, { hint: 'give the file of the weights itself' });
  }
  const config = await configIn(dirname(file));
  const { raw, close } = await openCheckpointFile(file);
  try {
    return await autoencoderIn({ raw }, file, config);
  } finally {
    await close();
  }
}
