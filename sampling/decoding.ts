/**
 * Samples of a model of latents as pictures: within a limit of memory that the sampler and the decoder use one after the other. What the
 * sampler had on the GPU is freed before the decoder comes, so that the larger of the two decides what both take.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, LimitError } from '../engine/errors.ts';
import {
  type Autoencoder,
  type AutoencoderOptions,
  type Banding,
  chooseBands,
  createAutoencoder,
  type PassOptions,
  type PictureBatch,
} from '../model/autoencoder/autoencoder.ts';
import type { ImportedAutoencoder } from '../model/autoencoder/import.ts';
import type { AutoencoderNetwork } from '../model/autoencoder/network.ts';
import type { ModelConfig } from '../model/config.ts';
import { type Choice, chooseSettings, describeSettings, type Wanted } from './budget.ts';
import type { Requested } from './request.ts';

/** How a decoder's weights are stored. */
export const DECODER_PRECISIONS = ['f32', 'f16'] as const;
/** One of `DECODER_PRECISIONS`. */
export type DecoderPrecision = (typeof DECODER_PRECISIONS)[number];

/** A decoder that is to fit. */
export interface DecoderWanted {
  readonly network: AutoencoderNetwork;
  /** Default: f32, or f16 where only that fits. */
  readonly precision?: DecoderPrecision | undefined;
}

/** How a decoder is used, and what it takes. */
export interface DecoderChoice extends Banding {
  readonly precision: DecoderPrecision;
  /** One sentence for the user. */
  readonly why: string;
}

/** How `chooseDecoder` and `chooseDecoded` go on. */
export interface Choosing {
  readonly signal?: AbortSignal;
  /** Told before a setting is tried, in words. */
  readonly onTry?: (what: string) => void;
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/**
 * How latents of `side` x `side` are decoded within `limit` bytes: f32 before f16, few bands before many. Pictures are the same in any
 * number of bands.
 * @throws LimitError whose `asked` is the smallest limit that would do; InterruptedError.
 */
export async function chooseDecoder(
  engine: Engine,
  { network, precision: wanted }: DecoderWanted,
  side: number,
  limit = Number.POSITIVE_INFINITY,
  { signal, onTry }: Choosing = {},
): Promise<DecoderChoice> {
  let refused: LimitError | undefined;
  for (const precision of wanted ? [wanted] : DECODER_PRECISIONS) {
    onTry?.(`the decoder with ${precision} weights`);
    const options: AutoencoderOptions = {
      ...{ precision, halves: ['decoder'], maxBytes: limit },
      ...(signal && { signal }),
    };
    try {
      const found = await chooseBands(engine, network, 'decoder', [side, side], options);
      const bands = found.bands === 1 ? 'pictures whole' : `pictures in ${found.bands} bands of ${found.rows} rows`;
      const of = Number.isFinite(limit) ? ` of ${megabytes(limit)}` : '';
      return { ...found, precision, why: `decoder: ${precision} weights, ${bands}: ${megabytes(found.peak)}${of}` };
    } catch (error) {
      if (!(error instanceof LimitError)) throw error;
      if (!refused || error.asked < refused.asked) refused = error;
    }
  }
  throw refused!;
}

/** Settings of the sampler and of the decoder after it. */
export interface DecodedChoice {
  readonly sampling: Choice;
  readonly decoder: DecoderChoice;
  /** Most bytes of GPU buffers alive at once, of either. */
  readonly peak: number;
}

/**
 * `chooseSettings` for samples that are decoded afterwards (`decodeSamples`), each within the limit.
 * @throws as `chooseSettings`; the LimitError's `asked` is the smallest limit in which both are possible.
 */
export async function chooseDecoded(
  engine: Engine,
  config: ModelConfig,
  wanted: Wanted,
  decoder: DecoderWanted,
  request: Requested,
  limit: number,
  { signal, onTry }: Choosing = {},
): Promise<DecodedChoice> {
  const asked: LimitError[] = [];
  const unlessTooLarge = async <T>(choice: Promise<T>): Promise<T | undefined> => {
    try {
      return await choice;
    } catch (error) {
      if (!(error instanceof LimitError)) throw error;
      asked.push(error);
      return undefined;
    }
  };
  const decoding = await unlessTooLarge(
    chooseDecoder(engine, decoder, config.imageSize, limit, { ...(signal && { signal }), ...(onTry && { onTry }) }),
  );
  const sampling = await unlessTooLarge(
    chooseSettings(engine, config, wanted, request, limit, {
      ...(signal && { signal }),
      ...(onTry && { onTry: (settings) => onTry(describeSettings(settings)) }),
    }),
  );
  if (sampling && decoding) return { sampling, decoder: decoding, peak: Math.max(sampling.peak, decoding.peak) };
  throw asked.reduce((a, b) => (b.asked > a.asked ? b : a));
}

/** How samples are decoded one after the other. */
export interface DecodeEachOptions extends PassOptions {
  /** Looked at before each picture. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each picture. */
  readonly onPicture?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
}

/**
 * Latents [n, h, w, channels] as a model makes them to pictures [n, H, W, 3] about [-1, 1], one after the other, by an autoencoder that is on
 * the GPU and stays there.
 * @throws ConfigError for latents of another autoencoder, or none; LimitError, OutOfMemoryError; InterruptedError.
 */
export async function decodeEach(
  autoencoder: Autoencoder,
  { values, shape }: PictureBatch,
  { signal, onPicture, onLayer }: DecodeEachOptions = {},
): Promise<PictureBatch> {
  const [total, ...one] = shape;
  const size = values.length / total;
  let pictures: { values: Float32Array; shape: PictureBatch['shape'] } | undefined;
  for (let i = 0; i < total; i++) {
    throwIfAborted(signal, 'decoding was interrupted');
    const picture: PictureBatch = { values: values.slice(i * size, (i + 1) * size), shape: [1, ...one] };
    const found = await autoencoder.decode(picture, {
      onLayer: onLayer && (({ done, total: of }) => onLayer({ done: i * of + done, total: total * of })),
    });
    const [, height, width, channels] = found.shape;
    pictures ??= { values: new Float32Array(total * found.values.length), shape: [total, height, width, channels] };
    pictures.values.set(found.values, i * found.values.length);
    onPicture?.({ done: i + 1, total });
  }
  if (!pictures) throw new ConfigError('there are no latents to decode');
  return pictures;
}

/** How samples are decoded. */
export interface DecodeOptions extends DecodeEachOptions {
  /** What `chooseDecoder` found. */
  readonly choice: Pick<DecoderChoice, 'precision' | 'rows'>;
  /** Told after each compiled pipeline. */
  readonly onCompile?: AutoencoderOptions['onCompile'];
}

/**
 * `decodeEach` by a decoder that is put on the GPU and freed again, with what the engine kept to read back through: the sampler is to be
 * disposed before, and its model. @throws as `decodeEach`.
 */
export async function decodeSamples(
  engine: Engine,
  imported: ImportedAutoencoder,
  samples: PictureBatch,
  { choice: { precision, rows }, signal, onPicture, onLayer, onCompile }: DecodeOptions,
): Promise<PictureBatch> {
  engine.releaseReadback();
  const decoder = await createAutoencoder(engine, imported, {
    ...{ precision, bandRows: rows, halves: ['decoder'] },
    ...(signal && { signal }),
    ...(onCompile && { onCompile }),
  });
  try {
    return await decodeEach(decoder, samples, { signal, onPicture, onLayer });
  } finally {
    decoder.dispose();
    engine.releaseReadback();
  }
}
