/** `odelt sample --decode` and `odelt decode`: the autoencoder that makes pictures of latents, and the pictures. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { PictureBatch } from '../model/autoencoder/autoencoder.ts';
import { type LatentsOrigin, originIn } from '../model/autoencoder/origin.ts';
import { spreadProblem } from '../model/autoencoder/spread.ts';
import type { ModelConfig } from '../model/config.ts';
import type { ModelSource } from '../model/weights/source.ts';
import type { Wanted } from '../sampling/budget.ts';
import {
  type Choosing as ChoosingOptions,
  chooseDecoded,
  chooseDecoder,
  DECODER_PRECISIONS,
  type DecoderChoice,
  type DecoderPrecision,
  type DecoderWanted,
  decodeSamples,
} from '../sampling/decoding.ts';
import { checkOneOf, type SampleRequest } from '../sampling/request.ts';
import { openDecoder } from './models.node.ts';
import { bytes, log, type ProgressLine } from './output.node.ts';

interface DecodeFlags {
  readonly decode?: string;
  readonly decodePrecision?: DecoderPrecision;
}

/** What decoding says of itself in --json. */
export interface Decoded {
  readonly autoencoder: string;
  readonly precision: DecoderPrecision;
  readonly bands: number;
  readonly rows: number;
  readonly seconds: number;
  readonly peakBytes: number;
}

/** How long choosing may take before it is told of. */
const SILENT_MS = 2000;

/** Latents that a decoder is for. */
type LatentShape = Pick<ModelConfig, 'imageSize' | 'channels'>;

/** How something is chosen. */
interface Choosing {
  readonly line: ProgressLine;
  readonly signal: AbortSignal;
}

/** Tells what is tried, once that has taken a while; the line ends with the choice. */
async function trying<T>({ line, signal }: Choosing, choose: (options: ChoosingOptions) => Promise<T>): Promise<T> {
  const began = performance.now();
  const onTry = (what: string) => {
    if (performance.now() - began > SILENT_MS) line.update(`trying ${what}`);
  };
  return choose({ signal, onTry }).finally(() => line.end());
}

/**
 * The decoder at `path` for latents of this shape, of the autoencoder `origin` where that is known.
 * @throws ConfigError for one of other latents; CheckpointError
 */
export async function openLatents(
  path: string,
  precision: DecoderPrecision | undefined,
  latents: LatentShape,
  origin?: LatentsOrigin,
) {
  const { imported, shown } = await openDecoder(path, latents, origin);
  const { network } = imported;
  const wanted: DecoderWanted = { network, precision };
  return {
    shown,
    wanted,
    /** How the decoder is stored and works within the engine's memory limit. @throws LimitError, InterruptedError */
    chooseAlone: (engine: Engine, how: Choosing): Promise<DecoderChoice> =>
      trying(how, (options) => chooseDecoder(engine, wanted, latents.imageSize, engine.memory.limit, options)),
    /** Latents as pictures; warns where they are of another scale. Nothing of a sampler may be on the GPU any more. */
    async decode<T extends PictureBatch>(
      engine: Engine,
      samples: T,
      choice: DecoderChoice,
      { line, signal }: Choosing,
    ) {
      const problem = spreadProblem(samples.values, network.scaling.factor);
      if (problem) log(`warning: ${problem}`);
      const began = performance.now();
      const meter = engine.memory.meterPeak();
      try {
        const pictures = await decodeSamples(engine, imported, samples, {
          ...{ choice, signal },
          onCompile: ({ compiled, pipelines }) => line.update(`compiling ${compiled}/${pipelines} pipelines`),
          onLayer: ({ done, total }) => line.update(`decoding: ${done} of ${total} layers`),
          onPicture: ({ done, total }) => line.update(`decoded ${done}/${total}`),
        });
        const seconds = (performance.now() - began) / 1000;
        const { precision, bands, rows } = choice;
        const said: Decoded = { autoencoder: path, precision, bands, rows, seconds, peakBytes: meter.bytes };
        return { samples: { ...samples, ...pictures }, said };
      } finally {
        meter.stop();
        line.end();
      }
    },
  };
}

/**
 * The decoder that the flags ask for, for a model; undefined where they ask for none.
 * @throws ConfigError for another model's, and for --decode-precision without --decode; CheckpointError
 */
export async function openDecoding(
  { decode: path, decodePrecision: precision }: DecodeFlags,
  { config, metadata, path: file }: Pick<ModelSource, 'config' | 'metadata'> & { readonly path: string },
) {
  checkOneOf('--decode-precision', precision, DECODER_PRECISIONS);
  if (path === undefined) {
    if (precision === undefined) return undefined;
    throw new ConfigError('--decode-precision says how the decoder is stored, and there is none', {
      hint: 'give it with --decode FILE',
    });
  }
  const latents = await openLatents(path, precision, config, originIn(metadata, file));
  return {
    ...latents,
    /** Settings of the sampler and the decoder, one after the other, within the engine's memory limit. */
    chooseBoth: (engine: Engine, wanted: Wanted, { request, ...how }: Choosing & { request: SampleRequest }) =>
      trying(how, (options) =>
        chooseDecoded(engine, config, wanted, latents.wanted, request, engine.memory.limit, options),
      ),
  };
}

/** What decoding took, in words. */
export const describeDecoded = ({ seconds, peakBytes }: Decoded): string =>
  `decoded in ${seconds.toFixed(1)} s within ${bytes(peakBytes)}`;
