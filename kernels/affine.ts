/** Changes of range, element by element: scale * x + shift, and the soft clamp of TAESD's decoder; their backward. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import { sizeOf, type Tensor } from '../engine/tensor.ts';
import source from './affine.wgsl';
import { contract } from './contract.ts';
import lib from './lib.wgsl';

const kernel = defineKernel('affine', lib, source);
const constants = { WG: 64, EACH: 8 };

function launch(ctx: Context, x: Tensor, tanh: boolean, inner: number, scale: number, shift: number): Tensor {
  const y = ctx.empty('affine', x.shape);
  const size = sizeOf(x);
  const common = {
    ...{ kernel, constants: { ...constants, TANH: tanh }, params: { size, inner, scale, shift } },
    grid: ceilDiv(size, constants.WG * constants.EACH),
  };
  ctx.dispatch({ ...common, entry: 'forward', tensors: { x, y } });
  ctx.tape?.add({
    name: 'affine',
    inputs: [x],
    outputs: [y],
    backward(g) {
      const tensors = { dy: g.dy(0), dx: g.out(0), ...(tanh && { result: y }) };
      ctx.dispatch({ ...common, entry: 'backward', tensors });
    },
  });
  return y;
}

/** scale * x + shift, any shape, f32. */
export const affine = (ctx: Context, x: Tensor, scale: number, shift: number): Tensor =>
  launch(ctx, x, false, 1, scale, shift);

/** limit * tanh(x / limit), any shape, f32: x where that is small, within the limit where it is not. */
export const softClamp = (ctx: Context, x: Tensor, limit: number): Tensor => launch(ctx, x, true, 1 / limit, limit, 0);

export const affineContract = contract<{ size: number }>({
  name: 'affine',
  cases: [{ size: 1 }, { size: 523 }],
  inputs: ({ size }) => ({ x: { shape: [size], fill: (_, normal) => 4 * normal() } }),
  run: (ctx, { x }) => ({ y: affine(ctx, x!, 2, -1), clamped: softClamp(ctx, x!, 3) }),
  reference: ({ x }) => ({ y: x!.map((v) => 2 * v - 1), clamped: x!.map((v) => 3 * Math.tanh(v / 3)) }),
  differentiable: ['x'],
  reduction: () => 1,
});
