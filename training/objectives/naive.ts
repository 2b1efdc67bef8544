/**
 * Flow matching as the reference's baseline has it: the straight path with a trace of noise left at its end.
 *
 * Draws: for every row t on the finest grid (or anywhere in [0, 1), `timeSampling`) and whether the label is dropped.
 * Inputs: x_t = (1 - (1 - 1e-5) t) x0 + t x1, t, the label; no step level.
 * Targets: x1 - (1 - 1e-5) x0.
 * Source: baselines/targets_naive.py of the reference.
 */
import { flowRows, flowTimes, labelDrops, type Objective, SIGMA_MIN } from './objective.ts';

export const naive: Objective = {
  draw: (request) => ({ levels: [], timeT: [], flowT: flowTimes(request), dropped: labelDrops(request) }),
  rows: flowRows,
  record(ctx, { main, path }) {
    const { xt, v } = ctx.scope('flow', () => path(main.source, main.t, SIGMA_MIN));
    return { xt, target: v };
  },
};
