/**
 * Folders of encoded latents, as `encodeLatents` writes them: `latents.json` says what they are, `shard-NNNNN.safetensors` hold them. A few
 * shards are in memory at a time. Of a Gaussian every sample of training is a draw of its own, a function of seed and position.
 */
import { createHash } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError, InterruptedError, OdeltError } from '../../engine/errors.ts';
import { normals } from '../../engine/philox.ts';
import { digestOfFile, readRegular } from '../../formats/files.node.ts';
import { openSafetensors } from '../../formats/safetensors.node.ts';
import { gaussianSample } from '../../model/autoencoder/gaussian.ts';
import { isOrigin, type LatentsOrigin } from '../../model/autoencoder/origin.ts';
import { type Spread, spreadOf } from '../../model/autoencoder/spread.ts';
import type { PictureDraw, StreamedDataset } from './dataset.ts';
import { type Fingerprint, parseFingerprint } from './fingerprint.ts';
import { failData, partOf, type ReadOptions } from './reading.ts';

/** What a folder of latents is known by. */
export const LATENTS_INDEX = 'latents.json';
/** Stream of the draws of Gaussians: 'late', as ASCII. */
const DRAW_STREAM = 0x6c617465;
/** Bytes of shards that are mixed at a time; the same on every machine, as the order depends on it. */
const TOGETHER = 2 ** 27;

/** All that decides the numbers of a folder of latents. Plain data. */
export interface LatentsRecipe {
  /** The pictures that were encoded. */
  readonly pictures: Fingerprint;
  readonly autoencoder: LatentsOrigin;
  /** How the encoder's weights were stored. */
  readonly precision: 'f32' | 'f16';
  /** Of one picture's latents. */
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Whether there are a mean and a log variance of each, or one number. */
  readonly gaussian: boolean;
  /** The seed of the samples that are stored in place of Gaussians; absent where none were drawn. */
  readonly samples?: number;
  /** Whether each picture was encoded mirrored as well. */
  readonly flips: boolean;
  readonly dtype: 'F32' | 'F16';
  /** Pictures of a shard; the last may have fewer. */
  readonly shard: number;
}

/** A shard that is whole. */
export interface LatentsShard {
  readonly file: string;
  readonly count: number;
  readonly bytes: number;
  /** Of the file, hexadecimal. */
  readonly sha256: string;
  /** Over all its scaled latents (of Gaussians the means): their sum, and that of their squares. */
  readonly sum: number;
  readonly squares: number;
}

/** What latents.json holds. */
export interface LatentsFolder {
  readonly format: 'odelt latents 1';
  readonly recipe: LatentsRecipe;
  /** In order; all of them where their counts add up to the pictures. */
  readonly shards: readonly LatentsShard[];
}

/** Names of a shard's tensors besides `labels`: of the pictures, and of the mirrored ones. */
export function latentTensors({ gaussian, flips }: Pick<LatentsRecipe, 'gaussian' | 'flips'>): string[] {
  const parts = gaussian ? ['mean', 'logvar'] : ['latents'];
  return flips ? [...parts, ...parts.map(mirroredName)] : parts;
}
const mirroredName = (part: string) => `${part}.mirrored`;

/** Pictures that the shards of a folder hold. */
export const latentsDone = ({ shards }: LatentsFolder): number => shards.reduce((sum, { count }) => sum + count, 0);

/** Mean and deviation of all scaled latents. */
export function latentsSpread(folder: LatentsFolder): Spread {
  const { height, width, channels, flips } = folder.recipe;
  return spreadOf({
    count: latentsDone(folder) * height * width * channels * (flips ? 2 : 1),
    sum: folder.shards.reduce((total, { sum }) => total + sum, 0),
    squares: folder.shards.reduce((total, { squares }) => total + squares, 0),
  });
}

