/** Dropout with a counter-based mask: reproducible from (seed, stream, step), nothing saved for the backward. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { uniforms } from '../../engine/philox.ts';
import { ceilDiv } from '../../engine/scalar.ts';
import { rowSize, sizeOf, type Tensor } from '../../engine/tensor.ts';
import { contract, type InputSpec } from '../contract.ts';
import lib from '../lib.wgsl';
import source from './dropout.wgsl';
import philox from './philox.wgsl';
import type { RowRandomSource } from './random.ts';

const kernel = defineKernel('dropout', lib, philox, source);
const WG = 64;
const EACH = 4;

/**
 * Zeroes each element of x with probability `rate` and divides the others by 1 - rate (Srivastava et al. 2014, inverted).
 * Element i is kept where uniform i of the source (engine/philox.ts) is at least the rate, which is rounded to 2^-24. With `indices`
 * [B or more] u32 row r has the mask of row indices[r]: a part of a batch then loses what it loses in the whole.
 * Each layer of a step needs a stream of its own. Rate 0 returns x itself.
 * @throws UsageError for a rate outside [0, 1).
 */
export function dropout(ctx: Context, x: Tensor, rate: number, from: RowRandomSource): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new UsageError(`a dropout rate lies in [0, 1), not ${rate}`);
  if (rate === 0) return x;
  const { indices, ...source } = from;
  const fields = { size: sizeOf(x), width: rowSize(x), drop: Math.round(rate * 2 ** 24), scale: 1 / (1 - rate) };
  const apply = (before: Tensor, after: Tensor) =>
    ctx.dispatch({
      kernel,
      entry: 'apply',
      constants: { WG, EACH, INDEXED: indices ? 1 : 0 },
      tensors: { x: before, y: after, ...(indices ? { indices } : {}) },
      params: { ...fields, ...source },
      grid: ceilDiv(sizeOf(x), 4 * WG * EACH),
    });
  const y = ctx.empty('dropout', x.shape);
  apply(x, y);
  ctx.tape?.add({ name: 'dropout', inputs: [x], outputs: [y], backward: (g) => apply(g.dy(0), g.out(0)) });
  return y;
}

const FROM = { seed: 42, stream: 9, step: 5 };

export const dropoutContract = contract<{ size: number; rate: number; rows?: number[] }>({
  name: 'dropout',
  cases: [
    { size: 1, rate: 0.5 },
    { size: 1030, rate: 0.1 },
    { size: 67, rate: 0.75 },
    { size: 3 * 35, rate: 0.5, rows: [4, 0, 7] },
    { size: 2 * 300, rate: 0.3, rows: [1, 5] },
  ],
  inputs: ({ size, rows }): Record<string, InputSpec> =>
    rows
      ? {
          x: { shape: [rows.length, size / rows.length] },
          indices: { shape: [rows.length], dtype: 'u32', fill: (i) => rows[i]! },
        }
      : { x: { shape: [size] } },
  run: (ctx, { x, indices }, { rate }) => ({ y: dropout(ctx, x!, rate, { ...FROM, indices }) }),
  reference({ x }, { size, rate, rows }) {
    const width = rows ? size / rows.length : 1;
    const all = uniforms(FROM, rows ? (Math.max(...rows) + 1) * width : size);
    const u = rows ? Float32Array.from(x!, (_, i) => all[rows[Math.floor(i / width)]! * width + (i % width)]!) : all;
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
