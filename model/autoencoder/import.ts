/** An autoencoder from files of weights: which network they are of, and its parameters in the order and orientation of ours. */
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { firstNonFinite } from '../../formats/finite.ts';
import { floatsOf } from '../../formats/stored-tensor.ts';
import { type ParamSet, paramEntries, zeroParams } from '../params.ts';
import type { ForeignWeights } from '../weights/imports/foreign.ts';
import { ASSUMED_SCALE, klConfigOf, klNetwork, parseKlConfig } from './kl.ts';
import { type NamedWeights, namedWeights } from './names.ts';
import { type AutoencoderNetwork, autoencoderLayout } from './network.ts';
import { tinyNetwork } from './tiny.ts';

/** A network with its parameters in host memory. */
export interface ImportedAutoencoder {
  readonly network: AutoencoderNetwork;
  readonly params: ParamSet;
  /** What the files and their configuration do not say and was assumed, in words; absent where all is said. */
  readonly assumed?: string;
}

/** [output, input, side, side] or [output, input] to [side, side, input, output]. */
function turned(
  values: Float32Array,
  [side, , input, output]: readonly [number, number, number, number],
): Float32Array {
  const taps = side * side;
  const out = new Float32Array(values.length);
  for (let o = 0, from = 0; o < output; o++) {
    for (let i = 0; i < input; i++) {
      for (let tap = 0; tap < taps; tap++) out[(tap * input + i) * output + o] = values[from++]!;
    }
  }
  return out;
}

/** The shape that a file has for a parameter of ours, without axes of 1 at the end: dense layers may be 1 x 1 convolutions. */
const theirShape = (shape: readonly number[]): string => {
  const [side, , input, output] = shape.length === 2 ? [1, 1, ...shape] : shape;
  return shape.length === 1 ? `${shape}` : `${withoutOnes([output!, input!, side!, side!])}`;
};

const withoutOnes = (shape: readonly number[]): readonly number[] =>
  shape.length === 4 && shape[2] === 1 && shape[3] === 1 ? shape.slice(0, 2) : shape;

function networkOf({ family, tensors }: NamedWeights, file: string, config: unknown): AutoencoderNetwork {
  const shapes = new Map([...tensors].map(([name, { tensor }]) => [name, tensor.shape]));
  const kind = (config as { _class_name?: unknown } | undefined)?._class_name;
  const wanted = family === 'kl' ? 'AutoencoderKL' : 'AutoencoderTiny';
  if (kind !== undefined && kind !== wanted) {
    throw new ConfigError(`${file} holds an ${wanted}; the configuration is of '${String(kind)}'`, {
      hint: 'give the config.json that lies beside the weights',
    });
  }
  if (family === 'tiny') {
    const { scaling_factor: factor = 1, shift_factor: shift = 0 } = (config ?? {}) as Record<string, unknown>;
    if (typeof factor !== 'number' || !(factor > 0)) {
      throw new ConfigError(`the autoencoder's configuration: scaling_factor is ${JSON.stringify(factor)}`);
    }
    return tinyNetwork(shapes, file, { factor, shift: typeof shift === 'number' ? shift : 0 });
  }
  const has = (half: string) => [...shapes.keys()].some((name) => name.startsWith(`${half}.`));
  const halves = { encoder: has('encoder'), decoder: has('decoder') };
  return klNetwork(config === undefined ? klConfigOf(shapes, file) : parseKlConfig(config), halves);
}

/**
 * Reads an autoencoder from files that hold it together: one, or an encoder and a decoder. `config`: diffusers' config.json, parsed; without
 * it sizes come from the tensors, and groups and scale are Stable Diffusion's.
 * @throws CheckpointError for tensors of another network or that are missing, misshapen, too many or not finite; ConfigError for a configuration that
 * is of none, or that must be given.
 */
export async function importAutoencoder(
  files: readonly ForeignWeights[],
  config?: unknown,
): Promise<ImportedAutoencoder> {
  const named = files.map(namedWeights);
  const [first] = named;
  const file = files.map((weights) => weights.file).join(' and ');
  if (first === undefined) throw new ConfigError('no file of an autoencoder is given');
  if (named.some(({ family }) => family !== first.family)) {
    throw new CheckpointError(`${file} are of autoencoders of different families`);
  }
  const tensors = new Map(named.flatMap((weights) => [...weights.tensors]));
  if (tensors.size < named.reduce((sum, weights) => sum + weights.tensors.size, 0)) {
    throw new CheckpointError(`${file} hold the same half of an autoencoder twice`);
  }
  const network = networkOf({ family: first.family, tensors }, file, config);
  const layout = autoencoderLayout(network);
  const wanted = new Set(layout.groups.flatMap(({ specs }) => specs.map(({ name }) => name)));
  for (const group of layout.groups) {
    for (const { name, shape } of group.specs) {
      const found = tensors.get(name);
      if (!found) {
        throw new CheckpointError(`${file}: there is no tensor for ${name}`, {
          hint: 'the weights are of another autoencoder than the configuration, or only a part of them',
        });
      }
      if (`${withoutOnes(found.tensor.shape)}` !== theirShape(shape)) {
        throw new CheckpointError(
          `${file}: ${found.given} has shape [${found.tensor.shape}], the autoencoder needs [${theirShape(shape)}]`,
          { hint: 'the weights are of another autoencoder than the configuration' },
        );
      }
    }
  }
  const stranger = [...tensors].find(([name]) => !wanted.has(name))?.[1].given;
  if (stranger !== undefined) {
    throw new CheckpointError(`${file}: nothing here has a use for ${stranger}`, {
      hint: 'the weights are of another autoencoder than the configuration',
    });
  }
  const bytes = files.reduce((sum, weights) => sum + weights.bytes, 0);
  const taken = [...tensors.values()].reduce((sum, { tensor }) => sum + tensor.bytes, 0);
  if (taken > bytes) throw new CheckpointError(`${file}: its tensors take ${taken} bytes, the file has ${bytes}`);
  const params = zeroParams(layout);
  for (const { spec, values } of paramEntries(params)) {
    const { tensor, given } = tensors.get(spec.name)!;
    const read = await floatsOf(tensor, `${file}: ${given}`);
    const bad = firstNonFinite(read);
    if (bad >= 0) {
      throw new CheckpointError(`${file}: ${given} holds ${read[bad]}, its value ${bad}`, {
        hint: 'the weights are damaged, or were when they were written: fetch them again',
      });
    }
    const { shape } = spec;
    if (shape.length === 1) values.set(read);
    else if (shape.length === 2) values.set(turned(read, [1, 1, shape[0]!, shape[1]!]));
    else values.set(turned(read, shape as [number, number, number, number]));
  }
  return { network, params, ...(first.family === 'kl' && config === undefined ? { assumed: ASSUMED_SCALE } : {}) };
}
