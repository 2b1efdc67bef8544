/**
 * Consistency distillation (Song et al., arXiv 2303.01469) with velocities: as consistency training, but the next point is where a
 * trained teacher's step leads.
 *
 * Draws: t on the finest grid for every row. Labels are kept.
 * Inputs: x_t = (1 - (1 - 1e-5) t) x0 + t x1, t, the label; no step level.
 * Targets: a step of 1 / finest by the teacher, its end cut off at +-4; then the velocity that leads from x_t to the picture that
 * the student's moving average makes of that point in one step. Always the moving average.
 * Teacher: the one that was given, throughout.
 * Source: baselines/targets_consistency_distillation.py of the reference.
 */
import { eulerEach, velocityToward } from '../../kernels/flow.ts';
import { eulerWithin } from '../../kernels/flow-training.ts';
import {
  BOUND,
  consistencyRows,
  evaluate,
  filled,
  filledIntegers,
  finestLevel,
  levelDraws,
  type Objective,
  SIGMA_MIN,
} from './objective.ts';

export const consistencyDistillation: Objective = {
  draw: (request) => levelDraws(request, finestLevel(request.train)),
  rows: consistencyRows,
  inputs({ train, sorted, full }) {
    const later = Float32Array.from(sorted, ({ t }) => t + 1 / train.finest);
    return {
      h: filled(train.batch, 1 / train.finest),
      later,
      rest: later.map((t) => 1 - t),
      // The network ignores levels: its input for them is 0.
      step: filled(train.batch, 0),
      full: filledIntegers(train.batch, full),
    };
  },
  record(ctx, { main, own, path, average, teacher }) {
    const { xt } = ctx.scope('flow', () => path(main.source, main.t, SIGMA_MIN));
    const target = ctx.scope('time', () => {
      const { labels } = main;
      const step = own.step!;
      const v1 = evaluate(ctx, 'teacher', teacher!, { x: xt, t: main.t, step, labels }, own.full!);
      const next = eulerWithin(ctx, xt, v1, own.h!, BOUND);
      const v2 = evaluate(ctx, 'next', average, { x: next, t: own.later!, step, labels }, own.full!);
      return velocityToward(ctx, xt, eulerEach(ctx, next, v2, own.rest!), main.t);
    });
    return { xt, target };
  },
};
