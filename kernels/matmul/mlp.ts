/** The second half of a DiT block as one operation, so that its backward pass fuses: residual + gate * (gelu(x W1 + b1) W2 + b2). */
import type { Context } from '../../engine/context.ts';
import { rowLayout, type Tensor } from '../../engine/tensor.ts';
import {
  gateBackward,
  inputGradient,
  type LinearWeights,
  matrixRows,
  products,
  sizes,
  weightGradients,
} from './linear.ts';
import { matmul } from './matmul.ts';

/**
 * residual + gate * (gelu(x W1 + b1) W2 + b2). x [B, T, C]; gate [B, C], columns of a modulation; stored as the residual is. What
 * `linear` with a GELU and `gatedLinear` make, but for the backward pass: the gradient towards the hidden features is multiplied by
 * GELU's slope in the product that makes it, which saves a pass over the largest activations and their memory.
 * @throws UsageError as `linear`.
 */
export function gatedMlp(
  ctx: Context,
  x: Tensor,
  { hidden, output }: { readonly hidden: LinearWeights; readonly output: LinearWeights },
  residual: Tensor,
  gate: Tensor,
): Tensor {
  const first = sizes(ctx, x, hidden);
  const inputs = [x, first.kernel, hidden.bias] as const;
  const h = ctx.empty('mlp.hidden', first.shape, x.dtype);
  const second = sizes(ctx, h, output, inputs);
  const learnt = [second.kernel, output.bias, gate] as const;
  const pre = ctx.tape?.needs(...inputs) ? ctx.empty('mlp.pre', first.shape) : undefined;
  const branch = ctx.tape?.needs(...inputs, ...learnt) ? ctx.empty('mlp.branch', second.shape) : undefined;
  const y = ctx.empty('mlp', second.shape, residual.dtype);
  products(ctx, hidden, { M: first.M, K: first.K, a: x, c: h, bias: hidden.bias, pre, epilogue: 'gelu' });
  products(ctx, output, {
    ...{ M: second.M, K: second.K, a: h, c: y, bias: output.bias, pre: branch },
    epilogue: 'gated',
    gated: { residual, gate, ...rowLayout(gate), tokens: x.shape[1] ?? 1 },
  });
  ctx.tape?.add({
    name: 'gatedMlp',
    inputs: [...inputs, ...learnt, residual],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      const dbranch = ctx.empty('d(branch)', second.shape);
      gateBackward(ctx, dy, branch!, gate, dbranch, g.needs(5) ? g.out(5) : ctx.empty('d(gate)', gate.shape));
      g.give(6, dy);
      weightGradients(ctx, g, 3, h, dbranch);
      if (!pre) return;
      const dpre = ctx.empty('d(pre)', first.shape);
      const back = { M: matrixRows(h), N: first.N, K: second.N, transposeB: true };
      matmul(ctx, { ...back, a: dbranch, b: second.kernel, c: dpre, epilogue: 'geluSlope', before: pre });
      if (g.needs(0)) inputGradient(ctx, g, dpre, first.kernel);
      weightGradients(ctx, g, 1, x, dpre);
    },
  });
  return y;
}
