/**
 * The reference's starting noise and labels, for `rng: 'jax'`: of each numbered batch of an evaluation, a key from the seed, the
 * batch's number and the number of the process (one, number 0), split into one for noise and one for labels.
 */
import { jaxIntegers, jaxNormal } from '../engine/jax-random.ts';
import { foldIn, prngKey, splitKey, type ThreefryKey } from '../engine/threefry.ts';

/** The seed that the reference evaluates with. */
export const REFERENCE_SEED = 42;

function keysOf(seed: number, batchNumber: number): { noise: ThreefryKey; labels: ThreefryKey } {
  const [noise, labels] = splitKey(foldIn(foldIn(prngKey(seed), batchNumber), 0));
  return { noise: noise!, labels: labels! };
}

/**
 * Standard normals of `shape` [B, ...] as the reference draws them for one of its batches, in its order: rows `first` to
 * first + B - 1 of that batch. A row does not depend on how many there are.
 * @throws UsageError unless seed and batchNumber are integers in [0, 2^32).
 */
export function jaxNoise(
  seed: number,
  batchNumber: number,
  shape: readonly number[],
  first = 0,
): Float32Array<ArrayBuffer> {
  const row = shape.slice(1).reduce((product, n) => product * n, 1);
  return jaxNormal(keysOf(seed, batchNumber).noise, { count: shape[0]! * row, first: first * row });
}

/**
 * Labels in [0, classes) as the reference draws them for rows first .. first + count - 1 of one of its batches.
 * @throws UsageError unless seed and batchNumber are integers in [0, 2^32), and classes a positive one.
 */
export function jaxLabels(seed: number, batchNumber: number, count: number, classes: number, first = 0): number[] {
  return Array.from(jaxIntegers(keysOf(seed, batchNumber).labels, { count, first }, { min: 0, max: classes }));
}
