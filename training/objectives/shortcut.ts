/** Time consistency, the shortcut objective (arXiv 2410.12557): one step must match two of half its size. */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { eulerEach, guide, mean2 } from '../../kernels/flow.ts';
import { groupsOf, type Model, velocity } from '../../model/dit.ts';
import type { TrainConfig } from '../config.ts';

/**
 * Targets of the time consistency: the mean of two half steps of the teacher (method step 1). With distilled guidance a second, guided set; as the
 * reference does it, the second conditional evaluation follows the conditional first one, the unconditional the guided.
 */
export function timeTargets(
  ctx: Context,
  train: TrainConfig,
  teacher: Model,
  at: { xt: Tensor; t: Tensor; later: Tensor; h: Tensor; step: Tensor; labels: Tensor; none: Tensor; full: Tensor },
): Tensor[] {
  const { config } = teacher;
  const pairs = at.t.shape[0];
  const depth = config.lengths ? { lengths: at.full, rows: groupsOf(config).map(() => pairs) } : undefined;
  const evaluate = (name: string, x: Tensor, t: Tensor, labels: Tensor) =>
    ctx.scope(name, () => velocity(ctx, teacher, { x, t, step: at.step, labels }, depth));
  const c1 = evaluate('c1', at.xt, at.t, at.labels);
  const c2 = evaluate('c2', eulerEach(ctx, at.xt, c1, at.h), at.later, at.labels);
  const plain = mean2(ctx, c1, c2);
  if (!train.guidance?.distill) return [plain];
  const { weight } = train.guidance;
  const g1 = guide(ctx, evaluate('u1', at.xt, at.t, at.none), c1, weight);
  const u2 = evaluate('u2', eulerEach(ctx, at.xt, g1, at.h), at.later, at.none);
  const g2 = guide(ctx, u2, c2, weight);
  return [plain, mean2(ctx, g1, g2)];
}
