/** The second half of a DiT block as one operation, so that its backward pass (mlp.backward.ts) fuses: residual + gate * (gelu(x W1 + b1) W2 + b2). */
import type { Context } from '../../engine/context.ts';
import { rowLayout, type Tensor } from '../../engine/tensor.ts';
import { type LinearWeights, products, sizes } from './linear.ts';

/** What its backward needs. */
export interface GatedMlpSaved {
  readonly x: Tensor;
  /** gelu(pre). */
  readonly h: Tensor;
  /** x W1 + b1; absent where nothing before the GELU wants a gradient. */
  readonly pre: Tensor | undefined;
  /** h W2 + b2. */
  readonly branch: Tensor | undefined;
  readonly gate: Tensor;
  /** W1 and W2. */
  readonly kernels: readonly [Tensor, Tensor];
}

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
  const saved = { x, h, pre, branch, gate, kernels: [first.kernel, second.kernel] } satisfies GatedMlpSaved;
  ctx.tape?.add({ name: 'gatedMlp', inputs: [...inputs, ...learnt, residual], outputs: [y], saved });
  return y;
}
