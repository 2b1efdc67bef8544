/** The Fréchet distance of two sets of features, taken for normally distributed: FID where features are Inception's. */

import { NonFiniteError, UsageError } from '../engine/errors.ts';
import { type FeatureStatistics, featureStatisticsInTurns } from './feature-statistics.ts';
import { type LinearAlgebra, ownAlgebra } from './linear-algebra.ts';
import { type Figure, intervalOf, REPLICATES, type Resampling, resampledSets } from './measured.ts';
import { pausing, type Waiting } from './waiting.ts';

/** What is added to both covariances under the root, but not to their traces, by the reference. */
export const REFERENCE_OFFSET = 1e-6;

/** How to compute a Fréchet distance. */
export interface FrechetOptions {
  /**
   * Added to the diagonals of both covariances under the root. Default 0. REFERENCE_OFFSET gives the reference's values, which are
   * lower by about 2e-6 times the width.
   */
  readonly offset?: number;
  /** Who multiplies and factors. Default: our own code. */
  readonly algebra?: LinearAlgebra;
}

/**
 * |mean a - mean b|^2 + Tr(A + B - 2 (A B)^(1/2)), of covariances of any rank. With A = L L', A B has the eigenvalues of L' B L, which
 * is symmetric, so no root of a matrix is taken. Of a set and itself it is zero up to rounding, which may be below zero. Time grows
 * with the cube of the width: 5 s for 1,024 on one core, and it grows with the cube.
 * @throws UsageError for different widths or an offset below zero; NonFiniteError
 */
export function frechetDistance(
  a: FeatureStatistics,
  b: FeatureStatistics,
  { offset = 0, algebra = ownAlgebra }: FrechetOptions = {},
): number {
  const { width } = a;
  if (width !== b.width) throw new UsageError(`features ${width} numbers wide have no distance from ${b.width}`);
  if (!(offset >= 0 && offset < Number.POSITIVE_INFINITY))
    throw new UsageError(`the offset is ${offset}; it must be 0 or more`);
  for (const { mean, covariance } of [a, b]) {
    if (mean.length !== width || covariance.length !== width ** 2)
      throw new UsageError(
        `a mean of ${mean.length} and a covariance of ${covariance.length} numbers are not ${width} wide`,
      );
    if (!mean.every(Number.isFinite) || !covariance.every(Number.isFinite))
      throw new NonFiniteError('a mean or covariance is not finite');
  }
  const between = a.mean.reduce((sum, x, i) => sum + (x - b.mean[i]!) ** 2, 0);
  const root = algebra.rootTrace(shifted(a, offset), shifted(b, offset), width);
  return between + trace(a) + trace(b) - 2 * root;
}

/** A Fréchet distance with the interval that comes of resampling. */
export interface ResampledDistance extends Figure {
  /** Of each resampled set: samples n of sets that are compared with each other are in as many sets, so that these values are paired. */
  readonly resampled: readonly number[];
}

/**
 * The Fréchet distance of samples' features [rows * width] from real pictures' statistics, with the interval that comes of resampling
 * the samples. It is that of the distance at this number of samples, which is larger than that of endlessly many: compare sets of one
 * size. Of wide features it takes hours: between resampled sets others get their turn. Without replicates there is no interval.
 * @throws UsageError for other widths, fewer than two rows, or one replicate; NonFiniteError; InterruptedError
 */
export async function measuredFrechet(
  features: Float32Array,
  real: FeatureStatistics,
  { algebra, signal, onWork, ...resampling }: Resampling & Pick<FrechetOptions, 'algebra'> & Waiting,
): Promise<ResampledDistance> {
  const { replicates = REPLICATES } = resampling;
  const waiting = { signal, onWork };
  const { width } = real;
  const rows = features.length / width;
  const statistics = await featureStatisticsInTurns(features, width, algebra, waiting);
  const pause = pausing('interval, resampled set', replicates, waiting);
  const distance = (of: FeatureStatistics) => frechetDistance(of, real, { algebra });
  const value = distance(statistics);
  if (replicates === 0) return { value, low: null, high: null, resampled: [] };
  const resampled: number[] = [];
  for (const weights of resampledSets(rows, resampling)) {
    const count = weights.reduce((sum, w) => sum + w, 0);
    // Of a handful of samples, too few may be left: then all stand for them.
    resampled.push(count < 2 ? value : distance(weighted(features, statistics, weights, count, algebra)));
    await pause(resampled.length);
  }
  return { ...intervalOf(value, resampled), resampled };
}

/** Rows whose deviations are multiplied together: few enough to stay in the cache. */
const BLOCK = 64;

/**
 * Statistics of a set in which each row is as often as its weight says, `count` in all. The rows that are there at all, two thirds, are
 * scaled by the root of how often, instead of being repeated; deviations are from the mean of the whole set.
 */
function weighted(
  features: Float32Array,
  { width, mean: centre }: FeatureStatistics,
  weights: Uint8Array,
  count: number,
  algebra: LinearAlgebra = ownAlgebra,
): FeatureStatistics {
  const products = new Float64Array(width * width); // lower triangle
  const deviations = new Float64Array(width * BLOCK); // [width, rows]
  const shift = new Float64Array(width);
  let filled = 0;
  for (const [row, weight] of weights.entries()) {
    if (weight === 0) continue;
    const root = Math.sqrt(weight);
    for (let j = 0; j < width; j++) {
      const deviation = features[row * width + j]! - centre[j]!;
      shift[j]! += (weight * deviation) / count;
      deviations[j * BLOCK + filled] = root * deviation;
    }
    if (++filled < BLOCK) continue;
    algebra.addProducts(products, deviations, width, BLOCK, BLOCK);
    filled = 0;
  }
  if (filled > 0) algebra.addProducts(products, deviations, width, filled, BLOCK);
  const covariance = new Float64Array(width * width);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j <= i; j++) {
      const spread = (products[i * width + j]! - count * shift[i]! * shift[j]!) / (count - 1);
      covariance[i * width + j] = covariance[j * width + i] = spread;
    }
  }
  return { count, width, mean: centre.map((x, j) => x + shift[j]!), covariance };
}

function shifted({ covariance, width }: FeatureStatistics, offset: number): Float64Array {
  const matrix = covariance.slice();
  for (let i = 0; i < width; i++) matrix[i * width + i]! += offset;
  return matrix;
}

function trace({ covariance, width }: FeatureStatistics): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += covariance[i * width + i]!;
  return sum;
}
