/** The Fréchet distance of two sets of features, taken for normally distributed: FID where features are Inception's. */
import { NonFiniteError, UsageError } from '../engine/errors.ts';
import { type FeatureStatistics, featureStatistics } from './feature-statistics.ts';
import { type LinearAlgebra, ownAlgebra } from './linear-algebra.ts';
import { type Measured, type Resampling, resampled } from './measured.ts';

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

/**
 * The Fréchet distance of samples' features [rows * width] from real pictures' statistics, with the interval that comes of resampling
 * the samples. It is that of the distance at this number of samples, which is larger than that of endlessly many: compare sets of one
 * size.
 * @throws UsageError for other widths or fewer than two rows; NonFiniteError
 */
export function measuredFrechet(
  features: Float32Array,
  real: FeatureStatistics,
  { algebra, ...resampling }: Resampling & Pick<FrechetOptions, 'algebra'>,
): Measured {
  const { width } = real;
  const rows = features.length / width;
  const distance = (values: Float32Array) =>
    frechetDistance(featureStatistics(values, width, algebra), real, { algebra });
  const value = distance(features);
  return resampled(value, rows, resampling, (weights) => {
    const resample = repeated(features, width, weights);
    // Of a handful of samples, too few may be left: then all stand for them.
    return distance(resample.length >= 2 * width ? resample : features);
  });
}

/** Each row as often as its weight says. */
function repeated(features: Float32Array, width: number, weights: Uint8Array): Float32Array {
  const out = new Float32Array(weights.reduce((sum, w) => sum + w, 0) * width);
  let at = 0;
  for (const [row, weight] of weights.entries()) {
    for (let i = 0; i < weight; i++, at += width) out.set(features.subarray(row * width, (row + 1) * width), at);
  }
  return out;
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
