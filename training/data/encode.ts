/** Encodes a data set into a folder of latents, shard by shard: an interrupted run goes on after the last whole one, with the same bytes. */
import { createHash } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, InterruptedError, NonFiniteError } from '../../engine/errors.ts';
import { normals } from '../../engine/philox.ts';
import { concatenated } from '../../formats/bytes.ts';
import { checkOutput, digestOfFile, failAs, TEMPORARY, writeAtomically, writeText } from '../../formats/files.node.ts';
import { firstNonFinite } from '../../formats/finite.ts';
import { fromHalf, toHalf } from '../../formats/half.ts';
import { safetensorsChunks, type TensorToWrite } from '../../formats/safetensors.ts';
import type { Autoencoder } from '../../model/autoencoder/autoencoder.ts';
import { gaussianOf, gaussianSample } from '../../model/autoencoder/gaussian.ts';
import type { AutoencoderNetwork } from '../../model/autoencoder/network.ts';
import type { LatentsOrigin } from '../../model/autoencoder/origin.ts';
import { addToSums, type Sums } from '../../model/autoencoder/spread.ts';
import { readBatches } from '../batches.ts';
import { inLockedFolder } from '../lock.node.ts';
import { type DataShape, isPaired, isStreamed, latentsOrigin, type TrainingData } from './dataset.ts';
import { fingerprint } from './fingerprint.node.ts';
import {
  LATENTS_INDEX,
  type LatentsFolder,
  type LatentsRecipe,
  type LatentsShard,
  latentsDone,
  latentTensors,
  readLatentsIndex,
} from './latents.ts';
import { dataOrder } from './order.ts';

/** Pictures are put into shards in a shuffled order, so that each is a sample of all: this seed's, as `readBatches` has it. */
const SEED = 0x656e6364;
/** Stream of the samples that are stored: 'once', as ASCII. */
const SAMPLE_STREAM = 0x6f6e6365;
/** Pictures of a shard where nobody says. */
const SHARD = 256;

