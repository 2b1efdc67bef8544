/** Matrix products in every layout, whole: what backward passes call. */
import type { Context } from '../../engine/context.ts';
import { rowSize } from '../../engine/tensor.ts';
import { columnSum } from '../reduce.ts';
import { dispatchProduct, type Product } from './matmul.ts';

/** One product; slices that its sums were split into are added in a fixed order. */
export function matmul(ctx: Context, p: Product): void {
  const slices = dispatchProduct(ctx, p);
  if (slices) columnSum(ctx, slices, { ...p.c, shape: [rowSize(slices)] });
}
