/** Elementwise operations: SiLU, the slopes of SiLU and GELU, products. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import { lastDim, rowLayout, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './elementwise.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('elementwise', lib, source);
const WG = 64;
const EACH = 8;

type Entry = 'silu_forward' | 'silu_backward' | 'gelu_backward' | 'relu_backward' | 'multiply';

function launch(ctx: Context, entry: Entry, out: Tensor, a: Tensor, b: Tensor | null): Tensor {
  const size = sizeOf(out);
  const layout = b && entry === 'multiply' ? rowLayout(b) : { offset: 0, stride: 0 };
  const params: Record<string, Scalar> = {
    size,
    width: b && entry === 'multiply' ? lastDim(b) : 1,
    b_offset: layout.offset,
    b_stride: layout.stride,
  };
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, EACH },
    tensors: b ? { a, b, out } : { a, out },
    params,
    grid: ceilDiv(size, WG * EACH),
  });
  return out;
}

/** x * sigmoid(x), any shape. */
export function silu(ctx: Context, x: Tensor): Tensor {
  const y = launch(ctx, 'silu_forward', ctx.empty('silu', x.shape), x, null);
  ctx.tape?.add({
    name: 'silu',
    inputs: [x],
    outputs: [y],
    backward: (g) => void launch(ctx, 'silu_backward', g.out(0), x, g.dy(0)),
  });
  return y;
}

/** dy * gelu'(x): the backward of a GELU fused into a matrix product (kernels/matmul/linear.ts). */
export const geluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'gelu_backward', ctx.empty('d(gelu)', x.shape), x, dy);

/** dy * silu'(x). */
export const siluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'silu_backward', ctx.empty('d(silu)', x.shape), x, dy);

/** dy where y, a result of max(0, x), is above zero. */
export const reluBackward = (ctx: Context, y: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'relu_backward', ctx.empty('d(relu)', y.shape), y, dy);

/** a * b elementwise, [B, C] both; b may be columns of a wider matrix. */
export function mul(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const y = launch(ctx, 'multiply', ctx.empty('mul', a.shape), a, b);
  ctx.tape?.add({
    name: 'mul',
    inputs: [a, b],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      if (g.needs(0)) launch(ctx, 'multiply', g.out(0), dy, b);
      if (g.needs(1)) launch(ctx, 'multiply', g.out(1), dy, a);
    },
  });
  return y;
}

export const siluContract = contract<{ size: number }>({
  name: 'silu',
  cases: [{ size: 1 }, { size: 259 }],
  inputs: ({ size }) => ({ x: { shape: [size], fill: (_i, normal) => 3 * normal() } }),
  run: (ctx, { x }) => ({ y: silu(ctx, x!) }),
  reference: ({ x }) => ({ y: x!.map((v) => v / (1 + Math.exp(-v))) }),
  differentiable: ['x'],
  reduction: () => 1,
});
