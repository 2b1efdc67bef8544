/**
 * Class agreement: the share of generated pictures that their nearest real neighbours take for the class asked for.
 * Needs no network, so it can be checked anywhere. Its ceiling is the same figure for real training pictures: 0.823 for
 * the first 1,000 of Fashion-MNIST against its 10,000 test pictures (0.822 for the first 10,000).
 */
import { UsageError } from '../engine/errors.ts';
import { type Dataset, toUnit } from '../training/data/dataset.ts';
import { squaredDistance } from './neighbours.ts';
import { squareBlocks } from './square-blocks.ts';

/** Real pictures with labels, prepared for distances. */
export interface Reference {
  /** [count, height, width, channels], in [-1, 1] */
  readonly pixels: Float32Array;
  /** [count, coarse numbers], what coarsen() makes of the pixels */
  readonly coarse: Float32Array;
  /** [count] */
  readonly labels: Uint16Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly classes: number;
  readonly classNames?: readonly string[];
}

/** Class agreement of the samples of one class. */
export interface ClassAgreement {
  class: number;
  name?: string;
  samples: number;
  agreed: number;
  /** agreed / samples; NaN without samples. */
  share: number;
}

/** Class agreement over all samples and class by class. */
export interface Agreement {
  samples: number;
  agreed: number;
  /** agreed / samples; NaN without samples. */
  share: number;
  /** One entry per class of the reference, in order. */
  perClass: ClassAgreement[];
  /** The class that each sample's neighbours voted for; shape [samples]. */
  votes: Uint16Array;
}

/** Copies a data set into the form that distances are computed on. */
export function prepareReference(data: Dataset): Reference {
  const { count, height, width, channels, classes, classNames } = data;
  const size = height * width * channels;
  const pixels = new Float32Array(count * size);
  for (let i = 0; i < count; i++) toUnit(data.image(i), pixels, i * size);
  const labels = Uint16Array.from({ length: count }, (_, i) => data.label(i));
  const coarse = coarsen(pixels, data);
  return { pixels, coarse, labels, count, height, width, channels, classes, classNames };
}

/** Side of the blocks of pixels that the quick lower bound sums over. */
const BLOCK = 4;

/**
 * Per picture and block of BLOCK x BLOCK pixels (fewer at the edge) and channel: the block's sum over the root of its
 * number of pixels. By Cauchy and Schwarz the squared distance of two pictures is at least that of these numbers, a
 * sixteenth as many, which spares the full distance for most pairs.
 */
function coarsen(pixels: Float32Array, shape: Pick<Dataset, 'height' | 'width' | 'channels'>) {
  const { count: blocks, blockOf, sizes } = squareBlocks(shape, BLOCK);
  const size = blockOf.length;
  const sums = new Float64Array(blocks);
  const out = new Float32Array((pixels.length / size) * blocks);
  for (let i = 0; i < pixels.length / size; i++) {
    sums.fill(0);
    for (let p = 0; p < size; p++) sums[blockOf[p]!]! += pixels[i * size + p]!;
    for (let b = 0; b < blocks; b++) out[i * blocks + b] = sums[b]! / Math.sqrt(sizes[b]!);
  }
  return out;
}

/**
 * The class with the most votes. Among classes with equally many, the one whose nearest voter is nearest: `labels` are
 * in order of distance, so that is the first of them to appear.
 */
export function majority(labels: readonly number[]): number {
  let best = labels[0]!;
  let most = 0;
  for (const label of labels) {
    const votes = labels.filter((other) => other === label).length;
    if (votes > most) {
      most = votes;
      best = label;
    }
  }
  return best;
}

/** A little below one, so that the lower bound's own rounding never rejects a picture that is near enough. */
const SAFETY = 1 - 1e-5;

/**
 * Samples [count, height, width, channels] in [-1, 1] (clamped, as they would be shown) with the classes asked for, judged
 * by their 5 nearest reference pictures in Euclidean pixel distance, the earlier picture first among equally near ones.
 * Exact: the coarse bound only skips pictures that cannot be among the nearest. Throws UsageError where sizes do not fit
 * or a sample is not finite.
 */
export function classAgreement(
  reference: Reference,
  samples: Float32Array,
  asked: ArrayLike<number>,
  { neighbours = 5 }: { neighbours?: number } = {},
): Agreement {
  const { count, pixels, coarse, classes } = reference;
  const size = reference.height * reference.width * reference.channels;
  if (samples.length !== asked.length * size) {
    throw new UsageError(`${samples.length} numbers are not ${asked.length} pictures of ${size}`);
  }
  if (!(Number.isInteger(neighbours) && neighbours >= 1 && neighbours <= count)) {
    throw new UsageError(`the vote takes 1 to ${count} neighbours, not ${neighbours}`);
  }
  const odd = samples.findIndex((x) => !Number.isFinite(x));
  if (odd >= 0) throw new UsageError(`sample ${Math.floor(odd / size)} holds ${samples[odd]}, which has no distance`);
  const wrong = Array.from(asked).find((label) => !(Number.isInteger(label) && label >= 0 && label < classes));
  if (wrong !== undefined) throw new UsageError(`the reference has classes 0 to ${classes - 1}, not ${wrong}`);

  const shown = samples.map((x) => Math.max(-1, Math.min(1, x)));
  const shownCoarse = coarsen(shown, reference);
  const blocks = coarse.length / count;
  const votes = new Uint16Array(asked.length);
  for (let i = 0; i < asked.length; i++) {
    const nearest: Nearest = { indices: [], distances: [], limit: Number.POSITIVE_INFINITY };
    for (let j = 0; j < count; j++) {
      const bound = squaredDistance(shownCoarse, i * blocks, coarse, j * blocks, blocks, nearest.limit / SAFETY);
      if (bound * SAFETY >= nearest.limit) continue;
      offer(nearest, neighbours, squaredDistance(shown, i * size, pixels, j * size, size, nearest.limit), j);
    }
    votes[i] = majority(nearest.indices.map((j) => reference.labels[j]!));
  }
  return tally(reference, asked, votes);
}

function tally({ classes, classNames }: Reference, asked: ArrayLike<number>, votes: Uint16Array): Agreement {
  const perClass = Array.from({ length: classes }, (_, k) => {
    const own = Array.from(votes).filter((_, i) => asked[i] === k);
    const agreed = own.filter((vote) => vote === k).length;
    return { class: k, name: classNames?.[k], samples: own.length, agreed, share: agreed / own.length };
  });
  const agreed = perClass.reduce((sum, entry) => sum + entry.agreed, 0);
  return { samples: votes.length, agreed, share: agreed / votes.length, perClass, votes };
}

/** The few nearest pictures met so far, in order of distance. */
interface Nearest {
  indices: number[];
  distances: number[];
  /** A distance below this still gets in. */
  limit: number;
}

/** Keeps the `most` smallest distances; an equal one does not displace an earlier one. */
function offer(nearest: Nearest, most: number, distance: number, index: number): void {
  if (distance >= nearest.limit) return;
  const { indices, distances } = nearest;
  let at = indices.length;
  while (at > 0 && distances[at - 1]! > distance) at--;
  distances.splice(at, 0, distance);
  indices.splice(at, 0, index);
  if (indices.length > most) {
    distances.pop();
    indices.pop();
  }
  if (indices.length === most) nearest.limit = distances[most - 1]!;
}
