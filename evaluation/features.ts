/** What pictures are compared by: numbers made of their pixels. Networks come in by the same interface. */
import { throwIfAborted } from '../engine/abort.ts';
import { UsageError } from '../engine/errors.ts';
import { normals, permutation } from '../engine/philox.ts';
import { nextTurn } from '../engine/turns.ts';
import { type Dataset, toUnit } from '../training/data/dataset.ts';
import { createFeatureSums } from './feature-statistics.ts';
import { squareBlocks } from './square-blocks.ts';
import { leadingEigenvectors } from './symmetric.ts';
import { pausing, type Waiting } from './waiting.ts';

/** A map from pictures to numbers. */
export interface Features {
  readonly name: string;
  /** Numbers per picture. */
  readonly width: number;
  /** Numbers that tell these features from others of the same name and of pictures of the same shape, where they are made of any. */
  readonly identity?: Float64Array;
  /** Of pictures [count, height, width, channels] in [-1, 1] (clamped, as they would be shown): [count * width]. */
  of(images: Float32Array): Float32Array | Promise<Float32Array>;
  /** Of a network: SHA-256 of its file. */
  readonly digest?: string;
  /** Present where the features are those that FID is defined by. Else Fréchet distances are called FD. */
  readonly distance?: 'FID';
  /** Of a network that knows the data's classes: the class that it takes each row of features for, [rows]. */
  classesOf?(features: Float32Array): Uint16Array;
}

/** Height, width and channels of pictures. */
export type PictureShape = Pick<Dataset, 'height' | 'width' | 'channels'>;

/** Features that need no network. */
export const FEATURE_NAMES = ['pca64', 'pixels', 'random'] as const;
/** One of `FEATURE_NAMES`. */
export type FeatureName = (typeof FEATURE_NAMES)[number];

/** Widest pixel features: the time of a Fréchet distance grows with the cube of the width. */
const MOST_PIXELS = 256;
/** Most numbers of a picture whose covariance is taken apart: two seconds. */
const MOST_CORRELATED = 1024;
/** Most pictures that principal components are taken from. */
const MOST_TRAINING = 10_000;
const COMPONENTS = 64;
/** Random features are the same for ever: the seed is part of what they are. */
const PROJECTION = { seed: 0, stream: 0x65760003, step: 0 };
const CHOICE = { seed: 0, stream: 0x65760004, step: 0 };

/** Numbers of one picture. */
const sizeOf = ({ height, width, channels }: PictureShape): number => height * width * channels;

/** Clamped pictures, averaged over square blocks of pixels: the smallest that leave at most `most` numbers of a picture. */
export interface Pooling {
  /** Numbers that are left of a picture. */
  readonly width: number;
  /** Side of the blocks; those at the right and lower edges may be smaller. */
  readonly side: number;
  of(images: Float32Array): Float32Array;
}

/** @throws UsageError for pictures of another size, from `of` */
export function poolingFor(shape: PictureShape, most: number): Pooling {
  const { height, width, channels } = shape;
  const size = sizeOf(shape);
  const left = (side: number) => Math.ceil(height / side) * Math.ceil(width / side) * channels;
  let side = 1;
  while (left(side) > most && side < Math.max(height, width)) side++;
  const { count: out, blockOf, sizes } = squareBlocks(shape, side);
  return {
    width: out,
    side,
    of(images) {
      const count = images.length / size;
      if (!Number.isInteger(count)) throw new UsageError(`${images.length} numbers are no pictures of ${size}`);
      const pooled = new Float32Array(count * out);
      const sums = new Float64Array(out);
      for (let i = 0; i < count; i++) {
        sums.fill(0);
        for (let p = 0; p < size; p++) sums[blockOf[p]!]! += Math.max(-1, Math.min(1, images[i * size + p]!));
        for (let block = 0; block < out; block++) pooled[i * out + block] = sums[block]! / sizes[block]!;
      }
      return pooled;
    },
  };
}

/** rows [count * from] by matrix [to * from], after `mean` [from] is taken away. */
function projected(rows: Float32Array, matrix: Float64Array | Float32Array, mean: Float64Array, to: number) {
  const from = mean.length;
  const out = new Float32Array((rows.length / from) * to);
  const centred = new Float64Array(from);
  for (let i = 0; i < rows.length / from; i++) {
    for (let p = 0; p < from; p++) centred[p] = rows[i * from + p]! - mean[p]!;
    for (let k = 0; k < to; k++) {
      let sum = 0;
      for (let p = 0, at = k * from; p < from; p++) sum += centred[p]! * matrix[at + p]!;
      out[i * to + k] = sum;
    }
  }
  return out;
}

/** The pixels themselves; of large pictures, means over square blocks, so that there are at most 256. */
export function pixelFeatures(shape: PictureShape): Features {
  const { width, of } = poolingFor(shape, MOST_PIXELS);
  return { name: 'pixels', width, of };
}

