/** The decoder as samples of a model of latents need it: what they become, whether it is theirs, and the work itself. */
import type { Engine } from '../../engine/engine.ts';
import { ConfigError } from '../../engine/errors.ts';
import type { ModelConfig } from '../config.ts';
import { type AutoencoderOptions, autoencoderPeak, createAutoencoder, type PictureBatch } from './autoencoder.ts';
import type { ImportedAutoencoder } from './import.ts';
import { autoencoderLayout } from './network.ts';
import { type LatentsOrigin, originOf } from './origin.ts';

/** Makes pictures of a model's samples. */
export interface Decoder {
  /** SHA-256 of the decoder's parameters, hexadecimal. */
  readonly digest: string;
  /** Side and channels of the pictures. */
  readonly shown: Pick<ModelConfig, 'imageSize' | 'channels'>;
  /** Most bytes on the GPU while it decodes, its weights included. */
  readonly peakBytes: number;
  /** Latents [n, h, w, channels] as the model makes them to pictures [n, H, W, 3] about [-1, 1]. @throws as `Autoencoder.decode` */
  decode(latents: PictureBatch): Promise<PictureBatch>;
  /** Frees what it has on the GPU. */
  dispose(): void;
}

/** What samples of a model become. @throws ConfigError for an autoencoder without decoder, or of other latents than the model makes. */
export function decodedShape(
  model: Pick<ModelConfig, 'imageSize' | 'channels'>,
  { network }: Pick<ImportedAutoencoder, 'network'>,
): Pick<ModelConfig, 'imageSize' | 'channels'> {
  const { decoder, latentChannels, pictureChannels, factor } = network;
  if (!decoder) throw new ConfigError('the autoencoder has no decoder', { hint: 'give the file that holds it' });
  if (latentChannels !== model.channels) {
    throw new ConfigError(
      `the model makes latents of ${model.channels} channels; the autoencoder decodes those of ${latentChannels}`,
      { hint: 'use the autoencoder that the latents were made with' },
    );
  }
  return { imageSize: model.imageSize * factor, channels: pictureChannels };
}

/** The same without its encoder. The autoencoder must have a decoder. */
export function decoderAlone({ network, params }: ImportedAutoencoder): ImportedAutoencoder {
  const alone = { ...network, encoder: null };
  const at = params.layout.groups.findIndex(({ name }) => name === 'decoder');
  return { network: alone, params: { layout: autoencoderLayout(alone), groups: [params.groups[at]!] } };
}

/** What is to be said where latents come from another autoencoder than decodes them; undefined where it may be the same. */
export function foreignDecoder(made: LatentsOrigin | undefined, own: LatentsOrigin): string | undefined {
  if (!made) return undefined;
  const differs = (a: string | null, b: string | null) => a !== null && b !== null && a !== b;
  if (made.family === own.family && !differs(made.encoder, own.encoder) && !differs(made.decoder, own.decoder)) {
    const [a, b] = [made.scaling, own.scaling];
    if (a.factor === b.factor && a.shift === b.shift) return undefined;
    return `the latents were scaled by ${a.factor} (shift ${a.shift}), the decoder takes them as scaled by ${b.factor} (shift ${b.shift})`;
  }
  return 'the latents that the model was trained on come from another autoencoder than this one: pictures may look odd';
}

/** A decoder beside a model. */
export interface DecoderMatch {
  /** Side and channels of the pictures that the model's samples become. */
  readonly shown: Pick<ModelConfig, 'imageSize' | 'channels'>;
  /** As `foreignDecoder`; where nothing is known of the latents, what was assumed of the decoder. */
  readonly warning: string | undefined;
}

/** Holds a decoder to a model, whose latents come from `origin`, where that is known. @throws ConfigError as `decodedShape`. */
export async function matchDecoder(
  model: Pick<ModelConfig, 'imageSize' | 'channels'>,
  imported: ImportedAutoencoder,
  origin: LatentsOrigin | undefined,
): Promise<DecoderMatch> {
  const shown = decodedShape(model, imported);
  const { assumed } = imported;
  if (!origin) return { shown, warning: assumed };
  const foreign = foreignDecoder(origin, await originOf(imported));
  return { shown, warning: foreign && assumed ? `${foreign}; ${assumed}` : foreign };
}

/**
 * Puts the decoder on the GPU for the samples of a model.
 * @throws ConfigError as `decodedShape`; LimitError, OutOfMemoryError, NonFiniteError as `createAutoencoder`.
 */
export async function createDecoder(
  engine: Engine,
  model: Pick<ModelConfig, 'imageSize' | 'channels'>,
  imported: ImportedAutoencoder,
  options: Omit<AutoencoderOptions, 'halves'> = {},
): Promise<Decoder> {
  const shown = decodedShape(model, imported);
  const { imageSize: side } = model;
  const { decoder } = await originOf(imported);
  const peakBytes = await autoencoderPeak(engine, imported.network, 'decoder', [side, side], options);
  const autoencoder = await createAutoencoder(engine, imported, { ...options, halves: ['decoder'] });
  return {
    digest: decoder!,
    shown,
    peakBytes,
    decode: (latents) => autoencoder.decode(latents),
    dispose: () => autoencoder.dispose(),
  };
}
