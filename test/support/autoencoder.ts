/** Autoencoders of latents for tests: their weights as a file of somebody else's would hold them, and networks of a few thousand parameters. */
import { contiguousStrides, type StoredTensor } from '../../formats/stored-tensor.ts';
import { type ImportedAutoencoder, importAutoencoder } from '../../model/autoencoder/import.ts';
import { klNetwork, parseKlConfig } from '../../model/autoencoder/kl.ts';
import { type AutoencoderNetwork, autoencoderLayout } from '../../model/autoencoder/network.ts';
import { tinyNetwork } from '../../model/autoencoder/tiny.ts';
import type { ForeignWeights } from '../../model/weights/imports/foreign.ts';
import { normals } from './normals.ts';

/** diffusers' config.json of a small AutoencoderKL. */
export const SMALL_KL = {
  ...{ _class_name: 'AutoencoderKL', block_out_channels: [8, 12], layers_per_block: 1, norm_num_groups: 4 },
  ...{ latent_channels: 4, scaling_factor: 0.5, shift_factor: 0.25 },
};

export const smallKl = (): AutoencoderNetwork => klNetwork(parseKlConfig(SMALL_KL), { encoder: true, decoder: true });

/** Random weights of a network in PyTorch's orientation, under the names that `rename` gives; null leaves one out. */
export function foreignWeights(
  network: AutoencoderNetwork,
  rename: (name: string) => string | null = (name) => name,
): ForeignWeights {
  const normal = normals(5);
  const tensors = new Map<string, StoredTensor>();
  let bytes = 0;
  for (const { name: ours, shape: turned, size } of autoencoderLayout(network).groups.flatMap(({ specs }) => specs)) {
    const [side, , input, output] = turned as [number, number, number, number];
    const shape = turned.length === 4 ? [output, input, side, side] : [...turned].reverse();
    const [offset, scale] = /norm\w*\.weight$/.test(ours) ? [1, 0.2] : [0, 1 / Math.sqrt(size / shape[0]!)];
    const values = Float32Array.from({ length: size }, () => offset + scale * normal());
    const name = rename(ours);
    if (name === null) continue;
    const stored = new Uint8Array(values.buffer);
    tensors.set(name, {
      ...{ type: 'F32', shape, strides: contiguousStrides(shape), bytes: stored.length },
      load: async () => stored,
    });
    bytes += stored.length;
  }
  return { tensors, bytes, file: 'vae.safetensors' };
}

export const importedKl = (): Promise<ImportedAutoencoder> => importAutoencoder([foreignWeights(smallKl())], SMALL_KL);

/** A TAESD of two channels more than pictures have, which halves their size once; its encoder alone. */
export function smallTiny(): AutoencoderNetwork {
  const convolution = (at: number, output: number, input: number): [string, number[]] => [
    `encoder.layers.${at}.weight`,
    [output, input, 3, 3],
  ];
  return tinyNetwork(
    new Map([
      convolution(0, 4, 3),
      ['encoder.layers.0.bias', [4]],
      convolution(1, 4, 4),
      convolution(2, 5, 4),
      ['encoder.layers.2.bias', [5]],
    ]),
    'taesd.safetensors',
  );
}
