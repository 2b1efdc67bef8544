/** Autoencoders from bytes that are read by place, whatever has them: a page's file, a download, a file on disk (`open.node.ts`). */
import { CheckpointError } from '../../engine/errors.ts';
import type { ByteSource } from '../../formats/byte-source.ts';
import type { ForeignWeights } from '../weights/imports/foreign.ts';
import { openCheckpoint } from '../weights/imports/open.ts';
import { type ImportedAutoencoder, importAutoencoder } from './import.ts';

/** Most bytes of a configuration. */
export const MOST_CONFIG = 1 << 20;

/** diffusers' config.json, parsed. `file` is its name for messages. @throws CheckpointError for what is no JSON. */
export function parseAutoencoderConfig(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${file} is no JSON`, { cause, hint: 'restore it, or leave it out' });
  }
}

/** The autoencoder among the weights of a checkpoint. @throws CheckpointError where there are none; as `importAutoencoder`. */
export async function autoencoderIn(
  { raw }: { readonly raw: ForeignWeights | undefined },
  file: string,
  config?: unknown,
): Promise<ImportedAutoencoder> {
  if (!raw) throw new CheckpointError(`${file} holds no weights of an autoencoder`);
  return importAutoencoder([raw], config);
}

/**
 * Reads an autoencoder of latents: safetensors or a .pth of AutoencoderKL or the TAESD family, under all names that `importAutoencoder` knows,
 * or a whole model of latents that holds one. `file`: its name for messages; `config`: diffusers' config.json, parsed.
 * @throws CheckpointError for what cannot be read or is no autoencoder; as `importAutoencoder`.
 */
export async function readAutoencoder(
  source: ByteSource,
  file: string,
  config?: unknown,
): Promise<ImportedAutoencoder> {
  return autoencoderIn(await openCheckpoint(source, file), file, config);
}
