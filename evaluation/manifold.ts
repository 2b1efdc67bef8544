/**
 * Fidelity and variety apart, by balls that reach to a picture's k-th neighbour of its own set: precision and recall (Kynkäänniemi et
 * al., "Improved precision and recall metric", 2019), density and coverage (Naeem et al., "Reliable fidelity and diversity", 2020).
 */
import { type Measured, measuredMean, type Resampling, type Share, share } from './measured.ts';
import { type Balls, ballsOf, countMutual, nearestWithin } from './neighbours.ts';
import type { Waiting } from './waiting.ts';

/** The four figures. The balls are taken as given: intervals are those of what is counted in them. */
export interface Manifold {
  /** Share of samples in the ball of some real picture. */
  readonly precision: Share;
  /** Share of real pictures in the ball of some sample. */
  readonly recall: Share;
  /** Real pictures' balls that a sample is in, over k: about 1 where both sets are alike. */
  readonly density: Measured;
  /** Share of real pictures whose ball holds a sample. */
  readonly coverage: Share;
}

/** Neighbours that the balls reach to. */
export interface ManifoldOptions extends Resampling, Waiting {
  /** Of precision and recall. Default 3. */
  readonly k?: number;
  /** Of density and coverage. Default 5. */
  readonly wide?: number;
  /** The balls of the real pictures, for these k and `wide`, where several sets of samples are compared with them. */
  readonly balls?: Balls;
}

const hits = (counts: Uint32Array): Share =>
  share(
    counts.reduce((sum, n) => sum + (n > 0 ? 1 : 0), 0),
    counts.length,
  );

/**
 * Precision, recall, density and coverage from features [rows * width] of samples and of real pictures. They depend on how many pictures
 * there are of either; equally many are the custom. Of tens of thousands they take minutes: others get their turn meanwhile.
 * @throws UsageError where a set has no k-th neighbour, or a part of a row; InterruptedError
 */
export async function manifold(
  samples: Float32Array,
  real: Float32Array,
  width: number,
  { k = 3, wide = 5, balls, signal, onWork, ...resampling }: ManifoldOptions,
): Promise<Manifold> {
  const waiting = { signal, onWork };
  const own = every(await nearestWithin(samples, width, k, waiting), k);
  const ofB = balls ?? (await realBalls(real, width, { k, wide }, waiting));
  const found = await countMutual(samples, real, width, { ofA: own, ofB }, waiting);
  const perSample = Float64Array.from(found.inWide, (count) => count / wide);
  return {
    precision: hits(found.inNarrow),
    recall: hits(found.hasNarrow),
    density: measuredMean(perSample, resampling),
    coverage: hits(found.holds),
  };
}

/** The balls that `manifold` compares with. @throws UsageError where there is no k-th neighbour; InterruptedError */
export const realBalls = (
  real: Float32Array,
  width: number,
  { k = 3, wide = 5 } = {},
  waiting?: Waiting,
): Promise<Balls> => ballsOf(real, width, { k, wide }, waiting);

/** The last of every `k` values. */
const every = (values: Float64Array, k: number): Float64Array => values.filter((_, i) => i % k === k - 1);
