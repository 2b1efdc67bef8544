/**
 * The kernel distance: unbiased squared maximum mean discrepancy with a cubic kernel (Binkowski et al., "Demystifying MMD GANs", 2018),
 * KID where features are Inception's. Unlike a Fréchet distance it is right on average for any number of samples.
 */
import { UsageError } from '../engine/errors.ts';
import { permutation } from '../engine/philox.ts';
import { type Measured, studentReach } from './measured.ts';
import { pickRows, rowsOf } from './neighbours.ts';
import { type Pause, pausing, type Waiting } from './waiting.ts';

/** A kernel distance; its interval is Student's, of the subsets. */
export interface KernelDistance extends Measured {
  readonly standardError: number;
  /** Pairs of subsets that it is the mean of, no sample being in two of them. */
  readonly subsets: number;
  /** Pictures in each: samples, then real ones. */
  readonly sizes: readonly [number, number];
}

/** How subsets are made. */
export interface KernelDistanceOptions extends Waiting {
  /** An integer in [0, 2^32): which picture is in which subset. */
  readonly seed: number;
  /** Subsets; fewer where they would hold fewer than two samples. Default 10. */
  readonly subsets?: number;
  /** Most pictures of a subset; what is beyond is left out. Default 1000. */
  readonly most?: number;
}

const SUBSETS = 0x65760002;

/** (x.y / width + 1)^3 of row i of a and row j of b. */
function kernel(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
  let sum = 0;
  for (let p = 0, at = i * width, from = j * width; p < width; p++) sum += a[at + p]! * b[from + p]!;
  return (sum / width + 1) ** 3;
}

/** Mean of the kernel over pairs of different rows. */
async function within(a: Float32Array, rows: number, width: number, pause: () => Promise<void>): Promise<number> {
  let sum = 0;
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < i; j++) sum += kernel(a, i, a, j, width);
    await pause();
  }
  return (2 * sum) / (rows * (rows - 1));
}

/**
 * Unbiased estimate of the squared maximum mean discrepancy of features a and b [rows * width] with the kernel (x.y / width + 1)^3. May
 * be below zero. @throws UsageError for fewer than two rows, or a part of one; InterruptedError.
 */
export const squaredDiscrepancy = (
  a: Float32Array,
  b: Float32Array,
  width: number,
  waiting?: Waiting,
): Promise<number> => discrepancy(a, b, width, pausing('kernel distance, subset', 1, waiting), 0);

/** The same for the subset that follows `done` others. */
async function discrepancy(
  a: Float32Array,
  b: Float32Array,
  width: number,
  pause: Pause,
  done: number,
): Promise<number> {
  const [m, n] = [rowsOf(a, width), rowsOf(b, width)];
  if (m < 2 || n < 2) throw new UsageError(`a kernel distance needs two samples or more of each, not ${m} and ${n}`);
  const wait = () => pause(done);
  let across = 0;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) across += kernel(a, i, b, j, width);
    await wait();
  }
  return (await within(a, m, width, wait)) + (await within(b, n, width, wait)) - (2 * across) / (m * n);
}

/**
 * The kernel distance of samples and real pictures, from features [rows * width]: the mean over pairs of subsets, none of which share a
 * picture, so that their spread says how far the mean may be off.
 * @throws UsageError for fewer than four pictures of either; InterruptedError.
 */
export async function kernelDistance(
  samples: Float32Array,
  real: Float32Array,
  width: number,
  { seed, subsets: wanted = 10, most = 1000, ...waiting }: KernelDistanceOptions,
): Promise<KernelDistance> {
  const counts = [rowsOf(samples, width), rowsOf(real, width)] as const;
  const subsets = Math.min(wanted, ...counts.map((count) => Math.floor(count / 2)));
  if (!(subsets >= 2))
    throw new UsageError(`a kernel distance with its error needs four pictures of each, not ${counts.join(' and ')}`);
  const sizes = [0, 1].map((k) => Math.min(most, Math.floor(counts[k]! / subsets))) as [number, number];
  const orders = counts.map((count, step) => permutation({ seed, stream: SUBSETS, step }, count));
  const subset = (all: Float32Array, k: number, s: number) =>
    pickRows(all, width, orders[k]!.subarray(s * sizes[k]!, (s + 1) * sizes[k]!));
  const pause = pausing('kernel distance, subset', subsets, waiting);
  const values: number[] = [];
  for (let s = 0; s < subsets; s++)
    values.push(await discrepancy(subset(samples, 0, s), subset(real, 1, s), width, pause, s));
  const value = values.reduce((sum, x) => sum + x, 0) / subsets;
  const variance = values.reduce((sum, x) => sum + (x - value) ** 2, 0) / (subsets - 1);
  const standardError = Math.sqrt(variance / subsets);
  const reach = studentReach(subsets - 1) * standardError;
  return { value, low: value - reach, high: value + reach, standardError, subsets, sizes };
}
