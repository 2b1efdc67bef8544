/**
 * Flow matching with Gaussian paths (Lipman et al., arXiv 2210.02747, eq. 20 to 23).
 *
 * Draws: for every row t, uniform in [0, 1) and rounded to the nearest point of the finest grid (so 1 occurs, half as often as the
 * others, as does 0) unless `timeSampling` is continuous; whether the label is dropped.
 * Inputs: x_t = (1 - (1 - sigma) t) x0 + t x1, t, the label; no step level.
 * Targets: x1 - (1 - sigma) x0. The reference writes it as (x1 - (1 - sigma) x_t) / (1 - (1 - sigma) t), which is the same but
 * loses digits where t is near 1.
 * Source: baselines/targets_cfm.py of the reference, flow type fm.
 */
import { uniforms } from '../../engine/philox.ts';
import { type DrawRequest, flowRows, labelDrops, type Objective, STREAM, type TargetDraws } from './objective.ts';

/** The point of the grid of `finest` sections that is nearest to each u; of two, the even one. */
export function roundedTimes(u: ArrayLike<number>, finest: number): Float32Array {
  return Float32Array.from(u, (x) => {
    const below = Math.floor(x * finest);
    const over = x * finest - below;
    const up = over > 0.5 || (over === 0.5 && below % 2 === 1);
    return (below + Number(up)) / finest;
  });
}

/** The draws of fm, icfm and rfm. */
export function roundedDraws(request: DrawRequest): TargetDraws {
  const { train, shares, from } = request;
  const u = uniforms(from(STREAM.flowT), shares.flowRows);
  const flowT = train.timeSampling === 'continuous' ? u : roundedTimes(u, train.finest);
  return { levels: [], timeT: [], flowT, dropped: labelDrops(request) };
}

export const fm: Objective = {
  draw: roundedDraws,
  rows: flowRows,
  record(ctx, { main, path, train }) {
    const { xt, v } = ctx.scope('flow', () => path(main.source, main.t, train.sigma));
    return { xt, target: v };
  },
};
