/**
 * Consistency training (Song et al., arXiv 2303.01469) with velocities: from a point and from the next one on the same path the
 * network must lead to the same picture.
 *
 * Draws: the level d of the update, the same for all rows: from 0 at first up to log2(finest), so the two points come nearer; t on
 * the grid of 2^d sections. Labels are kept.
 * Inputs: x_t = (1 - (1 - 1e-5) t) x0 + t x1, t, the label; no step level.
 * Targets: the velocity that leads from x_t to the picture that the moving average makes of the next point, at t + 2^-d on the same
 * path, in one step. Always the moving average.
 * Source: baselines/targets_consistency_training.py of the reference.
 */
import { eulerEach, velocityToward } from '../../kernels/flow.ts';
import type { TrainConfig } from '../config.ts';
import {
  consistencyRows,
  evaluate,
  filled,
  filledIntegers,
  finestLevel,
  levelDraws,
  type Objective,
  SIGMA_MIN,
} from './objective.ts';

/** The level of an update, from 0. */
function consistencyLevel(train: TrainConfig, update: number): number {
  const levels = finestLevel(train);
  return Math.min(levels, Math.floor((update + 1) / (train.steps / levels)));
}

export const consistency: Objective = {
  draw: (request) => levelDraws(request, consistencyLevel(request.train, request.update)),
  rows: consistencyRows,
  inputs({ train, sorted, full }) {
    const later = Float32Array.from(sorted, ({ t, level }) => t + 2 ** -level);
    return {
      later,
      rest: later.map((t) => 1 - t),
      // The network ignores levels: its input for them is 0.
      step: filled(train.batch, 0),
      full: filledIntegers(train.batch, full),
    };
  },
  record(ctx, { main, own, path, average }) {
    const { xt } = ctx.scope('flow', () => path(main.source, main.t, SIGMA_MIN));
    const target = ctx.scope('time', () => {
      const next = path(main.source, own.later!, SIGMA_MIN).xt;
      const { labels } = main;
      const v = evaluate(ctx, 'next', average, { x: next, t: own.later!, step: own.step!, labels }, own.full!);
      return velocityToward(ctx, xt, eulerEach(ctx, next, v, own.rest!), main.t);
    });
    return { xt, target };
  },
};
