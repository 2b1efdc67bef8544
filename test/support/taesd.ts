/** A small autoencoder of the TAESD family, for tests. */
import { type ImportedAutoencoder, importAutoencoder } from '../../model/autoencoder/import.ts';
import { tinyNetwork } from '../../model/autoencoder/tiny.ts';
import { foreignWeights } from './autoencoder.ts';

/** Encoder and decoder of two levels, with group norm beside the blocks at the lower one, of a few thousand parameters; latents of `channels`. */
export function smallTaesd(channels = 4) {
  const shapes = new Map<string, readonly number[]>();
  const conv = (name: string, input: number, output: number, side = 3, bias = true) => {
    shapes.set(`${name}.weight`, [output, input, side, side]);
    if (bias) shapes.set(`${name}.bias`, [output]);
  };
  const block = (name: string, pool: number) => {
    if (pool > 0) {
      conv(`${name}.pool.0`, 8, pool, 1, false);
      for (const part of ['weight', 'bias']) shapes.set(`${name}.pool.1.${part}`, [pool]);
      conv(`${name}.pool.3`, pool, 8, 1, false);
    }
    for (const i of [0, 2, 4]) conv(`${name}.conv.${i}`, 8, 8);
  };
  conv('encoder.layers.0', 3, 8);
  block('encoder.layers.1', 0);
  conv('encoder.layers.2', 8, 8, 3, false);
  block('encoder.layers.3', 16);
  conv('encoder.layers.4', 8, channels);
  conv('decoder.layers.0', channels, 8);
  block('decoder.layers.2', 16);
  conv('decoder.layers.4', 8, 8, 3, false);
  block('decoder.layers.5', 0);
  conv('decoder.layers.6', 8, 3);
  return tinyNetwork(shapes, 'taesd.safetensors');
}

export const importedTaesd = (): Promise<ImportedAutoencoder> => importAutoencoder([foreignWeights(smallTaesd())]);
