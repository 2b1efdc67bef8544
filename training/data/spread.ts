/** Whether latents spread as a model of them expects: about as far as the noise, which has deviation 1. */
import type { Spread } from './dataset.ts';

/** Over numbers: how many, their sum, and that of their squares. */
export interface Sums {
  count: number;
  sum: number;
  squares: number;
}

/** Adds numbers to the sums. */
export function addToSums(sums: Sums, values: Iterable<number>): void {
  for (const value of values) {
    sums.count++;
    sums.sum += value;
    sums.squares += value * value;
  }
}

/** Mean and deviation of what was summed. */
export function spreadOf({ count, sum, squares }: Readonly<Sums>): Spread {
  const mean = sum / count;
  return { mean, deviation: Math.sqrt(Math.max(0, squares / count - mean * mean)) };
}

/** Deviations within these are nothing to speak of. */
const [LEAST, MOST] = [0.4, 2.5];

/**
 * What is to be said of latents that are scaled by a wrong factor; undefined for others. `factor`: what they have been scaled by, where it
 * is known.
 */
export function spreadWarning(name: string, { mean, deviation }: Spread, factor?: number): string | undefined {
  if (deviation >= LEAST && deviation <= MOST) return undefined;
  const right = (factor ?? 1) / deviation;
  const by = factor === undefined ? 'they would have to be multiplied by' : `their factor is ${factor}; it would be`;
  const remedy = Number.isFinite(right) ? ` (${by} about ${right.toPrecision(3)})` : '';
  return `the latents of '${name}' have mean ${mean.toFixed(3)} and deviation ${deviation.toFixed(3)}; models of latents learn from those whose deviation is about 1${remedy}`;
}
