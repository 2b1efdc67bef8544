/** Whether latents spread as a model of them expects: about as far as the noise, which has deviation 1. */

/** Mean and standard deviation of numbers as the model takes them. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number;
}

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
const isUsual = (deviation: number): boolean => deviation >= LEAST && deviation <= MOST;

/**
 * What is to be said of latents that are scaled by a wrong factor; undefined for others. `factor`: what they have been scaled by, where it
 * is known.
 */
export function spreadWarning(name: string, { mean, deviation }: Spread, factor?: number): string | undefined {
  if (isUsual(deviation)) return undefined;
  const right = (factor ?? 1) / deviation;
  const by = factor === undefined ? 'they would have to be multiplied by' : `their factor is ${factor}; it would be`;
  const remedy = Number.isFinite(right) ? ` (${by} about ${right.toPrecision(3)})` : '';
  return `the latents of '${name}' have mean ${mean.toFixed(3)} and deviation ${deviation.toFixed(3)}; models of latents learn from those whose deviation is about 1${remedy}`;
}

/**
 * What is to be said of samples that a decoder, whose factor this is, takes for others than they are; undefined for those as they should
 * be.
 */
export function spreadProblem(values: Float32Array, factor: number): string | undefined {
  const sums = { count: 0, sum: 0, squares: 0 };
  addToSums(sums, values);
  const { deviation } = spreadOf(sums);
  if (isUsual(deviation)) return undefined;
  return `the samples' deviation is ${deviation.toPrecision(3)}; latents that are scaled as the decoder takes them (its factor is ${factor}) have about 1: the model learned from others, or too little`;
}