/** Reads latents.json of a folder. @throws DataError for what is none. */
export async function readLatentsIndex(folder: string): Promise<LatentsFolder> {
  const path = join(folder, LATENTS_INDEX);
  const bytes = await readRegular(path, { most: 2 ** 28, fail: failData(path) });
  const refuse = (problem: string, cause?: unknown): never => {
    throw new DataError(`${path} ${problem}`, { cause, hint: 'encode the pictures again, into another folder' });
  };
  let parsed: Partial<LatentsFolder> | null = null;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes)) as Partial<LatentsFolder> | null;
  } catch (cause) {
    refuse('is no JSON', cause);
  }
  const { format, recipe, shards } = parsed ?? {};
  if (format !== 'odelt latents 1') refuse(`has the format ${JSON.stringify(format)}; 'odelt latents 1' is known`);
  const isSize = (n: unknown) => Number.isInteger(n) && (n as number) >= 1;
  const good =
    isOrigin(recipe?.autoencoder) &&
    [recipe.height, recipe.width, recipe.channels, recipe.shard].every(isSize) &&
    [recipe.gaussian, recipe.flips].every((x) => typeof x === 'boolean') &&
    (recipe.samples === undefined || Number.isInteger(recipe.samples)) &&
    Array.isArray(shards) &&
    shards.every(
      ({ file, count, bytes: size, sha256, sum, squares }) =>
        /^[\w-]+\.safetensors$/.test(file) &&
        isSize(count) &&
        isSize(size) &&
        typeof sha256 === 'string' &&
        Number.isFinite(sum) &&
        Number.isFinite(squares),
    );
  if (!good) refuse('does not describe latents');
  parseFingerprint(recipe!.pictures, path);
  return parsed as LatentsFolder;
}

/** Opens a folder of latents, of which all must be there. @throws DataError naming the file; InterruptedError */
export async function openLatents(folder: string, options: ReadOptions = {}): Promise<StreamedDataset> {
  const index = await readLatentsIndex(folder);
  const { recipe, shards } = index;
  const { pictures, autoencoder, height, width, channels, gaussian, flips } = recipe;
  const done = latentsDone(index);
  if (done !== pictures.count) {
    throw new DataError(`${folder} holds the latents of ${done} of ${pictures.count} pictures`, {
      hint: 'the same odelt encode command goes on where it was stopped',
    });
  }
  const { classes, classNames } = pictures;
  const name = basename(resolve(folder));
  const kind = gaussian ? 'means and log variances' : recipe.samples === undefined ? 'latents' : 'samples';
  const what = `${kind}${flips ? ', of mirrored pictures too' : ''}`;
  const from = { kl: 'an AutoencoderKL', tiny: 'the TAESD family' }[autoencoder.family];
  options.onRecognised?.(`latents of '${pictures.name}' by ${from}: ${shards.length} shards of ${what}`);
  options.onShape?.({ name, height, width, channels, classes });
  const labels = new Uint16Array(done);
  const starts: number[] = [];
  let at = 0;
  for (const shard of shards) {
    throwIfAborted(options.signal, `reading ${folder} was interrupted`);
    starts.push(at);
    const own = await withShard(folder, recipe, shard, (file) => file.integers('labels'));
    const stranger = own.find((label) => !(label >= 0 && label < classes));
    if (stranger !== undefined)
      throw new DataError(`${join(folder, shard.file)}: label ${stranger}, of ${classes} classes`);
    labels.set(own, at);
    at += shard.count;
    options.onProgress?.(at, done);
  }
  const largest = Math.max(...shards.map(({ bytes }) => bytes));
  const sums = new Map<LatentsShard, Promise<string>>();
  const together = Math.min(shards.length, Math.max(1, Math.floor(TOGETHER / largest)));
  return {
    ...{ name, height, width, channels, classes, classNames, count: done, skipped: [] },
    ...{ elements: 'numbers', paired: false, flips, spread: latentsSpread(index), latents: autoencoder },
    identity: createHash('sha256').update(JSON.stringify(index)).digest('hex'),
    groups: { sizes: shards.map(({ count }) => count), together },
    label: (i) => labels[i]!,
    open: () => reader(folder, recipe, shards, starts, 2 * together, sums),
  };
}

