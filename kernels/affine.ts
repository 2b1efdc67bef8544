/** Changes of range, element by element: scale * x + shift, and the soft clamp of TAESD's decoder. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import { sizeOf, type Tensor } from '../engine/tensor.ts';
import source from './affine.wgsl';
import { contract } from './contract.ts';
import lib from './lib.wgsl';

const kernel = defineKernel('affine', lib, source);
const constants = { WG: 64, EACH: 8 };

function launch(ctx: Context, x: Tensor, tanh: boolean, inner: number, scale: number, shift: number): Tensor {
  if (ctx.tape?.needs(x)) throw new UsageError('no gradient passes a change of range');
  const y = ctx.empty('affine', x.shape);
  const size = sizeOf(x);
  ctx.dispatch({
    ...{ kernel, entry: 'forward', constants: { ...constants, TANH: tanh }, tensors: { x, y } },
    ...{ params: { size, inner, scale, shift }, grid: ceilDiv(size, constants.WG * constants.EACH) },
  });
  return y;
}

/** scale * x + shift, any shape, f32. @throws UsageError where a gradient is wanted. */
export const affine = (ctx: Context, x: Tensor, scale: number, shift: number): Tensor =>
  launch(ctx, x, false, 1, scale, shift);

/** limit * tanh(x / limit): x where that is small, within the limit where it is not. @throws UsageError where a gradient is wanted. */
export const softClamp = (ctx: Context, x: Tensor, limit: number): Tensor => launch(ctx, x, true, 1 / limit, limit, 0);

export const affineContract = contract<{ size: number }>({
  name: 'affine',
  cases: [{ size: 1 }, { size: 523 }],
  inputs: ({ size }) => ({ x: { shape: [size], fill: (_, normal) => 4 * normal() } }),
  run: (ctx, { x }) => ({ y: affine(ctx, x!, 2, -1), clamped: softClamp(ctx, x!, 3) }),
  reference: ({ x }) => ({ y: x!.map((v) => 2 * v - 1), clamped: x!.map((v) => 3 * Math.tanh(v / 3)) }),
  differentiable: [],
  reduction: () => 1,
});
