/** The backward of attention.ts: queries first, then keys and values, each row owned by whom the forward's variant says. */
import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import type { Derivative } from '../../engine/tape.ts';
import arraysSource from './attention.arrays.backward.wgsl';
import shared from './attention.backward.wgsl';
import rowsSource from './attention.rows.backward.wgsl';
import tileSource from './attention.tile.backward.wgsl';
import type { AttentionSaved } from './attention.ts';
import { arraysKernel, rowsKernel, sharingKernel, subgroupKernel } from './variants.ts';

const extended = ({ name, source }: Kernel, ...more: string[]): Kernel => defineKernel(name, source, shared, ...more);

const gradientsOf = new Map([
  [rowsKernel, extended(rowsKernel, tileSource, rowsSource)],
  [sharingKernel, extended(sharingKernel, tileSource, rowsSource)],
  [arraysKernel, extended(arraysKernel, arraysSource)],
  [subgroupKernel, extended(subgroupKernel, arraysSource)],
]);

export const attentionBackward: Derivative<AttentionSaved> = (ctx, g, saved) => {
  const { q, k, v, out, lse, constants, mirrors, params, grid } = saved;
  const kernel = gradientsOf.get(saved.kernel)!;
  const dout = g.dy(0);
  const delta = ctx.empty('attention.delta', lse.shape);
  ctx.dispatch({
    kernel,
    entry: 'backward_q',
    constants: { ...constants, MIRROR_KV: mirrors },
    tensors: { q, k, v, o: out, lse, dout, dq: g.out(0), delta_out: delta },
    params,
    grid,
  });
  ctx.dispatch({
    kernel,
    entry: 'backward_kv',
    constants: { ...constants, MIRROR_QD: mirrors },
    tensors: { q, k, v, lse, dout, delta, dk: g.out(1), dv: g.out(2) },
    params,
    grid,
  });
};
