/** The TAESD family (github.com/madebyollin/taesd; diffusers' AutoencoderTiny): layers, told from the names and shapes of the tensors. */
import { CheckpointError } from '../../engine/errors.ts';
import type { Layer } from './layers.ts';
import type { AutoencoderNetwork, Half } from './network.ts';

type Shapes = ReadonlyMap<string, readonly number[]>;

/** Latents within this limit stay nearly as they are in the decoder. */
const CLAMP = 3;

/** Indices of the modules that have parameters, ascending: ReLU and upsampling leave gaps. */
function modules(shapes: Shapes, half: Half): number[] {
  const found = new Set<number>();
  for (const name of shapes.keys()) {
    const match = new RegExp(`^${half}\\.layers\\.(\\d+)\\.`).exec(name);
    if (match) found.add(Number(match[1]));
  }
  return [...found].sort((a, b) => a - b);
}

/** A half's layers; convolutions without a bias change the size. @throws CheckpointError for other modules than the family has. */
function halfLayers(shapes: Shapes, half: Half, file: string): Layer[] | null {
  const at = modules(shapes, half);
  if (at.length === 0) return null;
  const [first, last] = [at[0]!, at.at(-1)!];
  const layers = at.map((index): Layer => {
    const name = `${half}.layers.${index}`;
    const block = shapes.get(`${name}.conv.0.weight`);
    if (block) {
      const [channels = 0] = block;
      return { kind: 'block', name, channels, pool: shapes.get(`${name}.pool.0.weight`)?.[0] ?? 0 };
    }
    const [output, input] = shapes.get(`${name}.weight`) ?? [];
    if (output === undefined || input === undefined) {
      throw new CheckpointError(`${file}: ${name} is no module of a TAESD ${half}`, {
        hint: 'autoencoders of the TAESD family and AutoencoderKL are supported',
      });
    }
    const layer = { kind: 'convolution', name, input, output, side: 3 } as const;
    if (shapes.has(`${name}.bias`)) {
      return half === 'decoder' && index === first && index !== last ? { ...layer, activation: 'relu' } : layer;
    }
    return half === 'encoder' ? { ...layer, bias: false, stride: 2 } : { ...layer, bias: false, upsample: true };
  });
  // The network itself works on pictures in [0, 1].
  return half === 'encoder'
    ? [{ kind: 'range', scale: 0.5, shift: 0.5 }, ...layers]
    : [{ kind: 'clamp', limit: CLAMP }, ...layers, { kind: 'range', scale: 2, shift: -1 }];
}

const convolutions = (layers: readonly Layer[] | null) =>
  (layers ?? []).filter((layer) => layer.kind === 'convolution');

/**
 * The network by its tensors' shapes under diffusers' names (`encoder.layers.0.weight`).
 * @throws CheckpointError for halves that do not fit each other, or other modules than the family has.
 */
export function tinyNetwork(
  shapes: Shapes,
  file: string,
  scaling: AutoencoderNetwork['scaling'] = { factor: 1, shift: 0 },
): AutoencoderNetwork {
  const [encoder, decoder] = (['encoder', 'decoder'] as const).map((half) => halfLayers(shapes, half, file));
  const [encoding, decoding] = [convolutions(encoder!), convolutions(decoder!)];
  const sizes = [
    encoding.length > 0 && [encoding[0]!.input, encoding.at(-1)!.output, encoding.filter((l) => l.stride).length],
    decoding.length > 0 && [decoding.at(-1)!.output, decoding[0]!.input, decoding.filter((l) => l.upsample).length],
  ].filter((found): found is number[] => found !== false);
  const [found, other] = sizes;
  if (found === undefined) throw new CheckpointError(`${file}: there is no convolution of a TAESD in it`);
  if (other !== undefined && `${found}` !== `${other}`) {
    const of = ([pictures, latents, halvings]: number[]) =>
      `${pictures} channels, ${latents} of latents and ${halvings} halvings`;
    throw new CheckpointError(`${file}: the encoder has ${of(found)}, the decoder ${of(other)}`, {
      hint: 'give an encoder and a decoder that belong together',
    });
  }
  const [pictureChannels, latentChannels, halvings] = found as [number, number, number];
  return {
    ...{ family: 'tiny', encoder: encoder!, decoder: decoder!, pictureChannels, latentChannels, scaling },
    factor: 2 ** halvings,
  };
}
