/** What a model of latents remembers of the autoencoder that made them, so that they can be decoded by the one that belongs to them. */
import { CheckpointError } from '../../engine/errors.ts';
import { sha256 } from '../../formats/bytes.ts';
import type { ImportedAutoencoder } from './import.ts';
import type { Half } from './network.ts';

/** Where latents come from. Plain data. */
export interface LatentsOrigin {
  /** Kind of the autoencoder: AutoencoderKL, or of the TAESD family. */
  readonly family: 'kl' | 'tiny';
  /** SHA-256 of the parameters of each half that its file held, as 32-bit floats in our order; hexadecimal. */
  readonly encoder: string | null;
  readonly decoder: string | null;
  /** Pixels of a picture, across and down, for each of its latent. */
  readonly factor: number;
  /** Of the pictures. */
  readonly channels: number;
  /** The model works on (latent - shift) * factor. */
  readonly scaling: { readonly factor: number; readonly shift: number };
}

/** Key of the origin in a model file's metadata, as JSON. */
const ORIGIN_KEY = 'odelt.latents';

/** What is to be remembered of an autoencoder. */
export async function originOf({ network, params }: ImportedAutoencoder): Promise<LatentsOrigin> {
  const digest = async (half: Half) => {
    const g = params.layout.groups.findIndex(({ name }) => name === half);
    const values = params.groups[g];
    if (!values) return null;
    return sha256(new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength));
  };
  const { family, factor, pictureChannels: channels, scaling } = network;
  return { family, encoder: await digest('encoder'), decoder: await digest('decoder'), factor, channels, scaling };
}

/** Whether parsed JSON is an origin. */
export function isOrigin(value: unknown): value is LatentsOrigin {
  const of = (typeof value === 'object' ? value : null) as Partial<LatentsOrigin> | null;
  const isDigest = (x: unknown) => x === null || typeof x === 'string';
  return (
    (of?.family === 'kl' || of?.family === 'tiny') &&
    isDigest(of.encoder) &&
    isDigest(of.decoder) &&
    [of.factor, of.channels].every((n) => Number.isInteger(n) && n! >= 1) &&
    Number.isFinite(of.scaling?.shift) &&
    Number.isFinite(of.scaling?.factor) &&
    of.scaling!.factor !== 0
  );
}

/** The metadata of a model's file that say where its latents come from; none for a model of pictures. */
export const originMetadata = (origin: LatentsOrigin | undefined): Record<string, string> =>
  origin ? { [ORIGIN_KEY]: JSON.stringify(origin) } : {};

/** The origin in a model file's metadata; undefined where it names none. @throws CheckpointError for what is no origin. */
export function originIn(metadata: ReadonlyMap<string, string>, file: string): LatentsOrigin | undefined {
  const text = metadata.get(ORIGIN_KEY);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {}
  if (isOrigin(value)) return value;
  throw new CheckpointError(`${file}: where its latents come from (metadata '${ORIGIN_KEY}') cannot be read`, {
    hint: 'the file is damaged, or was written by something else: fetch or write it again',
  });
}
