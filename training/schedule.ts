/** The learning-rate schedule: linear warm-up, constant, and a cosine over the last tenth that starts at the peak. */

/**
 * Rate of the update with this index (0-based; the first has rate 0 if there is a warm-up). As the reference joins optax schedules: warm-up rules up to
 * 0.9 * steps even where it is longer than that.
 */
export function learningRate(
  index: number,
  { lr, warmup, steps }: { lr: number; warmup: number; steps: number },
): number {
  const cosineStart = Math.floor(0.9 * steps);
  if (index < cosineStart) return warmup === 0 ? lr : lr * Math.min(1, index / warmup);
  const progress = Math.min(1, (index - cosineStart) / Math.max(1, steps - cosineStart));
  return lr * 0.5 * (1 + Math.cos(Math.PI * progress));
}
