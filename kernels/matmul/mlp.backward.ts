/** The backward of mlp.ts: GELU's slope is taken in the product that makes the gradient towards the hidden features. */
import type { Derivative } from '../../engine/tape.ts';
import { lastDim } from '../../engine/tensor.ts';
import { gateBackward } from './gate.ts';
import { inputGradient, weightGradients } from './linear.backward.ts';
import { matrixRows } from './linear.ts';
import type { GatedMlpSaved } from './mlp.ts';
import { matmul } from './sliced.ts';

export const gatedMlpBackward: Derivative<GatedMlpSaved> = (ctx, g, { x, h, pre, branch, gate, kernels }) => {
  const [first, second] = kernels;
  const dy = g.dy(0);
  const dbranch = ctx.empty('d(branch)', branch!.shape);
  gateBackward(ctx, dy, branch!, gate, dbranch, g.needs(5) ? g.out(5) : ctx.empty('d(gate)', gate.shape));
  g.give(6, dy);
  weightGradients(ctx, g, 3, h, dbranch);
  if (!pre) return;
  const dpre = ctx.empty('d(pre)', pre.shape);
  const back = { M: matrixRows(h), N: lastDim(h), K: lastDim(dbranch), transposeB: true };
  matmul(ctx, { ...back, a: dbranch, b: second, c: dpre, epilogue: 'geluSlope', before: pre });
  if (g.needs(0)) inputGradient(ctx, g, dpre, first);
  weightGradients(ctx, g, 1, x, dpre);
};
