/**
 * JAX's random numbers, bit for bit: its counter-based generator, its distributions, and the noise and labels that the reference draws
 * for its samples.
 * @module odelt/jax
 */
export { jaxBernoulli, jaxIntegers, jaxNormal, jaxPermutation, jaxUniform } from './engine/jax-random.ts';
export {
  type DrawRange,
  foldIn,
  prngKey,
  randomBits,
  splitKey,
  type ThreefryKey,
  type ThreefryOptions,
  threefry2x32,
} from './engine/threefry.ts';
export { jaxLabels, jaxNoise, REFERENCE_SEED } from './sampling/jax-draws.ts';
