/** `odelt sample --decode`: the autoencoder that makes pictures of a model's latents, and the pictures. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import { originIn } from '../model/autoencoder/origin.ts';
import { spreadProblem } from '../model/autoencoder/spread.ts';
import type { ModelSource } from '../model/weights/source.ts';
import type { Choice, Wanted } from '../sampling/budget.ts';
import {
  chooseDecoded,
  chooseDecoder,
  DECODER_PRECISIONS,
  type DecoderChoice,
  type DecoderPrecision,
  decodeSamples,
} from '../sampling/decoding.ts';
import { checkOneOf, type SampleRequest } from '../sampling/request.ts';
import type { Samples } from '../sampling/sampler.ts';
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
  const { imported, shown } = await openDecoder(path, config, originIn(metadata, file));
  const { network } = imported;
  const decoder = { network, precision };
  const trying = (line: ProgressLine) => {
    const began = performance.now();
    return (what: string) => {
      if (performance.now() - began > SILENT_MS) line.update(`trying ${what}`);
    };
  };
  return {
    shown,
    /** Settings of the sampler and the decoder within the engine's memory limit, or of the decoder alone where the sampler's are given. */
    async choose(
      engine: Engine,
      {
        wanted,
        request,
        line,
        signal,
      }: { wanted?: Wanted; request: SampleRequest; line: ProgressLine; signal: AbortSignal },
    ): Promise<{ sampling?: Choice; choice: DecoderChoice }> {
      const { limit } = engine.memory;
      const options = { signal, onTry: trying(line) };
      try {
        if (!wanted) return { choice: await chooseDecoder(engine, decoder, config.imageSize, limit, options) };
        const found = await chooseDecoded(engine, config, wanted, decoder, request, limit, options);
        return { sampling: found.sampling, choice: found.decoder };
      } finally {
        line.end();
      }
    },
    /** Samples as pictures; warns where they are of another scale. Nothing of the sampler may be on the GPU any more. */
    async decode(engine: Engine, samples: Samples, choice: DecoderChoice, line: ProgressLine, signal: AbortSignal) {
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

/** What decoding took, in words. */
export const describeDecoded = ({ seconds, peakBytes }: Decoded): string =>
  `decoded in ${seconds.toFixed(1)} s within ${bytes(peakBytes)}`;
