/**
 * Rectified flow (Liu et al., arXiv 2209.03003): the straight path without noise of its own.
 *
 * Draws: as fm.
 * Inputs: x_t = (1 - t) x0 + t x1, t, the label; no step level. `sigma` does not matter.
 * Targets: x1 - x0.
 * Source: baselines/targets_cfm.py of the reference, flow type rfm.
 */
import { roundedDraws } from './fm.ts';
import { flowRows, type Objective } from './objective.ts';

export const rfm: Objective = {
  draw: roundedDraws,
  rows: flowRows,
  record(ctx, { main, path }) {
    const { xt, v } = ctx.scope('flow', () => path(main.source, main.t));
    return { xt, target: v };
  },
};
