/** Softmax of rows that lie whole in memory, and its backward: for attention over heads too wide for the streaming kernels. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, times } from '../engine/scalar.ts';
import { lastDim, rowSize, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import lib from './lib.wgsl';
import source from './softmax.wgsl';

const kernel = defineKernel('softmax', lib, source);
const WG = 64;

/** softmax(scale * x) over the last dimension; scale > 0. x [..., width], f32; returns the same. */
export function softmax(ctx: Context, x: Tensor, scale: number): Tensor {
  const y = ctx.empty('softmax', x.shape);
  launch(ctx, 'forward', { x, y }, y, scale);
  ctx.tape?.add({
    name: 'softmax',
    inputs: [x],
    outputs: [y],
    backward: (g) => softmaxBackward(ctx, y, g.dy(0), scale, g.out(0)),
  });
  return y;
}

/** The gradient of softmax(scale * x), whose result was `weights`, into dx. */
export function softmaxBackward(ctx: Context, weights: Tensor, dy: Tensor, scale: number, dx: Tensor): void {
  launch(ctx, 'backward', { weights, dy, dx }, weights, scale);
}

function launch(
  ctx: Context,
  entry: 'forward' | 'backward',
  tensors: Record<string, Tensor>,
  { shape }: Tensor,
  scale: number,
): void {
  const width = lastDim({ shape });
  const rows = times(shape[0], rowSize({ shape }) / width);
  // A workgroup for a row on GPUs. CPU drivers lose nothing by one invocation: each lane loads for itself.
  const lanes = ctx.engine.adapterClass === 'gpu' ? WG : 1;
  const constants = { WG, LANES: lanes, VEC: width % 4 === 0 };
  ctx.dispatch({
    ...{ kernel, entry, constants, tensors, params: { rows, width, scale }, grid: ceilDiv(rows, WG / lanes) },
  });
}

export const softmaxContract = contract<{ rows: number; width: number; scale: number }>({
  name: 'softmax',
  cases: [
    { rows: 1, width: 1, scale: 1 },
    { rows: 70, width: 36, scale: 0.25 },
    { rows: 3, width: 131, scale: 2 },
  ],
  inputs: ({ rows, width }) => ({ x: { shape: [rows, width], fill: (_, normal) => 3 * normal() } }),
  run: (ctx, { x }, { scale }) => ({ y: softmax(ctx, x!, scale) }),
  reference({ x }, { width, scale }) {
    const y = new Float64Array(x!.length);
    for (let first = 0; first < y.length; first += width) {
      const row = x!.subarray(first, first + width);
      const top = row.reduce((a, b) => Math.max(a, b));
      const powers = row.map((v) => Math.exp(scale * (v - top)));
      const sum = powers.reduce((a, b) => a + b);
      y.set(
        powers.map((power) => power / sum),
        first,
      );
    }
    return { y };
  },
  differentiable: ['x'],
  reduction: ({ width }) => width,
  // Where logits are -20 their own rounding is 10 units of the result's.
  slack: 2,
  bench: {
    cases: [{ rows: 1024, width: 1024, scale: 0.05 }],
    // The largest; difference, product, exp, sum; quotient. Backward: product, sum; difference, two products.
    cost: ({ rows, width }) => ({
      ...{ flops: 6 * rows * width, bytes: 8 * rows * width },
      backward: { flops: 5 * rows * width, bytes: 12 * rows * width },
    }),
  },
});
