/** Nearest neighbours among rows of numbers: exact, pair by pair in float64, in blocks, so that no matrix of distances is kept. */
import { UsageError } from '../engine/errors.ts';
import { pausing, type Waiting } from './waiting.ts';

/** Rows that are compared with each other while they are in the cache. */
const BLOCK = 256;

/** Squared distance of a[at..] and b[from..] over `length` numbers, or some number > limit once it is known to be. */
export function squaredDistance(
  a: Float32Array,
  at: number,
  b: Float32Array,
  from: number,
  length: number,
  limit: number,
): number {
  let sum = 0;
  for (let p = 0; p < length; ) {
    const end = Math.min(length, p + 28);
    for (; p < end; p++) {
      const difference = a[at + p]! - b[from + p]!;
      sum += difference * difference;
    }
    if (sum > limit) return sum;
  }
  return sum;
}

/** Number of rows. @throws UsageError unless there are whole ones. */
export function rowsOf(values: Float32Array, width: number): number {
  const rows = values.length / width;
  if (!Number.isInteger(rows)) throw new UsageError(`${values.length} numbers are no rows of ${width}`);
  return rows;
}

/** These rows of `values` [rows * width], in this order. */
export function pickRows(values: Float32Array, width: number, rows: Uint32Array): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((row, at) => {
    out.set(values.subarray(row * width, (row + 1) * width), at * width);
  });
  return out;
}

/** Calls `visit(i, j)` for all pairs of rows below `a` and `b`, neighbours in time being neighbours in memory. @throws InterruptedError */
async function eachPair(
  [a, b]: readonly [number, number],
  waiting: Waiting,
  visit: (i: number, j: number) => void,
): Promise<void> {
  const pause = pausing('neighbours, block of pairs', Math.ceil(a / BLOCK) * Math.ceil(b / BLOCK), waiting);
  let done = 0;
  for (let i0 = 0; i0 < a; i0 += BLOCK) {
    for (let j0 = 0; j0 < b; j0 += BLOCK) {
      const [i1, j1] = [Math.min(a, i0 + BLOCK), Math.min(b, j0 + BLOCK)];
      for (let i = i0; i < i1; i++) for (let j = j0; j < j1; j++) visit(i, j);
      await pause(++done);
    }
  }
}

/**
 * Squared distance of each of `queries` [rows * width] to its k-th nearest of `targets` [rows * width], Euclidean. Where both are the
 * same array, a row is no neighbour of itself (an equal one at another place is).
 * @throws UsageError for fewer than k neighbours, or a part of a row; InterruptedError
 */
export async function kthSquaredDistances(
  queries: Float32Array,
  targets: Float32Array,
  width: number,
  k: number,
  waiting: Waiting = {},
): Promise<Float64Array> {
  const [rows, others] = [rowsOf(queries, width), rowsOf(targets, width)];
  const same = queries === targets;
  const most = same ? others - 1 : others;
  if (!(Number.isInteger(k) && k >= 1 && k <= most)) throw new UsageError(`there is no neighbour ${k} of ${most}`);
  const nearest = new Float64Array(rows * k).fill(Number.POSITIVE_INFINITY); // ascending in each row
  await eachPair([rows, others], waiting, (i, j) => {
    if (same && i === j) return;
    const last = i * k + k - 1;
    const limit = nearest[last]!;
    const distance = squaredDistance(queries, i * width, targets, j * width, width, limit);
    if (distance >= limit) return;
    let at = last;
    for (; at > i * k && nearest[at - 1]! > distance; at--) nearest[at] = nearest[at - 1]!;
    nearest[at] = distance;
  });
  return Float64Array.from({ length: rows }, (_, i) => nearest[i * k + k - 1]!);
}

/**
 * Squared distances of each of `set` [rows * width] to its nearest, second nearest, ... `most`-th nearest other row: [rows * most],
 * ascending in each row. Each pair is looked at once.
 * @throws UsageError for fewer than `most` others, or a part of a row; InterruptedError
 */
