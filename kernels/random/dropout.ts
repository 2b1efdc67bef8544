/** Dropout with a counter-based mask: reproducible from (seed, stream, step), nothing saved for the backward. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { uniforms } from '../../engine/philox.ts';
import { ceilDiv } from '../../engine/scalar.ts';
import { sizeOf, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import lib from '../lib.wgsl';
import source from './dropout.wgsl';
import philox from './philox.wgsl';
import type { DeviceRandomSource } from './random.ts';

const kernel = defineKernel('dropout', lib, philox, source);
const WG = 64;
const EACH = 4;

/**
 * Zeroes each element of x with probability `rate` and divides the others by 1 - rate (Srivastava et al. 2014, inverted).
 * Element i is kept where uniform i of the source (engine/philox.ts) is at least the rate, which is rounded to 2^-24.
 * Each layer of a step needs a stream of its own. Rate 0 returns x itself.
 * @throws UsageError for a rate outside [0, 1).
 */
export function dropout(ctx: Context, x: Tensor, rate: number, { seed, stream, step }: DeviceRandomSource): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new UsageError(`a dropout rate lies in [0, 1), not ${rate}`);
  if (rate === 0) return x;
  const params = { size: sizeOf(x), seed, stream, step, drop: Math.round(rate * 2 ** 24), scale: 1 / (1 - rate) };
  const apply = (from: Tensor, to: Tensor) =>
    ctx.dispatch({
      kernel,
      entry: 'apply',
      constants: { WG, EACH },
      tensors: { x: from, y: to },
      params,
      grid: ceilDiv(sizeOf(x), 4 * WG * EACH),
    });
  const y = ctx.empty('dropout', x.shape);
  apply(x, y);
  ctx.tape?.add({ name: 'dropout', inputs: [x], outputs: [y], backward: (g) => apply(g.dy(0), g.out(0)) });
  return y;
}

const FROM = { seed: 42, stream: 9, step: 5 };

export const dropoutContract = contract<{ size: number; rate: number }>({
  name: 'dropout',
  cases: [
    { size: 1, rate: 0.5 },
    { size: 1030, rate: 0.1 },
    { size: 67, rate: 0.75 },
  ],
  inputs: ({ size }) => ({ x: { shape: [size] } }),
  run: (ctx, { x }, { rate }) => ({ y: dropout(ctx, x!, rate, FROM) }),
  reference({ x }, { size, rate }) {
    const u = uniforms(FROM, size);
    const least = Math.round(rate * 2 ** 24) / 2 ** 24;
    return { y: x!.map((value, i) => (u[i]! >= least ? value / (1 - rate) : 0)) };
  },
  differentiable: ['x'],
  reduction: () => 1,
  bench: {
    cases: [{ size: 64 * 256 * 384, rate: 0.1 }],
    cost: ({ size }) => ({ flops: size, bytes: 8 * size, backward: { flops: size, bytes: 8 * size } }),
  },
});
