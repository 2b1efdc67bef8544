/** RMS norm with a learned gain: the kernel that docs/write-a-kernel.md adds, step by step. */
import {
  type Context,
  ceilDiv,
  defineKernel,
  lastDim,
  wgslLib as lib,
  maxSize,
  rowSize,
  shapeText,
  type Tensor,
  times,
  UsageError,
} from 'odelt';
import { contract } from 'odelt/bench';
import { columnSum } from 'odelt/ops';
import source from './rmsnorm.wgsl';

const kernel = defineKernel('rmsnorm', lib, source);
const constants = { WG: 64 };
const EPS = 1e-6;

/**
 * gain * x / sqrt(mean of x^2 over the last dimension + 1e-6). x [..., C], gain [C]; returns [..., C]. Differentiable in both.
 * @throws UsageError when the gain has another size.
 */
export function rmsnorm(ctx: Context, x: Tensor, gain: Tensor): Tensor {
  const width = lastDim(x);
  if (maxSize(gain) !== width) throw new UsageError(`rmsnorm: a gain ${shapeText(gain)} does not fit ${shapeText(x)}`);
  const rows = times(x.shape[0], rowSize(x) / width);
  const y = ctx.empty('rmsnorm', x.shape);
  const rstd = ctx.empty('rmsnorm.rstd', [rows]);
  const params = { rows, width, eps: EPS };
  const grid = ceilDiv(rows, constants.WG);
  ctx.dispatch({
    kernel,
    entry: 'forward',
    constants,
    tensors: { x, gain, y, rstd_out: rstd },
    params,
    grid,
  });
  ctx.tape?.add({
    name: 'rmsnorm',
    inputs: [x, gain],
    outputs: [y],
    backward(g) {
      const dx = g.needs(0) ? g.out(0) : ctx.empty('d(x)', x.shape);
      const dgainRows = ctx.empty('d(gain).rows', x.shape);
      ctx.dispatch({
        kernel,
        entry: 'backward',
        constants,
        tensors: { x, gain, rstd, dy: g.dy(0), dx, dgain_rows: dgainRows },
        params,
        grid,
      });
      if (g.needs(1)) columnSum(ctx, dgainRows, g.out(1));
    },
  });
  return y;
}

export const rmsnormContract = contract({
  name: 'rmsnorm',
  cases: [
    { batch: 1, tokens: 1, width: 1 },
    { batch: 3, tokens: 5, width: 37 },
    { batch: 2, tokens: 64, width: 96 },
  ],
  inputs: ({ batch, tokens, width }) => ({ x: { shape: [batch, tokens, width] }, gain: { shape: [width] } }),
  run: (ctx, { x, gain }) => ({ y: rmsnorm(ctx, x, gain) }),
  reference({ x, gain }, { width }) {
    const y = new Float64Array(x.length);
    for (let start = 0; start < y.length; start += width) {
      let squares = 0;
      for (let c = 0; c < width; c++) squares += x[start + c]! ** 2;
      const rstd = 1 / Math.sqrt(squares / width + EPS);
      for (let c = 0; c < width; c++) y[start + c] = gain[c]! * x[start + c]! * rstd;
    }
    return { y };
  },
  differentiable: ['x', 'gain'],
  reduction: ({ batch, tokens, width }) => Math.max(width, batch * tokens),
  slack: 4, // at width 1 the gradient of x is what remains of two equal terms
  bench: {
    cases: [{ batch: 64, tokens: 49, width: 96 }],
    cost: ({ batch, tokens, width }) => ({
      flops: 5 * batch * tokens * width,
      bytes: 8 * batch * tokens * width,
    }),
  },
});
