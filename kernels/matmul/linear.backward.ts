/** The backward of linear.ts: products with the transposed factors, and sums over rows. */
import type { Context } from '../../engine/context.ts';
import type { Gradients } from '../../engine/gradients.ts';
import type { Derivative } from '../../engine/tape.ts';
import { lastDim, type Tensor } from '../../engine/tensor.ts';
import { geluBackward, siluBackward } from '../elementwise.backward.ts';
import { columnSum } from '../reduce.ts';
import { gateBackward } from './gate.ts';
import { type GatedLinearSaved, type LinearSaved, matrixRows } from './linear.ts';
import { matmul } from './sliced.ts';

export const linearBackward: Derivative<LinearSaved> = (ctx, g, { x, kernel, activation, pre }) => {
  const dy = g.dy(0);
  const dz =
    activation === 'gelu' ? geluBackward(ctx, pre!, dy) : activation === 'silu' ? siluBackward(ctx, pre!, dy) : dy;
  if (g.needs(0)) inputGradient(ctx, g, dz, kernel);
  weightGradients(ctx, g, 1, x, dz);
};

export const gatedLinearBackward: Derivative<GatedLinearSaved> = (ctx, g, { x, kernel, gate, branch }) => {
  const dy = g.dy(0);
  const dbranch = ctx.empty('d(branch)', branch!.shape);
  gateBackward(ctx, dy, branch!, gate, dbranch, g.needs(4) ? g.out(4) : ctx.empty('d(gate)', gate.shape));
  g.give(3, dy);
  if (g.needs(0)) inputGradient(ctx, g, dbranch, kernel);
  weightGradients(ctx, g, 1, x, dbranch);
};

/** dx = dz W^T for input 0 of an operation, added to what is known of it: keys, queries and values have one input. */
export function inputGradient(ctx: Context, g: Gradients, dz: Tensor, kernel: Tensor): void {
  const { out, earlier } = g.onto(0);
  const sizes = { M: matrixRows(dz), N: kernel.shape[0] as number, K: lastDim(dz) };
  const sum = earlier ? { epilogue: 'plus' as const, plus: earlier } : {};
  matmul(ctx, { ...sizes, a: dz, b: kernel, c: out, transposeB: true, ...sum });
}

/** dW = x^T dz and db = sum of dz over rows, for the inputs `at` (kernel) and `at + 1` (bias) of an operation. */
export function weightGradients(ctx: Context, g: Gradients, at: number, x: Tensor, dz: Tensor): void {
  const sizes = { M: lastDim(x), N: lastDim(dz), K: matrixRows(x) };
  if (g.needs(at)) matmul(ctx, { ...sizes, a: x, b: dz, c: g.out(at), transposeA: true });
  if (g.needs(at + 1)) columnSum(ctx, dz, g.out(at + 1));
}
