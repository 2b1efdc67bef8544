/** What an autoencoder of latents is: an encoder and a decoder as lists of layers, and how its latents are scaled for a model of them. */
import type { ParamGroup, ParamLayout, ParamSpec } from '../params.ts';
import { ALIGNMENT } from '../params.ts';
import { type Layer, layerParams } from './layers.ts';

/** Half of an autoencoder; a file may hold one of them alone. */
export const HALVES = ['encoder', 'decoder'] as const;
/** One of `HALVES`. */
export type Half = (typeof HALVES)[number];

/** An autoencoder, described. */
export interface AutoencoderNetwork {
  /** `kl`: AutoencoderKL, of Stable Diffusion and others; `tiny`: the TAESD family. */
  readonly family: 'kl' | 'tiny';
  /** The layers of each half, from pictures in [-1, 1] to latents and back; null where it is not there. */
  readonly encoder: readonly Layer[] | null;
  readonly decoder: readonly Layer[] | null;
  readonly pictureChannels: number;
  readonly latentChannels: number;
  /** Pixels of a picture, across and down, for each of its latent. */
  readonly factor: number;
  /** A model of latents works on (latent - shift) * factor. */
  readonly scaling: { readonly factor: number; readonly shift: number };
}

const INIT = { kind: 'zero' } as const;

/** Where the parameters lie: one group for each half that there is. */
export function autoencoderLayout(network: AutoencoderNetwork): ParamLayout {
  const groups = HALVES.flatMap((half): ParamGroup[] => {
    const layers = network[half];
    if (!layers) return [];
    let length = 0;
    const specs = layers.flatMap(layerParams).map(({ name, shape }): ParamSpec => {
      const size = shape.reduce((a, b) => a * b, 1);
      const spec = { name, shape, size, offset: length, init: INIT };
      length += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
      return spec;
    });
    return [{ name: half, specs, length }];
  });
  const count = groups.reduce((sum, { specs }) => sum + specs.reduce((s, { size }) => s + size, 0), 0);
  return { groups, count };
}