export async function nearestWithin(
  set: Float32Array,
  width: number,
  most: number,
  waiting: Waiting = {},
): Promise<Float64Array> {
  const rows = rowsOf(set, width);
  if (!(Number.isInteger(most) && most >= 1 && most < rows))
    throw new UsageError(`there is no neighbour ${most} of ${rows - 1}`);
  const nearest = new Float64Array(rows * most).fill(Number.POSITIVE_INFINITY);
  const insert = (row: number, distance: number) => {
    let at = row * most + most - 1;
    if (distance >= nearest[at]!) return;
    for (; at > row * most && nearest[at - 1]! > distance; at--) nearest[at] = nearest[at - 1]!;
    nearest[at] = distance;
  };
  await eachPair([rows, rows], waiting, (i, j) => {
    if (j >= i) return;
    const limit = Math.max(nearest[i * most + most - 1]!, nearest[j * most + most - 1]!);
    const distance = squaredDistance(set, i * width, set, j * width, width, limit);
    insert(i, distance);
    insert(j, distance);
  });
  return nearest;
}

/** Balls around each row of a set: squared radii of narrow and of wide ones. */
export interface Balls {
  readonly narrow: Float64Array;
  readonly wide: Float64Array;
}

/** The balls that reach to the k-th and to the `wide`-th nearest other row. @throws UsageError as `nearestWithin` */
export async function ballsOf(
  set: Float32Array,
  width: number,
  { k, wide }: { readonly k: number; readonly wide: number },
  waiting?: Waiting,
): Promise<Balls> {
  const most = Math.max(k, wide);
  const nearest = await nearestWithin(set, width, most, waiting);
  const radii = (neighbour: number) =>
    Float64Array.from({ length: nearest.length / most }, (_, i) => nearest[i * most + neighbour - 1]!);
  return { narrow: radii(k), wide: radii(wide) };
}

/** How often two sets lie in each other's balls. */
export interface Mutual {
  /** [a] narrow balls of b that each row of a is in, surfaces included. */
  readonly inNarrow: Uint32Array;
  /** [b] the same the other way round. */
  readonly hasNarrow: Uint32Array;
  /** [a] wide balls of b that each row of a is in, surfaces not included; [b] rows of a in each of them. */
  readonly inWide: Uint32Array;
  readonly holds: Uint32Array;
}

/** All of it, each pair of rows being looked at once. @throws UsageError for radii of other sets, or a part of a row; InterruptedError */
export async function countMutual(
  a: Float32Array,
  b: Float32Array,
  width: number,
  { ofA, ofB }: { readonly ofA: Float64Array; readonly ofB: Balls },
  waiting: Waiting = {},
): Promise<Mutual> {
  const [rows, others] = [rowsOf(a, width), rowsOf(b, width)];
  if (ofA.length !== rows || ofB.narrow.length !== others || ofB.wide.length !== others)
    throw new UsageError(`${ofA.length} and ${ofB.narrow.length} radii are not those of ${rows} and ${others} rows`);
  const count = (length: number) => new Uint32Array(length);
  const found = { inNarrow: count(rows), hasNarrow: count(others), inWide: count(rows), holds: count(others) };
  await eachPair([rows, others], waiting, (i, j) => {
    const [own, narrow, wide] = [ofA[i]!, ofB.narrow[j]!, ofB.wide[j]!];
    const limit = Math.max(own, narrow, wide);
    const distance = squaredDistance(a, i * width, b, j * width, width, limit);
    if (distance > limit) return;
    if (distance <= narrow) found.inNarrow[i]! += 1;
    if (distance <= own) found.hasNarrow[j]! += 1;
    if (distance < wide) {
      found.inWide[i]! += 1;
      found.holds[j]! += 1;
    }
  });
  return found;
}
