/**
 * Models of other programs that predict the noise of a diffusion with discrete steps (DDPM, arXiv 2006.11239), on the straight path
 * that samplers walk. The input at step s is alpha x1 + sigma x0, with x1 data and x0 noise. Divided by alpha + sigma it is the point
 * of the straight path at t = alpha / (alpha + sigma), so each time has its step and its scale. With the noise that is predicted there,
 * the velocity x1 - x0 is (x - noise) / t, and Euler's method on it is DDIM (arXiv 2010.02502).
 */
import { ConfigError } from '../engine/errors.ts';

/** Where a diffusion stands at a time of the straight path. */
export interface DiffusionPoint {
  /** The step, which need not be whole, from 0 (nearly data) to steps - 1 (nearly noise). */
  readonly step: number;
  /** That step as a share of all of them: the time that the network is told. */
  readonly told: number;
  /** Its time: the one that was asked for, or the nearest that the diffusion reaches. */
  readonly t: number;
  /** What the straight path's point is multiplied by for the network: 1 / sqrt(t^2 + (1 - t)^2). */
  readonly scale: number;
}

/** Below so many steps, the schedule of 1,000 cannot be stretched to them. */
const LEAST_STEPS = 21;

/**
 * The diffusion of so many steps whose variances grow linearly, from 0.0001 to 0.02 where they are 1,000 (as DiT's): gives its point at
 * any time in [0, 1].
 * @throws ConfigError for a number of steps that is no integer above 20
 */
export function linearDiffusion(steps: number): (t: number) => DiffusionPoint {
  if (!Number.isInteger(steps) || steps < LEAST_STEPS) {
    throw new ConfigError(
      `a model that predicts noise is told steps, and its timeScale is ${steps}: no number of steps`,
      { hint: `timeScale must be an integer from ${LEAST_STEPS} on; DiT has 1000` },
    );
  }
  const stretch = 1000 / steps;
  const [first, last] = [1e-4 * stretch, 0.02 * stretch];
  let kept = 1;
  // log(alpha / sigma) of each step: falling.
  const ratios = Float64Array.from({ length: steps }, (_, s) => {
    kept *= 1 - (first + ((last - first) * s) / (steps - 1));
    return 0.5 * Math.log(kept / (1 - kept));
  });
  return (time) => {
    const wanted = Math.log(time / (1 - time));
    const ratio = Math.min(ratios[0]!, Math.max(ratios[steps - 1]!, wanted));
    let [low, high] = [0, steps - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (ratios[middle]! >= ratio) low = middle;
      else high = middle;
    }
    const step = low + (ratios[low]! - ratio) / (ratios[low]! - ratios[high]!);
    const t = ratio === wanted ? time : 1 / (1 + Math.exp(-ratio));
    return { step, told: step / steps, t, scale: 1 / Math.hypot(t, 1 - t) };
  };
}
