/**
 * Progressive distillation (Salimans and Ho, arXiv 2202.00512): one step of the student must match two of the teacher's, and steps
 * double until one is left.
 *
 * Draws: the level d of the update, the same for all rows: log2(finest) - 1 at first, 0 at last, each for as many updates; t on the
 * grid of 2^d sections. Labels are kept.
 * Inputs: x_t = (1 - (1 - 1e-5) t) x0 + t x1, t, the label; no step level.
 * Targets: the mean of two of the teacher's steps of size 2^-(d+1), the point between them cut off at +-4. With distilled guidance
 * both are guided, at the weight of `guidance` for the first level and 1 after it, as the teacher has learned it by then.
 * Teacher: the one that was given, until the first level is done; then, at every level's end, the student of that moment: its moving
 * average, or its weights where `targetsFromEma` is false.
 * Source: baselines/targets_progressive.py and train.py of the reference. There the teacher is replaced every
 * floor(steps / log2(finest)) updates, which comes up to log2(finest) - 1 updates before the level's end; and the last update has
 * level -1, which has no times. Here the teacher changes with the level, and the last level is 0.
 */
import { type ScalarValues, scalarInput } from '../../engine/scalar.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { guide, mean2 } from '../../kernels/flow.ts';
import { eulerWithin } from '../../kernels/flow-training.ts';
import type { TrainConfig } from '../config.ts';
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

/** The level of an update, from 0. */
export function progressiveLevel(train: TrainConfig, update: number): number {
  const levels = finestLevel(train);
  return Math.max(0, levels - 1 - Math.floor((update + 1) / (train.steps / levels)));
}

export const progressive: Objective = {
  draw: (request) => levelDraws(request, progressiveLevel(request.train, request.update)),
  rows: consistencyRows,
  inputs({ train, sorted, none, full }) {
    const h = Float32Array.from(sorted, ({ level }) => 2 ** -(level + 1));
    return {
      h,
      later: Float32Array.from(sorted, ({ t }, i) => t + h[i]!),
      // The network ignores levels: its input for them is 0.
      step: filled(train.batch, 0),
      full: filledIntegers(train.batch, full),
      ...(train.guidance?.distill ? { none: filledIntegers(train.batch, none) } : {}),
    };
  },
  scalars(train, update): ScalarValues {
    if (!train.guidance?.distill) return {};
    const first = progressiveLevel(train, update) === finestLevel(train) - 1;
    return { targetGuidance: first ? train.guidance.weight : 1 };
  },
  record(ctx, { train, main, own, path, teacher }) {
    const { xt } = ctx.scope('flow', () => path(main.source, main.t, SIGMA_MIN));
    const target = ctx.scope('time', () => {
      const at = (name: string, x: Tensor, t: Tensor, labels: Tensor) =>
        evaluate(ctx, name, teacher!, { x, t, step: own.step!, labels }, own.full!);
      const guided = (name: string, x: Tensor, t: Tensor) => {
        const c = at(`c${name}`, x, t, main.labels);
        if (!train.guidance?.distill) return c;
        return guide(ctx, at(`u${name}`, x, t, own.none!), c, scalarInput('targetGuidance'));
      };
      const v1 = guided('1', xt, main.t);
      const v2 = guided('2', eulerWithin(ctx, xt, v1, own.h!, BOUND), own.later!);
      return mean2(ctx, v1, v2);
    });
    return { xt, target };
  },
};
