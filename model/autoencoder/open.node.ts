/** Autoencoders on disk: a file of weights, or diffusers' folder, with the configuration that lies beside it. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { failAs, readRegular } from '../../formats/files.node.ts';
import { openCheckpointFile } from '../weights/imports/open.node.ts';
import type { ImportedAutoencoder } from './import.ts';
import { isUnnamedKl } from './kl.ts';
import { autoencoderIn, MOST_CONFIG, parseAutoencoderConfig } from './open.ts';

/** How diffusers calls the weights in a folder, the first that is there of these. */
const WEIGHTS = ['safetensors', 'safetensors.index.json', 'fp16.safetensors', 'bin', 'fp16.bin'].map(
  (ending) => `diffusion_pytorch_model.${ending}`,
);
const CONFIG = 'config.json';

/** The file of the weights at a path, which may be diffusers' folder. @throws CheckpointError for a folder without one */
async function weightsAt(path: string): Promise<string> {
  if ((await stat(path).catch(() => null))?.isDirectory() !== true) return path;
  for (const name of WEIGHTS) {
    const file = join(path, name);
    if (await stat(file).catch(() => null)) return file;
  }
  throw new CheckpointError(`${path} holds no ${WEIGHTS[0]}`, { hint: 'give the file of the weights itself' });
}

/** A configuration that lies in a folder, or one of something else, in words. */
interface FoundConfig {
  readonly config?: object;
  readonly ignored?: string;
}

async function configIn(folder: string): Promise<FoundConfig> {
  const path = join(folder, CONFIG);
  if (!(await stat(path).catch(() => null))?.isFile()) return {};
  const bytes = await readRegular(path, { most: MOST_CONFIG, fail: failAs(CheckpointError, path) });
  const parsed = parseAutoencoderConfig(bytes, path);
  const config = typeof parsed === 'object' && parsed !== null ? parsed : {};
  const name = (config as { _class_name?: unknown })._class_name;
  const isOwn = name === undefined ? isUnnamedKl(config) : String(name).startsWith('Autoencoder');
  if (isOwn) return { config };
  return { ignored: `${path} is of ${name === undefined ? 'something else' : `'${String(name)}'`} and is left out` };
}

/**
 * Reads an autoencoder: safetensors or a .pth of AutoencoderKL or the TAESD family, under all names that `importAutoencoder` knows, a
 * whole model of latents that holds one, or diffusers' folder. A config.json beside the weights gives groups and scale, unless it
 * is of something else, which `assumed` then says.
 * @throws ConfigError for an empty path; CheckpointError for what cannot be read or is no autoencoder, and what `importAutoencoder` throws.
 */
export async function openAutoencoder(path: string): Promise<ImportedAutoencoder> {
  if (path === '') throw new ConfigError("the autoencoder's path is empty", { hint: 'give a file of weights' });
  const file = await weightsAt(path);
  const { config, ignored } = await configIn(dirname(file));
  const { raw, close } = await openCheckpointFile(file);
  try {
    const imported = await autoencoderIn({ raw }, file, config);
    const assumed = [ignored, imported.assumed].filter((what) => what !== undefined).join('; ');
    return assumed === '' ? imported : { ...imported, assumed };
  } finally {
    await close();
  }
}
