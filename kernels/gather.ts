/** Rows of a table by index (embedding lookup, selecting samples; backward in gather.backward.ts). */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import { rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './gather.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('gather', lib, source);
const WG = 64;
const EACH = 8;
const constants = { WG, EACH };

/** What the backward of a lookup needs. */
export interface GatherSaved {
  readonly table: Tensor;
  readonly indices: Tensor;
  readonly params: Readonly<Record<'count' | 'rows' | 'width', Scalar>>;
}

/**
 * y[i] = table[indices[i]]: table [N, ...row] of f32, u32, i32 or f16 (read as f32), indices [B] u32 (B may be symbolic), y [B, ...row].
 * Differentiable in an f32 table; the sum over equal indices is taken in their order.
 * @throws UsageError for indices of another shape or type, for a table of i8, and for gradients of one of f16.
 */
export function gatherRows(ctx: Context, table: Tensor, indices: Tensor): Tensor {
  checkIndices(indices);
  const half = table.dtype === 'f16';
  if (table.dtype === 'i8' || (half && ctx.tape?.needs(table))) {
    throw new UsageError(
      `rows of '${table.label}' (${table.dtype}) cannot be gathered${half ? ' with a gradient' : ''}`,
      {
        hint: 'store tables as f32, or as f16 for inference',
      },
    );
  }
  const dtype = half ? 'f32' : table.dtype;
  const y = ctx.empty('gather', [indices.shape[0], ...(table.shape.slice(1) as number[])], dtype);
  const params = { count: indices.shape[0], rows: table.shape[0], width: rowSize(table) };
  ctx.dispatch({
    kernel,
    entry: 'gather',
    constants: { ...constants, HALF: half },
    tensors: { indices, rows_in: table, rows_out: y },
    params,
    grid: ceilDiv(sizeOf(y), WG * EACH),
  });
  const saved = { table, indices, params } satisfies GatherSaved;
  ctx.tape?.add({ name: 'gather', inputs: [table], outputs: [y], saved });
  return y;
}

/** @throws UsageError */
export function checkIndices(indices: Tensor): void {
  if (indices.shape.length !== 1 || indices.dtype !== 'u32') {
    throw new UsageError(`indices must be [B] of u32, not ${shapeText(indices)} of ${indices.dtype}`);
  }
}

export const gatherContract = contract<{ rows: number; count: number; width: number }>({
  name: 'gather',
  cases: [
    { rows: 1, count: 1, width: 1 },
    { rows: 5, count: 9, width: 13 },
    { rows: 11, count: 4, width: 70 },
  ],
  inputs: ({ rows, count, width }) => ({
    table: { shape: [rows, width] },
    indices: { shape: [count], dtype: 'u32', fill: (i) => (i * 3 + 2) % rows },
  }),
  run: (ctx, { table, indices }) => ({ y: gatherRows(ctx, table!, indices!) }),
  reference: ({ table, indices }, { count, width }) => ({
    y: Float64Array.from({ length: count * width }, (_, i) => {
      return table![indices![Math.floor(i / width)]! * width + (i % width)]!;
    }),
  }),
  differentiable: ['table'],
  reduction: ({ count }) => count,
  bench: {
    cases: [{ rows: 1001, count: 256, width: 768 }],
    // Backward: every row of the table gets the sum of the rows taken from it, most of them zero.
    cost: ({ rows, count, width }) => ({
      flops: 0,
      bytes: 4 * (count + 2 * count * width),
      backward: { flops: count * width, bytes: 4 * (count + count * width + rows * width) },
    }),
  },
});
