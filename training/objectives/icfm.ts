/**
 * Independent conditional flow matching (Tong et al., arXiv 2302.00482): the straight path with noise of deviation sigma around it.
 *
 * Draws: as fm.
 * Inputs: x_t = (1 - t) x0 + t x1 + sigma x0, t, the label; no step level. The method wants noise of its own around the path. The
 * reference draws that from the key of x0, so it is x0 once more; so it is here.
 * Targets: x1 - x0.
 * Source: baselines/targets_cfm.py of the reference, flow type icfm.
 */
import { eulerEach } from '../../kernels/flow.ts';
import { roundedDraws } from './fm.ts';
import { filled, flowRows, type Objective } from './objective.ts';

export const icfm: Objective = {
  draw: roundedDraws,
  rows: flowRows,
  inputs: ({ train }) => ({ sigma: filled(train.batch, train.sigma) }),
  record: (ctx, { main, own, path, noise }) =>
    ctx.scope('flow', () => {
      const { xt, v } = path(main.source, main.t);
      return { xt: eulerEach(ctx, xt, noise(main.source), own.sigma!), target: v };
    }),
};
