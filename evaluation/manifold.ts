/**
 * Fidelity and variety apart, by balls that reach to a picture's k-th neighbour of its own set: precision and recall (Kynkäänniemi et
 * al., "Improved precision and recall metric", 2019), density and coverage (Naeem et al., "Reliable fidelity and diversity", 2020).
 */
import { type Measured, measuredMean, type Resampling, type Share, share } from './measured.ts';
import { countInside, kthSquaredDistances } from './neighbours.ts';

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
export interface ManifoldOptions extends Resampling {
  /** Of precision and recall. Default 3. */
  readonly k?: number;
  /** Of density and coverage. Default 5. */
  readonly wide?: number;
}

const hits = (counts: Uint32Array): Share =>
  share(
    counts.reduce((sum, n) => sum + (n > 0 ? 1 : 0), 0),
    counts.length,
  );

/**
 * Precision, recall, density and coverage from features [rows * width] of samples and of real pictures. They depend on how many pictures
 * there are of either; equally many are the custom.
 * @throws UsageError where a set has no k-th neighbour, or a part of a row
 */
export function manifold(
  samples: Float32Array,
  real: Float32Array,
  width: number,
  { k = 3, wide = 5, ...resampling }: ManifoldOptions,
): Manifold {
  const radii = (set: Float32Array, neighbour: number) => kthSquaredDistances(set, set, width, neighbour);
  const precision = countInside(samples, real, radii(real, k), width, { closed: true });
  const recall = countInside(real, samples, radii(samples, k), width, { closed: true });
  const dense = countInside(samples, real, radii(real, wide), width, { closed: false });
  const perSample = Float64Array.from(dense.balls, (balls) => balls / wide);
  return {
    precision: hits(precision.balls),
    recall: hits(recall.balls),
    density: measuredMean(perSample, resampling),
    coverage: hits(dense.points),
  };
}