/** 64 sums of all pixels with fixed normal weights, scaled so that distances are on average those of the pictures. */
export function randomFeatures(shape: PictureShape): Features {
  const { of, width: from } = poolingFor(shape, Number.POSITIVE_INFINITY);
  const matrix = normals(PROJECTION, COMPONENTS * from).map((x) => x / Math.sqrt(COMPONENTS));
  const nothing = new Float64Array(from);
  return {
    name: 'random',
    width: COMPONENTS,
    of: (images) => projected(of(images), matrix, nothing, COMPONENTS),
  };
}

/** Fits principal components, yielding how many pictures have been looked at, and of how many. */
function* fitted(data: Dataset): Generator<readonly [done: number, of: number], Features> {
  const { of, width: from } = poolingFor(data, MOST_CORRELATED);
  const sums = createFeatureSums(from);
  const chosen = permutation(CHOICE, data.count).subarray(0, MOST_TRAINING);
  for (let at = 0; at < chosen.length; at += 256) {
    sums.add(of(unitImages(data, chosen.subarray(at, at + 256))));
    yield [Math.min(at + 256, chosen.length), chosen.length];
  }
  const { mean, covariance } = sums.statistics();
  const width = Math.min(COMPONENTS, from);
  const { vectors } = leadingEigenvectors(covariance, from, width);
  const identity = new Float64Array((1 + width) * from);
  identity.set(mean);
  identity.set(vectors, from);
  return principalFeaturesAgain(data, identity);
}

/**
 * The leading 64 principal components of training pictures (10,000 of them at most), or as many as there are numbers: in directions of
 * most variance first, not scaled. Pictures of more than 1,024 numbers are averaged over square blocks first.
 * @throws UsageError for fewer than two pictures
 */
export function principalFeatures(data: Dataset): Features {
  const work = fitted(data);
  let step = work.next();
  while (!step.done) step = work.next();
  return step.value;
}

/** How long work goes on. */
export interface Fitting {
  readonly signal?: AbortSignal;
  /** Told how many pictures have been looked at, and of how many. */
  readonly onFitted?: (done: number, of: number) => void;
}

/** The same features, while others get their turn. @throws UsageError as `principalFeatures`; InterruptedError */
export async function principalFeaturesInTurns(data: Dataset, { signal, onFitted }: Fitting): Promise<Features> {
  const work = fitted(data);
  for (let step = work.next(); ; step = work.next()) {
    if (step.done) return step.value;
    const [done, of] = step.value;
    onFitted?.(done, of);
    await nextTurn();
    throwIfAborted(signal, `fitting principal components was interrupted after ${done} of ${of} pictures`);
  }
}

/**
 * The same features from their identity, without the pictures that they were made of: [1 + width, numbers of a pooled picture], the mean
 * and the components. @throws UsageError where it is none of pictures of this shape
 */
export function principalFeaturesAgain(shape: PictureShape, identity: Float64Array): Features {
  const { of, width: from } = poolingFor(shape, MOST_CORRELATED);
  const width = identity.length / from - 1;
  if (!(Number.isInteger(width) && width >= 1 && width <= COMPONENTS))
    throw new UsageError(`${identity.length} numbers are no principal components of pictures of ${from}`);
  const [mean, vectors] = [identity.subarray(0, from), identity.subarray(from)];
  return { name: 'pca64', width, identity, of: (images) => projected(of(images), vectors, mean, width) };
}

/** Features by their name; `training` is what principal components are taken from, and says how large pictures are. */
export function featuresOf(name: FeatureName, training: Dataset): Features {
  if (name === 'pca64') return principalFeatures(training);
  return name === 'pixels' ? pixelFeatures(training) : randomFeatures(training);
}

/** Pictures of a data set, in [-1, 1]: [indices, height, width, channels]. */
export function unitImages(data: Dataset, indices: ArrayLike<number>): Float32Array {
  const size = sizeOf(data);
  const out = new Float32Array(indices.length * size);
  for (let i = 0; i < indices.length; i++) toUnit(data.image(indices[i]!), out, i * size);
  return out;
}

/** Features of pictures of a data set, a few hundred at a time: [indices * width]. @throws InterruptedError */
export async function featuresOfData(
  features: Features,
  data: Dataset,
  indices: Uint32Array,
  waiting?: Waiting,
): Promise<Float32Array> {
  const out = new Float32Array(indices.length * features.width);
  const pause = pausing('features, picture', indices.length, waiting);
  for (let at = 0; at < indices.length; at += 256) {
    await pause(at);
    out.set(await features.of(unitImages(data, indices.subarray(at, at + 256))), at * features.width);
  }
  return out;
}
