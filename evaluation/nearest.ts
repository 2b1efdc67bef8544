/**
 * Whether samples are copies: how far each is from its nearest real picture, beside the same for pictures that were held out. Copies of
 * pictures that are not among the real ones cannot be seen: these must be what the model was trained on.
 */
import { UsageError } from '../engine/errors.ts';
import { type Measured, quantile, Z } from './measured.ts';
import { kthSquaredDistances } from './neighbours.ts';
import type { Waiting } from './waiting.ts';

/** Shares of a set that lie below the distances which describe it. */
export const NEAREST_QUANTILES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95] as const;

/**
 * Distance of each of `rows` to the nearest of `real`, from features [rows * width]; ascending. @throws UsageError for a part of a row, or
 * no real picture; InterruptedError
 */
export const nearestDistances = async (
  rows: Float32Array,
  real: Float32Array,
  width: number,
  waiting?: Waiting,
): Promise<Float64Array> => (await kthSquaredDistances(rows, real, width, 1, waiting)).map(Math.sqrt).sort();

/** Ascending distances at NEAREST_QUANTILES. */
export const distanceQuantiles = (sorted: Float64Array): number[] => NEAREST_QUANTILES.map((q) => quantile(sorted, q));

/**
 * The probability that a sample is nearer to its nearest real picture than a held-out picture is to its own, ties counting half,
 * from ascending distances: 0.5 for samples like held-out pictures, 1 for copies of real ones. The interval is DeLong's (1988), of both sets.
 * @throws UsageError for fewer than two of either
 */
export function nearerShare(samples: Float64Array, heldOut: Float64Array): Measured {
  if (samples.length < 2 || heldOut.length < 2)
    throw new UsageError(`${samples.length} and ${heldOut.length} distances cannot be compared: it takes two of each`);
  const further = placements(samples, heldOut);
  const nearer = placements(heldOut, samples).map((x) => 1 - x);
  const value = mean(further);
  const variance = spread(further) / further.length + spread(nearer) / nearer.length;
  const reach = Z * Math.sqrt(variance);
  return { value, low: Math.max(0, value - reach), high: Math.min(1, value + reach) };
}

/** For each value the share of `others` that are larger, equal ones counting half; both ascending. */
function placements(values: Float64Array, others: Float64Array): Float64Array {
  let [below, upTo] = [0, 0];
  return values.map((value) => {
    while (below < others.length && others[below]! < value) below++;
    while (upTo < others.length && others[upTo]! <= value) upTo++;
    return 1 - (below + upTo) / (2 * others.length);
  });
}

const mean = (values: Float64Array): number => values.reduce((sum, x) => sum + x, 0) / values.length;

function spread(values: Float64Array): number {
  const centre = mean(values);
  return values.reduce((sum, x) => sum + (x - centre) ** 2, 0) / (values.length - 1);
}
