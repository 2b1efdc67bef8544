/** Rows of pictures copied from one to another: what a convolution of a band needs of its neighbours; reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { shapeText, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import lib from '../lib.wgsl';
import source from './rows.wgsl';

const kernel = defineKernel('rows', lib, source);
const [WG, EACH] = [64, 8];

/**
 * Copies `rows` rows of x, from row `from` on, to row `into` of y; both [1, ..., W, C] of f32. The rest of y stays.
 * @throws UsageError where widths or channels differ, or there are not so many rows.
 */
export function copyRows(ctx: Context, x: Tensor, y: Tensor, rows: number, from: number, into: number): void {
  const [xs, ys] = [x.shape, y.shape] as [readonly number[], readonly number[]];
  const fits = x.dtype === 'f32' && y.dtype === 'f32' && xs[2] === ys[2] && xs[3] === ys[3];
  if (!fits || from + rows > xs[1]! || into + rows > ys[1]!) {
    throw new UsageError(
      `${rows} rows of ${shapeText(x)} from row ${from} on cannot be row ${into} on of ${shapeText(y)}`,
    );
  }
  const width = xs[2]! * xs[3]!;
  const vec = width % 4 === 0;
  ctx.dispatch({
    ...{ kernel, entry: 'copy', constants: { WG, EACH, VEC: vec }, tensors: { x, y } },
    ...{ params: { rows, width, skip: from, into }, grid: Math.ceil((rows * width) / (vec ? 4 : 1) / (WG * EACH)) },
  });
}

interface CopyRowsCase {
  rows: number;
  width: number;
  channels: number;
}

export const copyRowsContract = contract<CopyRowsCase>({
  name: 'copyRows',
  cases: [
    { rows: 1, width: 1, channels: 3 },
    { rows: 4, width: 43, channels: 4 },
  ],
  inputs: ({ rows, width, channels }) => ({
    a: { shape: [1, rows + 2, width, channels] },
    b: { shape: [1, rows, width, channels] },
  }),
  /** All rows but the first two of a, and b behind them. */
  run(ctx, { a, b }, { rows, width, channels }) {
    const y = ctx.empty('joined', [1, 2 * rows, width, channels]);
    copyRows(ctx, a!, y, rows, 2, 0);
    copyRows(ctx, b!, y, rows, 0, rows);
    return { y };
  },
  reference: ({ a, b }, { width, channels }) => ({
    y: Float64Array.from([...a!.subarray(2 * width * channels), ...b!]),
  }),
  differentiable: [],
  reduction: () => 1,
});
