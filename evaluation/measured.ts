/** Figures with their intervals: shares from counts, and resampling by weights that are a function of seed, replicate and sample. */
import { UsageError } from '../engine/errors.ts';
import { type RandomSource, uniforms } from '../engine/philox.ts';

/** A figure and its interval of 95 %. */
export interface Measured {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** A figure whose interval may have been left out. */
export interface Figure {
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
}

/** A figure as plots draw it: without an interval its bar has no length. */
export const barOf = ({ value, low, high }: Figure): Measured => ({ value, low: low ?? value, high: high ?? value });

/** A share of counted things, with its counts, which add up over parts of a set. */
export interface Share extends Measured {
  readonly hits: number;
  readonly of: number;
}

/** How a bootstrap is drawn. */
export interface Resampling {
  /** An integer in [0, 2^32). */
  readonly seed: number;
  /** Resampled sets; default 200. For Fréchet distances also 0: no interval. */
  readonly replicates?: number;
}

/** Share of a normal distribution's deviations that lie within Z of its mean: 95 %. */
export const Z = 1.959963984540054;
/** What random numbers are for: apart from those of noise and training. */
const RESAMPLING = 0x65760001;
/** Resampled sets of an interval, unless told otherwise. */
export const REPLICATES = 200;

const FACTORIALS = [1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880];

/** Probabilities that a Poisson variable of mean 1 is at most 0, 1, ..., 9; beyond, uniforms of 24 bits hardly reach. */
const POISSON = Float64Array.of(1, 2, 5, 16, 65, 326, 1957, 13700, 109601, 986410).map(
  (sum, k) => (Math.exp(-1) * sum) / FACTORIALS[k]!,
);

/** hits / of with Wilson's interval, which is one also where nothing or everything is hit. @throws UsageError for no share. */
export function share(hits: number, of: number): Share {
  if (!(Number.isInteger(hits) && Number.isInteger(of) && hits >= 0 && hits <= of && of > 0))
    throw new UsageError(`${hits} of ${of} is no share`);
  const value = hits / of;
  const shrink = 1 + Z ** 2 / of;
  const centre = (value + Z ** 2 / (2 * of)) / shrink;
  const half = (Z / shrink) * Math.sqrt((value * (1 - value)) / of + Z ** 2 / (4 * of ** 2));
  // Wilson's bounds are 0 and 1 there, but for rounding.
  const low = hits === 0 ? 0 : centre - half;
  const high = hits === of ? 1 : centre + half;
  return { value, low, high, hits, of };
}

/**
 * How often each of `count` samples, from number `first` on, is in resampled set `replicate`: Poisson with mean 1. Sample n has the
 * same weights however a set is cut into parts, and in every set that is compared with it.
 */
export function resamplingWeights(seed: number, replicate: number, count: number, first = 0): Uint8Array {
  const source: RandomSource = { seed, stream: RESAMPLING, step: replicate };
  return Uint8Array.from(uniforms(source, count, first), (u) => {
    let weight = 0;
    while (weight < POISSON.length && u >= POISSON[weight]!) weight++;
    return weight;
  });
}

/** The weights [count] of one resampled set after the other. @throws UsageError for fewer than two sets */
export function* resampledSets(
  count: number,
  { seed, replicates = REPLICATES }: Resampling,
): Generator<Uint8Array, void> {
  if (!(Number.isInteger(replicates) && replicates >= 2))
    throw new UsageError(`${replicates} resampled sets give no interval; it takes two or more`);
  for (let replicate = 0; replicate < replicates; replicate++) yield resamplingWeights(seed, replicate, count);
}

/**
 * The interval of a figure `value` from those of resampled sets: their middle 95 % as distances from their mean, so that what resampling
 * adds to a figure that fewer different samples make larger is not in it.
 */
export function intervalOf(value: number, values: readonly number[]): Measured {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const sorted = Float64Array.from(values).sort();
  return { value, low: value + quantile(sorted, 0.025) - mean, high: value + quantile(sorted, 0.975) - mean };
}

/** A figure `value` with its interval; `of` is given each resampled set's weights [count]. */
export const resampled = (
  value: number,
  count: number,
  resampling: Resampling,
  of: (weights: Uint8Array) => number,
): Measured => intervalOf(value, Array.from(resampledSets(count, resampling), of));

/** A weighted mean's interval. @throws UsageError for no values. */
export function measuredMean(values: ArrayLike<number>, resampling: Resampling): Measured {
  const count = values.length;
  if (count === 0) throw new UsageError('no values have no mean');
  const mean = (weights: ArrayLike<number>) => {
    let [sum, all] = [0, 0];
    for (let i = 0; i < count; i++) {
      sum += weights[i]! * values[i]!;
      all += weights[i]!;
    }
    return sum / all;
  };
  const whole = mean(new Uint8Array(count).fill(1));
  // A set without any sample is one in e^count.
  return resampled(whole, count, resampling, (weights) => (weights.some((w) => w > 0) ? mean(weights) : whole));
}

/** The q-quantile of ascending values, between neighbours in proportion (NumPy's default). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const [a, b] = [sorted[below]!, sorted[Math.min(below + 1, sorted.length - 1)]!];
  return a + (at - below) * (b - a);
}

const STUDENT = [12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157];

/** How many standard errors from the mean of n + 1 values a 95 % interval reaches: Student's t with n degrees of freedom. */
export function studentReach(n: number): number {
  if (n <= STUDENT.length) return STUDENT[n - 1]!;
  // Abramowitz and Stegun 26.7.5; to 2e-4 from 10 on.
  const [a, b, c] = [Z ** 3 + Z, 5 * Z ** 5 + 16 * Z ** 3 + 3 * Z, 3 * Z ** 7 + 19 * Z ** 5 + 17 * Z ** 3 - 15 * Z];
  return Z + a / (4 * n) + b / (96 * n ** 2) + c / (384 * n ** 3);
}
