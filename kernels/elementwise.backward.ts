/** Gradients through elementwise functions. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import type { Derivative } from '../engine/tape.ts';
import { sizeOf, type Tensor } from '../engine/tensor.ts';
import source from './elementwise.backward.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('elementwise', lib, source);
const WG = 64;
const EACH = 8;

function launch(ctx: Context, entry: string, x: Tensor, dy: Tensor, dx: Tensor): Tensor {
  const size = sizeOf(dx);
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, EACH },
    tensors: { x, dy, dx },
    params: { size },
    grid: ceilDiv(size, WG * EACH),
  });
  return dx;
}

/** The backward of elementwise.ts's silu; saved: its input. */
export const siluDerivative: Derivative<Tensor> = (ctx, g, x) =>
  void launch(ctx, 'silu_backward', x, g.dy(0), g.out(0));

/** dy * gelu'(x): the backward of a GELU fused into a matrix product (kernels/matmul/linear.ts). */
export const geluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'gelu_backward', x, dy, ctx.empty('d(gelu)', x.shape));

/** dy * silu'(x). */
export const siluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'silu_backward', x, dy, ctx.empty('d(silu)', x.shape));

/** dy where y, a result of max(0, x), is above zero. */
export const reluBackward = (ctx: Context, y: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'relu_backward', y, dy, ctx.empty('d(relu)', y.shape));
