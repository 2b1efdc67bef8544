/** Nearest neighbours among rows of numbers: exact, pair by pair in float64, in blocks, so that no matrix of distances is kept. */
import { UsageError } from '../engine/errors.ts';

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

/** Calls `visit(i, j)` for all pairs of rows below `a` and `b`, neighbours in time being neighbours in memory. */
function eachPair(a: number, b: number, visit: (i: number, j: number) => void): void {
  for (let i0 = 0; i0 < a; i0 += BLOCK) {
    for (let j0 = 0; j0 < b; j0 += BLOCK) {
      const [i1, j1] = [Math.min(a, i0 + BLOCK), Math.min(b, j0 + BLOCK)];
      for (let i = i0; i < i1; i++) for (let j = j0; j < j1; j++) visit(i, j);
    }
  }
}

/**
 * Squared distance of each of `queries` [rows * width] to its k-th nearest of `targets` [rows * width], Euclidean. Where both are the
 * same array, a row is no neighbour of itself (an equal one at another place is).
 * @throws UsageError for fewer than k neighbours, or a part of a row
 */
export function kthSquaredDistances(
  queries: Float32Array,
  targets: Float32Array,
  width: number,
  k: number,
): Float64Array {
  const [rows, others] = [rowsOf(queries, width), rowsOf(targets, width)];
  const same = queries === targets;
  const most = same ? others - 1 : others;
  if (!(Number.isInteger(k) && k >= 1 && k <= most)) throw new UsageError(`there is no neighbour ${k} of ${most}`);
  const nearest = new Float64Array(rows * k).fill(Number.POSITIVE_INFINITY); // ascending in each row
  eachPair(rows, others, (i, j) => {
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

/** How often points lie in balls. */
export interface Inside {
  /** [points] balls that each is in. */
  readonly balls: Uint32Array;
  /** [balls] points that are in each. */
  readonly points: Uint32Array;
}

/**
 * Which of `points` [rows * width] lie in the balls around `centres` [balls * width] with the given squared radii [balls]. The surface
 * belongs to a ball where it is `closed`.
 */
export function countInside(
  points: Float32Array,
  centres: Float32Array,
  radii: Float64Array,
  width: number,
  { closed }: { closed: boolean },
): Inside {
  const [rows, balls] = [rowsOf(points, width), rowsOf(centres, width)];
  if (radii.length !== balls) throw new UsageError(`${radii.length} radii are not those of ${balls} balls`);
  const inside: Inside = { balls: new Uint32Array(rows), points: new Uint32Array(balls) };
  eachPair(rows, balls, (i, j) => {
    const radius = radii[j]!;
    const distance = squaredDistance(points, i * width, centres, j * width, width, radius);
    if (closed ? distance > radius : distance >= radius) return;
    inside.balls[i]! += 1;
    inside.points[j]! += 1;
  });
  return inside;
}
