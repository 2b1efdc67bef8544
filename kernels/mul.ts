/** Products, element by element, of which one factor may be a view. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import { lastDim, rowLayout, sizeOf, type Tensor } from '../engine/tensor.ts';
import lib from './lib.wgsl';
import source from './mul.wgsl';

const kernel = defineKernel('mul', lib, source);
const WG = 64;
const EACH = 8;

function launch(ctx: Context, out: Tensor, a: Tensor, b: Tensor): Tensor {
  const size = sizeOf(out);
  const { offset, stride } = rowLayout(b);
  ctx.dispatch({
    kernel,
    entry: 'multiply',
    constants: { WG, EACH },
    tensors: { a, b, out },
    params: { size, width: lastDim(b), b_offset: offset, b_stride: stride },
    grid: ceilDiv(size, WG * EACH),
  });
  return out;
}

/** a * b elementwise, [B, C] both; b may be columns of a wider matrix. */
export function mul(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const y = launch(ctx, ctx.empty('mul', a.shape), a, b);
  ctx.tape?.add({
    name: 'mul',
    inputs: [a, b],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      if (g.needs(0)) launch(ctx, g.out(0), dy, b);
      if (g.needs(1)) launch(ctx, g.out(1), dy, a);
    },
  });
  return y;
}
