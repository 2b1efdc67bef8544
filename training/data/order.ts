/** Which picture is the n-th training sample: a pure function of (seed, n), so a run resumes from its step alone. */
import { ConfigError, UsageError } from '../../engine/errors.ts';
import { permutation, words } from '../../engine/philox.ts';
import { type Dataset, type PictureGroups, toUnit, toUnitFlipped } from './dataset.ts';

/** Random streams of the order ('shuf'), of the order of groups ('grup') and of the flips ('flip'), as ASCII. */
const SHUFFLE_STREAM = 0x73687566;
const GROUP_STREAM = 0x67727570;
const FLIP_STREAM = 0x666c6970;

/** The order in which training takes the pictures. */
export interface DataOrder {
  /** Picture of the sample at global position n (0, 1, 2, ... over all epochs), and whether it is mirrored. */
  at(n: number): { index: number; flip: boolean };
  /** Number of the pass over the data that position n belongs to. */
  epoch(n: number): number;
}

/** What decides the order. */
export interface DataOrderOptions {
  /** Pictures in the data set. */
  count: number;
  /** Integer in [0, 2^32). */
  seed: number;
  /** Mirror half of the samples, drawn anew in each epoch. Default false. */
  flip?: boolean;
  /**
   * Pictures that are read together. Groups are then shuffled, and pictures among those of `together` groups at a time: a shuffle
   * that needs only so many groups in memory. Default: all pictures are shuffled among each other.
   */
  groups?: PictureGroups;
  /** Only so many pictures, over and over: the first of the order of all, so that classes are mixed. Default 0: all. */
  only?: number;
}

/** Shuffles groups by the seed, and the pictures of each `together` of them by their rank in a shuffle of all. */
function shuffleGroups(
  seed: number,
  epoch: number,
  ranks: Uint32Array,
  { sizes, together }: PictureGroups,
): Uint32Array {
  const starts = [0];
  for (let g = 0; g < sizes.length; g++) starts.push(starts[g]! + sizes[g]!);
  if (starts.at(-1) !== ranks.length || !(Number.isInteger(together) && together >= 1)) {
    throw new UsageError(
      `groups of ${starts.at(-1)} pictures, ${together} at a time, are no groups of ${ranks.length}`,
    );
  }
  const rankOf = new Uint32Array(ranks.length);
  ranks.forEach((picture, rank) => {
    rankOf[picture] = rank;
  });
  const groups = permutation({ seed, stream: GROUP_STREAM, step: epoch }, sizes.length);
  const order = new Uint32Array(ranks.length);
  let filled = 0;
  for (let first = 0; first < groups.length; first += together) {
    const begin = filled;
    for (const g of groups.subarray(first, first + together)) {
      for (let picture = starts[g]!; picture < starts[g + 1]!; picture++) order[filled++] = rankOf[picture]!;
    }
    const window = order.subarray(begin, filled).sort();
    for (let k = 0; k < window.length; k++) window[k] = ranks[window[k]!]!;
  }
  return order;
}

/** Every epoch visits each picture once, in an order of its own. Throws ConfigError without pictures or with a bad seed. */
export function dataOrder({ only = 0, ...options }: DataOrderOptions): DataOrder {
  const all = orderOfAll(options);
  if (only === 0) return all;
  const chosen = Array.from({ length: only }, (_, n) => all.at(n).index);
  const few = orderOfAll({ count: only, seed: options.seed, flip: options.flip });
  return {
    epoch: few.epoch,
    at(n) {
      const { index, flip } = few.at(n);
      return { index: chosen[index]!, flip };
    },
  };
}

function orderOfAll({ count, seed, flip = false, groups }: Omit<DataOrderOptions, 'only'>): DataOrder {
  if (!(Number.isInteger(count) && count > 0)) throw new ConfigError(`an order needs pictures; there are ${count}`);
  // One epoch's permutation is kept only to save time: what at() returns does not depend on it.
  const shuffled = (epoch: number) => {
    const all = permutation({ seed, stream: SHUFFLE_STREAM, step: epoch }, count);
    return { epoch, order: groups ? shuffleGroups(seed, epoch, all, groups) : all };
  };
  let kept = shuffled(0);
  const epochOf = (n: number) => {
    if (!(Number.isSafeInteger(n) && n >= 0)) throw new UsageError(`a sample's position is 0, 1, 2, ..., not ${n}`);
    return Math.floor(n / count);
  };
  return {
    epoch: epochOf,
    at(n) {
      const epoch = epochOf(n);
      const place = n - epoch * count;
      if (kept.epoch !== epoch) kept = shuffled(epoch);
      const mirrored = flip && words({ seed, stream: FLIP_STREAM, step: epoch }, 1, place)[0]! >>> 31 === 1;
      return { index: kept.order[place]!, flip: mirrored };
    },
  };
}

/**
 * Samples first .. first + labels.length - 1 of the order, or those at the positions that `first` gives when it is called for each
 * row, as the model takes them: images [rows, H, W, C] in [-1, 1] and labels [rows]. Writes to the caller's arrays and allocates no other.
 */
export function fillBatch(
  data: Dataset,
  order: DataOrder,
  first: number | (() => number),
  images: Float32Array,
  labels: Uint32Array,
): void {
  const size = data.height * data.width * data.channels;
  if (images.length !== labels.length * size) {
    throw new UsageError(`${labels.length} pictures of ${size} numbers do not fill ${images.length}`);
  }
  for (let row = 0; row < labels.length; row++) {
    const { index, flip } = order.at(typeof first === 'number' ? first + row : first());
    if (flip) toUnitFlipped(data.image(index), data.width, data.channels, images, row * size);
    else toUnit(data.image(index), images, row * size);
    labels[row] = data.label(index);
  }
}
