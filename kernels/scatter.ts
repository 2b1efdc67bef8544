/** Rows written back by index: the way back from gather.ts. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, times } from '../engine/scalar.ts';
import { rowSize, shapeText, type Tensor } from '../engine/tensor.ts';
import { checkIndices } from './gather.ts';
import gatherSource from './gather.wgsl';
import lib from './lib.wgsl';
import scatterSource from './scatter.wgsl';

const kernel = defineKernel('gather', lib, gatherSource, scatterSource);
const WG = 64;
const EACH = 8;

/**
 * target[indices[i]] = source[i], in place: target [N, ...row], source [B, ...row] (its leading rows count where it has more),
 * indices [B] u32, all different, those beyond N ignored. Rows that no index names keep their contents. Not differentiable.
 * @throws UsageError when the rows differ in size or the indices in type.
 */
export function scatterRows(ctx: Context, target: Tensor, source: Tensor, indices: Tensor): void {
  checkIndices(indices);
  const width = rowSize(target);
  if (rowSize(source) !== width) {
    throw new UsageError(`cannot scatter rows of ${shapeText(source)} into ${shapeText(target)}`);
  }
  const count = indices.shape[0];
  ctx.dispatch({
    kernel,
    entry: 'scatter',
    constants: { WG, EACH },
    tensors: { indices, rows_in: source, rows_out: target },
    params: { count, rows: target.shape[0], width },
    grid: ceilDiv(times(count, width), WG * EACH),
  });
}
