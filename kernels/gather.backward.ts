/** The backward of a lookup (gather.ts): rows of dy added up by the row of the table that they came from, in the order of the batch. */
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, maxOf } from '../engine/scalar.ts';
import type { Derivative } from '../engine/tape.ts';
import { sizeOf } from '../engine/tensor.ts';
import backwardSource from './gather.backward.wgsl';
import type { GatherSaved } from './gather.ts';
import source from './gather.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('gather', lib, source, backwardSource);
const constants = { WG: 64, EACH: 8 };

export const gatherBackward: Derivative<GatherSaved> = (ctx, g, { table, indices, params }) => {
  const links = ctx.empty('gather.links', [maxOf(table.shape[0]) + maxOf(indices.shape[0])], 'u32');
  ctx.dispatch({
    kernel,
    entry: 'link',
    constants,
    tensors: { indices, links_out: links },
    params,
    grid: ceilDiv(table.shape[0], constants.WG),
  });
  ctx.dispatch({
    kernel,
    entry: 'backward',
    constants,
    tensors: { links, dy: g.dy(0), dtable: g.out(0) },
    params,
    grid: ceilDiv(sizeOf(table), constants.WG * constants.EACH),
  });
};
