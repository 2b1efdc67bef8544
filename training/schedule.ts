/** What changes over a run: the learning rate (linear warm-up, constant, a cosine over the last tenth that starts at the peak) and a warming average. */

/**
 * Rate of the update with this index (0-based; the first has rate 0 if there is a warm-up). As the reference joins optax schedules: warm-up rules up to
 * 0.9 * steps even where it is longer than that.
 */
export function learningRate(
  index: number,
  { lr, warmup, steps }: { lr: number; warmup: number; steps: number },
): number {
  const cosineStart = fallsFrom(steps);
  if (index < cosineStart) return warmup === 0 ? lr : lr * Math.min(1, index / warmup);
  const progress = Math.min(1, (index - cosineStart) / Math.max(1, steps - cosineStart));
  return lr * 0.5 * (1 + Math.cos(Math.PI * progress));
}

/** The update with which the rate begins to fall, of a run of `steps`. */
const fallsFrom = (steps: number): number => Math.floor(0.9 * steps);

/** Updates of warm-up that a run of `steps` has room for: a longer one would end in a jump of the rate. */
export const longestWarmup = (steps: number): number => Math.max(1, fallsFrom(steps));

/**
 * What the average keeps of itself in an update, for a run of `steps` of which nobody says: a memory of 1,000 updates, as in the reference, from
 * 10,000 on; of 100 for fewer, as it would be full of the start for too long.
 */
export const averageDecay = (steps: number): number => (steps >= 10_000 ? 0.999 : 0.99);

/** What a warming average keeps of itself in update number `count`, from 1: 2/11, 3/12, ... until `decay`. */
export const warmDecay = (decay: number, count: number): number => Math.min(decay, 1 - 9 / (10 + count));
