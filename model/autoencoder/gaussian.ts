/** The diagonal Gaussian that an AutoencoderKL's encoder gives: moments [..., 2C], means first, then logarithms of variances. */
import { UsageError } from '../../engine/errors.ts';

/** Log variances are kept within these. */
const [LEAST, MOST] = [-30, 20];

/** Means, and log variances within [-30, 20], of `channels` each per pixel. */
export interface Gaussian {
  readonly mean: Float32Array;
  readonly logvar: Float32Array;
}

/** Splits moments [..., 2 * channels] in two of [..., channels]. @throws UsageError for values that are no whole pixels. */
export function gaussianOf(moments: Float32Array, channels: number): Gaussian {
  const pixels = moments.length / (2 * channels);
  if (!Number.isInteger(pixels)) throw new UsageError(`${moments.length} moments are no pixels of ${2 * channels}`);
  const [mean, logvar] = [new Float32Array(pixels * channels), new Float32Array(pixels * channels)];
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < channels; c++) {
      mean[p * channels + c] = moments[2 * p * channels + c]!;
      logvar[p * channels + c] = Math.min(MOST, Math.max(LEAST, moments[(2 * p + 1) * channels + c]!));
    }
  }
  return { mean, logvar };
}

/** mean + exp(logvar / 2) * noise: a draw, given standard normals. @throws UsageError for another number of them. */
export function gaussianSample({ mean, logvar }: Gaussian, noise: Float32Array): Float32Array {
  if (noise.length !== mean.length) throw new UsageError(`${noise.length} normals for ${mean.length} latents`);
  return mean.map((m, i) => m + Math.exp(logvar[i]! / 2) * noise[i]!);
}

/** The divergence from standard normals, of all values together: 0.5 sum(mean^2 + variance - 1 - logvar). */
export const gaussianDivergence = ({ mean, logvar }: Gaussian): number =>
  mean.reduce((sum, m, i) => sum + 0.5 * (m * m + Math.exp(logvar[i]!) - 1 - logvar[i]!), 0);
