/**
 * The Fréchet distance of real pictures in the samples' place. Of one choice of them it is what chance made of it, and resampling counts
 * the noise again that the distance, being near zero, is made of. So it is the mean over choices, with the spread that they have.
 */
import { permutation } from '../engine/philox.ts';
import { type FeatureStatistics, featureStatisticsInTurns, statisticsWithout } from './feature-statistics.ts';
import { type FrechetOptions, frechetDistance } from './frechet.ts';
import { type Measured, quantile } from './measured.ts';
import { pickRows } from './neighbours.ts';
import { pausing, type Waiting } from './waiting.ts';

/** Choices of pictures: their 2.5 and 97.5 % quantiles are all but the outermost ones. */
export const SPLITS = 20;
const CHOICE = 0x65760007;

/** What is chosen from. */
export interface FloorOptions extends Waiting, Pick<FrechetOptions, 'algebra'> {
  /** An integer in [0, 2^32): which pictures are chosen. */
  readonly seed: number;
  /** Pictures that stand for samples; half of those that there are at most. */
  readonly count: number;
  /** What they are compared with; without it the pictures that are not chosen. */
  readonly reference?: FeatureStatistics;
}

/**
 * Mean Fréchet distance of `count` of these pictures, from their features [rows * width], over choices of them, and the middle 95 % of the
 * choices: what a model that is as good as its data would have. @throws UsageError for fewer than two pictures; NonFiniteError;
 * InterruptedError
 */
export async function floorDistance(
  features: Float32Array,
  width: number,
  { seed, count, reference, algebra, ...waiting }: FloorOptions,
): Promise<Measured> {
  const rows = features.length / width;
  const whole = reference ?? (await featureStatisticsInTurns(features, width, algebra, waiting));
  const pause = pausing('real pictures, choice', SPLITS, waiting);
  const distances = new Float64Array(SPLITS);
  for (let split = 0; split < SPLITS; split++) {
    const order = permutation({ seed, stream: CHOICE, step: split }, rows).subarray(0, count);
    const own = await featureStatisticsInTurns(pickRows(features, width, order), width, algebra, waiting);
    distances[split] = frechetDistance(own, reference ?? statisticsWithout(whole, own), { algebra });
    await pause(split + 1);
  }
  distances.sort();
  const value = distances.reduce((sum, x) => sum + x, 0) / SPLITS;
  return { value, low: quantile(distances, 0.025), high: quantile(distances, 0.975) };
}
