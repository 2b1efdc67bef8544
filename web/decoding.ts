/** The decoder beside a model of latents in the worker: read once, put on the GPU again where that was lost. */
import type { Engine } from '../engine/engine.ts';
import { LimitError, OutOfMemoryError } from '../engine/errors.ts';
import { type Autoencoder, createAutoencoder, type PictureBatch } from '../model/autoencoder/autoencoder.ts';
import { decoderAlone, matchDecoder } from '../model/autoencoder/decoder.ts';
import type { ImportedAutoencoder } from '../model/autoencoder/import.ts';
import { parseAutoencoderConfig, readAutoencoder } from '../model/autoencoder/open.ts';
import { originIn } from '../model/autoencoder/origin.ts';
import { spreadProblem } from '../model/autoencoder/spread.ts';
import type { ModelSource } from '../model/weights/source.ts';
import { readUrl } from '../model/weights/source-url.ts';
import { chooseDecoder, type DecodeEachOptions, type DecoderChoice, decodeEach } from '../sampling/decoding.ts';
import type { Samples } from '../sampling/sampler.ts';
import { cachingFetch } from './cache.ts';
import { givenSource } from './given.ts';
import type { DecoderOptions, DecoderSource, LoadedDecoder, Sampled } from './protocol.ts';

/** A decoder of a model's latents. */
export interface ModelDecoder {
  /** Puts it on the GPU, and says what it takes there. @throws LimitError; as createAutoencoder. */
  place(engine: Engine, signal: AbortSignal): Promise<LoadedDecoder>;
  /** Latents as pictures. @throws as `place` and `decodeEach`. */
  pictures(engine: Engine, latents: PictureBatch, options: Decoding): Promise<PictureBatch>;
  /** Samples as pictures, and what that took. @throws as `pictures`. */
  decode(
    engine: Engine,
    samples: Samples,
    options: Decoding,
  ): Promise<Pick<Sampled, 'values' | 'shape' | 'peakBytes' | 'decoded'>>;
  /** Frees what it has on the GPU. */
  dispose(): void;
}

type Decoding = DecodeEachOptions & { readonly signal: AbortSignal };

interface Placed {
  readonly engine: Engine;
  readonly choice: DecoderChoice;
  readonly autoencoder: Autoencoder;
}

/** Reads a model's decoder. @throws as OdeltWorker.loadDecoder, but for what the GPU says. */
export async function openModelDecoder(
  { config, metadata }: Pick<ModelSource, 'config' | 'metadata'>,
  { source, options = {} }: DecoderSource,
  signal: AbortSignal,
): Promise<ModelDecoder> {
  const { precision, maxBytes, cache = true } = options;
  const read = (url: string) => readUrl(url, { signal, ...(cache ? { fetch: cachingFetch() } : {}) });
  const name = nameOf(source, 'the autoencoder');
  const bytes = givenSource(typeof source === 'string' ? await read(source) : source, name);
  const whole = await readAutoencoder(bytes, name, await configOf(options.config, read));
  const { shown, warning } = await matchDecoder(config, whole, originIn(metadata, 'the model'));
  // What is kept for another device.
  const imported = decoderAlone(whole);
  const { network } = imported;
  const { imageSize: side } = config;
  let placed: Placed | null = null;

  /** As large as it is to be, or else as large as there is memory for, which no device tells beforehand. */
  const place = async (engine: Engine, signal: AbortSignal): Promise<Placed> => {
    if (placed?.engine === engine) return placed;
    let failure: OutOfMemoryError | undefined;
    for (let limit = maxBytes; ; ) {
      const choice = await chooseDecoder(engine, { network, precision }, side, limit, { signal }).catch((error) => {
        throw failure && error instanceof LimitError ? failure : error;
      });
      try {
        placed = { engine, choice, autoencoder: await prepared(engine, imported, side, choice, signal) };
        return placed;
      } catch (error) {
        if (!(error instanceof OutOfMemoryError)) throw error;
        failure = error;
        limit = choice.peak - 1;
      }
    }
  };

  const pictures: ModelDecoder['pictures'] = async (engine, latents, options) =>
    decodeEach((await place(engine, options.signal)).autoencoder, latents, options);

  return {
    pictures,
    async place(engine, signal) {
      const { peak, why, ...how } = (await place(engine, signal)).choice;
      return { shown, ...how, peakBytes: peak, why, ...(warning === undefined ? {} : { warning }) };
    },
    async decode(engine, samples, options) {
      const meter = engine.memory.meterPeak();
      const start = performance.now();
      try {
        const found = await pictures(engine, samples, options);
        const milliseconds = performance.now() - start;
        const problem = spreadProblem(samples.values, network.scaling.factor);
        return {
          ...found,
          peakBytes: Math.max(samples.peakBytes, meter.bytes),
          decoded: { milliseconds, ...(problem === undefined ? {} : { warning: problem }) },
        };
      } finally {
        meter.stop();
      }
    },
    dispose() {
      placed?.autoencoder.dispose();
      placed = null;
    },
  };
}

/** A decoder on the GPU, compiled for latents of `side` x `side`. */
async function prepared(
  engine: Engine,
  imported: ImportedAutoencoder,
  side: number,
  { precision, rows: bandRows }: DecoderChoice,
  signal: AbortSignal,
): Promise<Autoencoder> {
  const made = await createAutoencoder(engine, imported, { precision, bandRows, halves: ['decoder'], signal });
  try {
    await made.prepare('decoder', [side, side]);
    return made;
  } catch (error) {
    made.dispose();
    throw error;
  }
}

type Bytes = string | Uint8Array | Blob;

async function bytesOf(given: Bytes, read: (url: string) => Promise<Uint8Array>): Promise<Uint8Array> {
  if (typeof given === 'string') return read(given);
  return given instanceof Blob ? new Uint8Array(await given.arrayBuffer()) : given;
}

/** A file's name, an address, or else what it is. */
function nameOf(given: Bytes, what: string): string {
  if (typeof given === 'string') return given;
  return 'name' in given && typeof given.name === 'string' ? given.name : what;
}

/** The configuration, parsed, where one was given. @throws CheckpointError for what is no JSON. */
async function configOf(given: DecoderOptions['config'], read: (url: string) => Promise<Uint8Array>): Promise<unknown> {
  const file = given instanceof URL ? given.href : given;
  if (typeof file !== 'string' && !(file instanceof Blob)) return file;
  return parseAutoencoderConfig(await bytesOf(file, read), nameOf(file, 'the configuration'));
}