/** Reads from a shard whose header is as it must be. @throws DataError */
async function withShard<T>(
  folder: string,
  { height, width, channels, gaussian, flips }: LatentsRecipe,
  { file: own, count, bytes }: LatentsShard,
  body: (file: Awaited<ReturnType<typeof openSafetensors>>) => Promise<T>,
): Promise<T> {
  const path = join(folder, own);
  try {
    const file = await openSafetensors(path);
    try {
      const shape = `${[count, height, width, channels]}`;
      for (const name of latentTensors({ gaussian, flips })) {
        const found = file.header.tensors.get(name)?.shape;
        if (`${found}` !== shape)
          throw new DataError(`${path}: ${name} has shape [${found ?? 'none'}]; [${shape}] is expected`);
      }
      if (`${file.header.tensors.get('labels')?.shape}` !== `${count}`)
        throw new DataError(`${path}: there are no labels of its ${count} pictures`);
      return await body(file);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof OdeltError) || error instanceof InterruptedError) throw error;
    throw new DataError(error.message, {
      cause: error,
      hint: `it had ${bytes} bytes when it was written: bring it back, or encode the pictures again`,
    });
  }
}

/** Reads latents; tensors of at most `most` shards are in memory. `sums`: of the shards that have been read, by whichever reader. */
function reader(
  folder: string,
  recipe: LatentsRecipe,
  shards: readonly LatentsShard[],
  starts: readonly number[],
  most: number,
  sums: Map<LatentsShard, Promise<string>>,
) {
  const { height, width, channels, gaussian } = recipe;
  const { factor, shift } = recipe.autoencoder.scaling;
  const size = height * width * channels;
  /** Tensors of shards, the least recently used first: those mixed now, and those to come. */
  const held = new Map<number, Map<string, Promise<Float32Array>>>();
  let closed = false;
  const load = (s: number, name: string) =>
    withShard(folder, recipe, shards[s]!, async (file) => {
      const values = await file.floats(name);
      const bad = values.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0)
        throw new DataError(`${file.path}: ${name} of its picture ${Math.floor(bad / size)} holds ${values[bad]}`);
      await checkSum(file.path, shards[s]!);
      return values;
    });
  /** All of a shard is compared with its sum when the first of it is read. @throws DataError */
  const checkSum = async (path: string, shard: LatentsShard) => {
    const digest = sums.get(shard) ?? digestOfFile(path, failData(path));
    sums.set(shard, digest);
    const found = await digest;
    if (found === shard.sha256) return;
    throw new DataError(`${path} is damaged: its SHA-256 is ${found}, ${LATENTS_INDEX} says ${shard.sha256}`);
  };
  const tensor = (s: number, name: string): Promise<Float32Array> => {
    const own = held.get(s) ?? new Map<string, Promise<Float32Array>>();
    held.delete(s);
    held.set(s, own);
    for (const oldest of held.keys()) {
      if (held.size <= most) break;
      held.delete(oldest);
    }
    const values = own.get(name) ?? load(s, name);
    own.set(name, values);
    return values;
  };
  return {
    async read(i: number, draw?: PictureDraw): Promise<Float32Array> {
      if (closed) throw new InterruptedError(`reading ${folder} was interrupted`);
      const s = partOf(starts, i);
      const k = i - starts[s]!;
      const part = async (name: string) =>
        (await tensor(s, draw?.mirrored ? mirroredName(name) : name)).subarray(k * size, (k + 1) * size);
      const plain = await (gaussian ? drawn(part, draw, size) : part('latents'));
      return plain.map((value) => (value - shift) * factor);
    },
    async close() {
      closed = true;
      held.clear();
    },
  };
}

/** A draw of a Gaussian, or its mean. */
async function drawn(
  part: (name: string) => Promise<Float32Array>,
  draw: PictureDraw | undefined,
  size: number,
): Promise<Float32Array> {
  const mean = await part('mean');
  if (!draw) return mean;
  const { seed, position } = draw;
  const source = { seed, stream: DRAW_STREAM, step: position % 2 ** 32 };
  return gaussianSample({ mean, logvar: await part('logvar') }, normals(source, size));
}