/** How pictures are encoded. */
export interface EncodeOptions {
  /** Where to; made if it is not there. */
  readonly folder: string;
  /** What the latents are to remember of the autoencoder (`originOf`). */
  readonly origin: LatentsOrigin;
  /** How the autoencoder's weights are stored. Default f32. */
  readonly precision?: 'f32' | 'f16';
  /** Encode each picture mirrored as well, so that training can mirror (`training.flip`). Default false. */
  readonly flip?: boolean;
  /**
   * Store one sample of each picture's Gaussian, drawn with this seed, in place of its mean and log variance: half the bytes, and training sees
   * the same latents every time. Of a mirrored picture the sample is another one. Default: none is drawn.
   */
  readonly samples?: number | undefined;
  /** How latents are stored. Default F32. */
  readonly dtype?: 'F32' | 'F16';
  /** Pictures of a shard. Default 256. */
  readonly shard?: number;
  readonly signal?: AbortSignal;
  /** Told after each picture how many there are, those of earlier runs included. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Refuses pictures that an autoencoder cannot encode, before any is read.
 * @throws ConfigError for an autoencoder without encoder, pictures of other channels, or no multiple of its factor.
 */
export function checkEncodes(network: AutoencoderNetwork, { name, height, width, channels }: DataShape): void {
  const { encoder, factor, pictureChannels } = network;
  if (!encoder) {
    throw new ConfigError('the autoencoder has no encoder', { hint: 'give the file that holds it' });
  }
  if (channels !== pictureChannels) {
    throw new ConfigError(
      `the pictures of '${name}' have ${channels} channels; the autoencoder takes ${pictureChannels}`,
    );
  }
  if (height % factor === 0 && width % factor === 0) return;
  throw new ConfigError(
    `the pictures of '${name}' are ${width} x ${height}: no multiple of the autoencoder's ${factor} pixels`,
    { hint: `cut or scale them to multiples of ${factor}: encoded pictures by their size, such as ${8 * factor}` },
  );
}

/** What the folder is to hold. @throws ConfigError, UsageError */
function recipeOf({ network }: Autoencoder, data: TrainingData, options: EncodeOptions): LatentsRecipe {
  checkEncodes(network, data);
  if (isPaired(data) || latentsOrigin(data)) {
    throw new ConfigError(`'${data.name}' holds latents already`, { hint: 'give the pictures' });
  }
  const {
    origin: autoencoder,
    precision = 'f32',
    flip: flips = false,
    dtype = 'F32',
    shard = SHARD,
    samples,
  } = options;
  if (!(Number.isInteger(shard) && shard >= 1)) throw new ConfigError(`shards of ${shard} pictures`);
  const { factor, latentChannels: channels, family } = network;
  if (samples !== undefined && family !== 'kl') {
    throw new ConfigError('the TAESD family gives latents, and no Gaussians that samples could be drawn of', {
      hint: 'leave out samples',
    });
  }
  if (samples !== undefined && !(Number.isInteger(samples) && samples >= 0 && samples < 2 ** 32)) {
    throw new ConfigError(`the seed of samples is ${samples}; it must be an integer from 0 to 2^32 - 1`);
  }
  return {
    ...{ pictures: fingerprint(data), autoencoder, precision },
    ...{ height: data.height / factor, width: data.width / factor, channels },
    ...{ gaussian: family === 'kl' && samples === undefined, ...(samples !== undefined && { samples }) },
    ...{ flips, dtype, shard },
  };
}

/** What two recipes do not share, in words. */
function differences(before: LatentsRecipe, now: LatentsRecipe): string[] {
  const { name: a, ...old } = before.pictures;
  const { name: b, ...own } = now.pictures;
  const same = (x: unknown, y: unknown) => JSON.stringify(x) === JSON.stringify(y);
  const what: Record<string, boolean> = {
    [`pictures ('${a}', now '${b}')`]: same(old, own),
    autoencoder: same(before.autoencoder, now.autoencoder),
  };
  for (const key of ['precision', 'height', 'width', 'channels', 'samples', 'flips', 'dtype', 'shard'] as const)
    what[`${key} (${before[key] ?? 'none'}, now ${now[key] ?? 'none'})`] = before[key] === now[key];
  return Object.keys(what).filter((key) => !what[key]);
}

/** The shards at the beginning that are as they were written; what follows a damaged one is made again. */
async function wholeShards(folder: string, { shards }: LatentsFolder): Promise<LatentsShard[]> {
  const good: LatentsShard[] = [];
  for (const shard of shards) {
    const path = join(folder, shard.file);
    const info = await stat(path).catch(() => null);
    if (info?.size !== shard.bytes || (await digestOfFile(path, failAs(ConfigError, path))) !== shard.sha256) break;
    good.push(shard);
  }
  return good;
}

/** What the folder holds already of this recipe. @throws ConfigError for a folder of something else */
async function before(folder: string, recipe: LatentsRecipe): Promise<readonly LatentsShard[]> {
  const names = await readdir(folder);
  const isOwn = (name: string) =>
    TEMPORARY.test(name) && /^(latents\.json|shard-\d+\.safetensors)$/.test(name.replace(TEMPORARY, ''));
  for (const name of names.filter(isOwn)) await rm(join(folder, name), { force: true });
  if (!names.includes(LATENTS_INDEX)) {
    const stranger = names.find((name) => !name.startsWith('.') && name !== 'lock' && !isOwn(name));
    if (stranger === undefined) return [];
    throw new ConfigError(`${folder} holds other files, such as ${stranger}`, {
      hint: 'give a folder that is empty or not there',
    });
  }
  const index = await readLatentsIndex(folder);
  const other = differences(index.recipe, recipe);
  if (other.length === 0) return wholeShards(folder, index);
  const { pixels } = recipe.pictures;
  const others = differences({ ...index.recipe, pictures: { ...index.recipe.pictures, pixels } }, recipe);
  const repaired = `if only pictures that could not be read were replaced, go on with "pixels": "${pixels}" in its ${LATENTS_INDEX}`;
  throw new ConfigError(`${folder} holds other latents; what differs: ${other.join(', ')}`, {
    hint: `give the options that it was begun with, or another folder${others.length === 0 ? `; ${repaired}` : ''}`,
  });
}

/**
 * Encodes all pictures of a data set, in a shuffled order, into `folder`, which `openTrainingData` then reads. A folder that an
 * interrupted run left goes on after its last whole shard; one that is whole is left as it is. A full disk leaves whole files.
 * @throws ConfigError for pictures that the autoencoder cannot take, or a folder of something else, before anything is encoded; OutputError;
 * DataError for a picture that cannot be read; NonFiniteError for one of which no finite latents come; InterruptedError; what `Autoencoder.encode` throws.
 */
export async function encodeLatents(
  autoencoder: Autoencoder,
  data: TrainingData,
  options: EncodeOptions,
): Promise<LatentsFolder> {
  const { folder } = options;
  const recipe = recipeOf(autoencoder, data, options);
  await checkOutput('the folder of latents', folder, { folder: true });
  return inLockedFolder(folder, () => encodeInto(autoencoder, data, recipe, options));
}

/** Encodes what the locked folder lacks. */
async function encodeInto(
  autoencoder: Autoencoder,
  data: TrainingData,
  recipe: LatentsRecipe,
  { folder, signal, onProgress }: EncodeOptions,
): Promise<LatentsFolder> {
  const shards = [...(await before(folder, recipe))];
  const state = (): LatentsFolder => ({ format: 'odelt latents 1', recipe, shards: [...shards] });
  const save = () => writeText(join(folder, LATENTS_INDEX), `${JSON.stringify(state(), null, 1)}\n`);
  const total = data.count;
  let done = latentsDone(state());
  if (done > 0) onProgress?.(done, total);
  if (done === total) return state();
  await save();
  const batches = readBatches(data, { seed: SEED, first: done });
  const order = dataOrder({ count: total, seed: SEED, groups: isStreamed(data) ? data.groups : undefined });
  try {
    while (done < total) {
      const count = Math.min(recipe.shard, total - done);
      const sums = { count: 0, sum: 0, squares: 0 };
      const next = async (k: number, image: Float32Array, label: Uint32Array) => {
        if (k > 0) onProgress?.(done + k, total);
        if (!signal?.aborted) return batches.next(image, label);
        throw new InterruptedError(`encoding was interrupted after ${done + k} of ${total} pictures`, {
          hint: `the same command goes on after the ${done} pictures of whole shards`,
        });
      };
      const begun = done;
      const nameOf = (k: number) => `picture ${order.at(begun + k).index} of '${data.name}'`;
      const tensors = await encodeShard(autoencoder, recipe, [done, count], next, nameOf, sums);
      const bytes = concatenated([...safetensorsChunks(tensors)]);
      const file = `shard-${String(shards.length).padStart(5, '0')}.safetensors`;
      await writeAtomically(join(folder, file), [bytes]);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      const { sum, squares } = sums;
      shards.push({ file, count, bytes: bytes.length, sha256, sum, squares });
      await save();
      done += count;
      onProgress?.(done, total);
    }
  } finally {
    await batches.close();
  }
  return state();
}

/** The tensors of `count` pictures from number `first` on, which `next` gives, and `nameOf` names, by their numbers in the shard. */
async function encodeShard(
  autoencoder: Autoencoder,
  recipe: LatentsRecipe,
  [first, count]: readonly [number, number],
  next: (k: number, image: Float32Array, label: Uint32Array) => Promise<void>,
  nameOf: (k: number) => string,
  sums: Sums,
): Promise<TensorToWrite[]> {
  const { height, width, channels, flips, dtype } = recipe;
  const { height: rows, width: columns, channels: colours } = recipe.pictures;
  const { factor, shift } = recipe.autoencoder.scaling;
  const size = height * width * channels;
  const names = latentTensors(recipe);
  const values = names.map(() => new Float32Array(count * size));
  const labels = new Int32Array(count);
  const picture = new Float32Array(rows * columns * colours);
  const label = new Uint32Array(1);
  for (let k = 0; k < count; k++) {
    await next(k, picture, label);
    labels[k] = label[0]!;
    const sides = flips ? [picture, mirrored(picture, columns, colours)] : [picture];
    const parts: Float32Array[] = [];
    for (const [s, side] of sides.entries()) {
      const { values: found } = await autoencoder
        .raw('encoder', { values: side, shape: [1, rows, columns, colours] })
        .catch((cause: unknown) => {
          if (!(cause instanceof NonFiniteError)) throw cause;
          const { hint } = cause;
          throw new NonFiniteError(`${nameOf(k)}: the autoencoder's encoder gave no finite numbers`, { cause, hint });
        });
      const stored = storedParts(found, recipe, 2 * (first + k) + s);
      const scaled = stored[0]!.map((value) => (value - shift) * factor);
      if (dtype === 'F16' && stored.some((part) => firstNonFinite(fromHalf(toHalf(part))) >= 0)) {
        throw new NonFiniteError(`${nameOf(k)}: its latents are beyond what f16 holds`, { hint: 'store them as f32' });
      }
      addToSums(sums, scaled);
      parts.push(...stored);
    }
    parts.forEach((part, p) => {
      values[p]!.set(part, k * size);
    });
  }
  return [
    ...names.map((name, p) => ({ name, shape: [count, height, width, channels], dtype, values: values[p]! })),
    { name: 'labels', shape: [count], dtype: 'I32', values: labels },
  ];
}

/** What is kept of an encoder's result, as `latentTensors` names it; `step` tells the draws of samples apart. */
function storedParts(
  found: Float32Array,
  { channels, gaussian, samples }: LatentsRecipe,
  step: number,
): readonly Float32Array[] {
  if (!gaussian && samples === undefined) return [found];
  const { mean, logvar } = gaussianOf(found, channels);
  if (samples === undefined) return [mean, logvar];
  return [gaussianSample({ mean, logvar }, normals({ seed: samples, stream: SAMPLE_STREAM, step }, mean.length))];
}

/** A picture [height, width, channels] mirrored left to right. */
function mirrored(values: Float32Array, width: number, channels: number): Float32Array {
  const row = width * channels;
  return values.map((_, i) => {
    const inRow = i % row;
    const c = inRow % channels;
    return values[i - inRow + row - channels - (inRow - c) + c]!;
  });
}
