/** Mean and covariance of features in float64, in one pass over chunks of any size: large means cost no accuracy. */
import { NonFiniteError, UsageError } from '../engine/errors.ts';
import { type LinearAlgebra, ownAlgebra } from './linear-algebra.ts';
import { pausing, type Waiting } from './waiting.ts';

/** Mean and covariance of a set of features of `width` numbers each. */
export interface FeatureStatistics {
  readonly count: number;
  readonly width: number;
  /** [width] */
  readonly mean: Float64Array;
  /** Sums of products of deviations over count - 1, [width * width]. */
  readonly covariance: Float64Array;
}

/** Statistics in the making. */
export interface FeatureSums {
  readonly width: number;
  /** Features [rows * width] to count in. @throws UsageError unless there are whole rows; NonFiniteError, naming the row. */
  add(features: Float32Array | Float64Array): void;
  /** Of all rows so far. @throws UsageError for fewer than two. */
  statistics(): FeatureStatistics;
}

/** Rows whose deviations are multiplied together: few enough to stay in the cache. */
const BLOCK = 64;

/** Sums of no features yet, whose products `algebra` makes. @throws UsageError unless the width is a positive integer. */
export function createFeatureSums(width: number, algebra: LinearAlgebra = ownAlgebra): FeatureSums {
  if (!(Number.isInteger(width) && width > 0)) throw new UsageError(`features cannot be ${width} numbers wide`);
  let count = 0;
  const mean = new Float64Array(width);
  const products = new Float64Array(width * width); // of deviations from the mean so far; lower triangle
  const deviations = new Float64Array(width * BLOCK); // [width, rows]
  const shift = new Float64Array(width);

  function addBlock(features: Float32Array | Float64Array, from: number, rows: number): void {
    for (let j = 0; j < width; j++) {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += features[(from + r) * width + j]!;
      const own = sum / rows;
      for (let r = 0; r < rows; r++) deviations[j * BLOCK + r] = features[(from + r) * width + j]! - own;
      shift[j] = own - mean[j]!;
      mean[j]! += (shift[j]! * rows) / (count + rows);
    }
    // Chan, Golub and LeVeque 1979: what the two means differ by counts as if each set lay at its mean.
    const weight = (count * rows) / (count + rows);
    for (let i = 0; i < width; i++) {
      for (let j = 0; j <= i; j++) products[i * width + j]! += weight * shift[i]! * shift[j]!;
    }
    algebra.addProducts(products, deviations, width, rows, BLOCK);
    count += rows;
  }

  return {
    width,
    add(features) {
      const rows = features.length / width;
      if (!Number.isInteger(rows)) throw new UsageError(`${features.length} numbers are no rows of ${width}`);
      checkFinite(features, width, count);
      for (let from = 0; from < rows; from += BLOCK) addBlock(features, from, Math.min(BLOCK, rows - from));
    },
    statistics() {
      if (count < 2) throw new UsageError(`a covariance needs two samples or more, not ${count}`);
      const covariance = new Float64Array(width * width);
      for (let i = 0; i < width; i++) {
        for (let j = 0; j <= i; j++) {
          covariance[i * width + j] = covariance[j * width + i] = products[i * width + j]! / (count - 1);
        }
      }
      return { count, width, mean: mean.slice(), covariance };
    },
  };
}

/**
 * Mean and covariance of features [rows * width].
 * @throws UsageError for fewer than two rows, or a part of one; NonFiniteError, naming the row.
 */
export function featureStatistics(
  features: Float32Array | Float64Array,
  width: number,
  algebra?: LinearAlgebra,
): FeatureStatistics {
  const sums = createFeatureSums(width, algebra);
  sums.add(features);
  return sums.statistics();
}

/** Rows that are added between two looks at who waits: whole blocks, so that sums are the same. */
const TURN = 4 * BLOCK;

/** The same, while others get their turn. @throws as `featureStatistics`; InterruptedError */
export async function featureStatisticsInTurns(
  features: Float32Array,
  width: number,
  algebra?: LinearAlgebra,
  waiting?: Waiting,
): Promise<FeatureStatistics> {
  const sums = createFeatureSums(width, algebra);
  const rows = Math.ceil(features.length / width);
  const pause = pausing('statistics, picture', rows, waiting);
  for (let row = 0; row < rows; row += TURN) {
    await pause(row);
    sums.add(features.subarray(row * width, (row + TURN) * width));
  }
  return sums.statistics();
}

/** Statistics of the rows of a whole that are not in a part of it. @throws UsageError where fewer than two are left */
export function statisticsWithout(whole: FeatureStatistics, part: FeatureStatistics): FeatureStatistics {
  const { width } = whole;
  const count = whole.count - part.count;
  if (count < 2) throw new UsageError(`a covariance needs two samples or more, not ${count}`);
  const mean = whole.mean.map((x, j) => (whole.count * x - part.count * part.mean[j]!) / count);
  const between = (part.count * count) / whole.count;
  const apart = mean.map((x, j) => x - part.mean[j]!);
  const covariance = new Float64Array(width * width);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j < width; j++) {
      const at = i * width + j;
      const products = (whole.count - 1) * whole.covariance[at]! - (part.count - 1) * part.covariance[at]!;
      covariance[at] = (products - between * apart[i]! * apart[j]!) / (count - 1);
    }
  }
  return { count, width, mean, covariance };
}

/** @throws NonFiniteError naming the row, of which the first is number `first`. */
function checkFinite(features: Float32Array | Float64Array, width: number, first = 0): void {
  for (let i = 0; i < features.length; i++) {
    if (Number.isFinite(features[i]!)) continue;
    throw new NonFiniteError(`feature ${i % width} of sample ${first + Math.floor(i / width)} is ${features[i]}`);
  }
}
