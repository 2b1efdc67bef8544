/** The backward of convolution.ts: dx is a convolution by the turned kernel, the weights' gradient a product over all pixels. */
import type { Context } from '../../engine/context.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv } from '../../engine/scalar.ts';
import type { Derivative } from '../../engine/tape.ts';
import { lastDim, maxSize, type Tensor } from '../../engine/tensor.ts';
import { reluBackward } from '../elementwise.backward.ts';
import lib from '../lib.wgsl';
import type { Patches } from '../matmul/matmul.ts';
import { readingPatches } from '../matmul/patches.ts';
import { matmul } from '../matmul/sliced.ts';
import { columnSum } from '../reduce.ts';
import { type Convolve, convolve } from './convolution.ts';
import turnSource from './turn.wgsl';

const turnKernel = defineKernel('conv.turn', lib, turnSource);

/** Inputs: x, the kernel and, where there are any, bias and residual. */
export const convolutionBackward: Derivative<Convolve> = (ctx, g, { taps, x, w, y, bias, residual, relu }) => {
  const dz = relu ? reluBackward(ctx, y, g.dy(0)) : g.dy(0);
  if (residual) g.give(bias ? 3 : 2, dz);
  if (g.needs(0)) {
    const { out, earlier } = g.onto(0);
    inputGradient(ctx, taps, w, dz, out, earlier ?? undefined);
  }
  if (g.needs(1)) {
    const sizes = { M: taps.side ** 2 * taps.channels, N: lastDim(dz), K: maxSize(dz) / lastDim(dz) };
    matmul(ctx, { ...sizes, a: x, b: dz, c: g.out(1), transposeA: true, patches: { taps, reading: readingPatches } });
  }
  if (bias && g.needs(2)) columnSum(ctx, dz, g.out(2));
};

/**
 * dx, to which `earlier` is added: the convolution of dz by the turned kernel. What a stride left out comes back as zeros between the pixels
 * of dz; the pixels that an enlarged picture had twice are summed by a stride.
 */
function inputGradient(ctx: Context, taps: Patches, w: Tensor, dz: Tensor, dx: Tensor, earlier?: Tensor): void {
  const { channels, height, width, outHeight, outWidth, side, step, pad, up } = taps;
  const [columns, wider] = [lastDim(dz), side + up];
  const turned = ctx.empty('conv.turned', [wider ** 2 * columns, channels]);
  ctx.dispatch({
    ...{ kernel: turnKernel, entry: 'turn', constants: { UP: up }, tensors: { w, turned } },
    ...{ params: { side, channels, columns }, grid: ceilDiv(maxSize(turned), 64) },
  });
  const back: Patches = {
    ...{ channels: columns, height: outHeight, width: outWidth, outHeight: height, outWidth: width },
    ...{ side: wider, step: 1 + up, pad: side - 1 - pad, up: step - 1 },
  };
  convolve(ctx, { taps: back, x: dz, w: turned, y: dx, residual: earlier, dilate: step === 2 });
}
