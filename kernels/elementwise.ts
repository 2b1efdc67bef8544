/** SiLU, and its contract; its backward is in elementwise.backward.ts. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import { sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './elementwise.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('elementwise', lib, source);
const WG = 64;
const EACH = 8;

/** x * sigmoid(x), any shape. */
export function silu(ctx: Context, x: Tensor): Tensor {
  const y = ctx.empty('silu', x.shape);
  const size = sizeOf(y);
  ctx.dispatch({
    kernel,
    entry: 'silu_forward',
    constants: { WG, EACH },
    tensors: { x, y },
    params: { size },
    grid: ceilDiv(size, WG * EACH),
  });
  ctx.tape?.add({ name: 'silu', inputs: [x], outputs: [y], saved: x });
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
