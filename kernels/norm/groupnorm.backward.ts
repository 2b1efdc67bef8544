/** The backward of groupnorm.ts: in two passes over x and dy; gain's and bias's gradients are sums of the first one's. */
import { defineKernel } from '../../engine/kernel.ts';
import type { Derivative } from '../../engine/tape.ts';
import { columns, lastDim } from '../../engine/tensor.ts';
import lib from '../lib.wgsl';
import { columnSum } from '../reduce.ts';
import backwardSource from './groupnorm.backward.wgsl';
import type { GroupNormSaved } from './groupnorm.ts';
import source from './groupnorm.wgsl';

const kernel = defineKernel('groupnorm.backward', source, backwardSource, lib);

export const groupnormBackward: Derivative<GroupNormSaved> = (
  ctx,
  g,
  { x, gain, bias, table, rstd, lanes, pixelwise },
) => {
  const channels = lastDim(x);
  const { params, constants } = pixelwise;
  const { batch, groups, height, segments } = params;
  const seen = { x, dy: g.dy(0), table, bias };
  const sums = ctx.empty('d(groupnorm).parts', [batch * height * segments, 2 * channels]);
  ctx.dispatch({ kernel, entry: 'measure_dy', ...pixelwise, tensors: { ...seen, rstd: rstd!, parts_out: sums } });
  if (g.needs(1)) columnSum(ctx, columns(sums, channels, channels), g.out(1));
  if (g.needs(2)) columnSum(ctx, columns(sums, 0, channels), g.out(2));
  if (!g.needs(0)) return;
  const means = ctx.empty('d(groupnorm).means', [batch, 2, channels]);
  ctx.dispatch({
    ...{ kernel, entry: 'combine_dy', constants: { SEGMENT: constants.SEGMENT!, LANES: lanes }, params },
    ...{ tensors: { parts: sums, gain, rstds: rstd!, means_out: means }, grid: batch * groups },
  });
  const { out: dx, earlier } = g.onto(0);
  ctx.dispatch({
    ...{ kernel, entry: 'differentiate', ...pixelwise, constants: { ...constants, ADD: earlier !== null } },
    tensors: { ...seen, means, dx, ...(earlier && { earlier }) },
  });
};
