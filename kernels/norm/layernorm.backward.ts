/** The backward of layernorm.ts: towards x by rows, towards shift and scale by sums over tokens. */
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, times } from '../../engine/scalar.ts';
import type { Derivative } from '../../engine/tape.ts';
import { lastDim } from '../../engine/tensor.ts';
import { choose } from '../family.ts';
import lib from '../lib.wgsl';
import { tokenSums } from '../token-sums.ts';
import sums from '../token-sums.wgsl';
import backwardSource from './layernorm.backward.wgsl';
import type { LayernormSaved } from './layernorm.ts';
import source from './layernorm.wgsl';
import modulationSource from './modulation.wgsl';

const kernel = defineKernel('layernorm', source, backwardSource, lib);
const modulationKernel = defineKernel('layernorm.modulation', sums, modulationSource, lib);

export const layernormBackward: Derivative<LayernormSaved> = (ctx, g, { x, scale, stats, variant, params }) => {
  const dy = g.dy(0);
  const [batch, tokens = 1] = x.shape;
  const width = lastDim(x);
  if (g.needs(0)) {
    const { out: dx, earlier } = g.onto(0);
    ctx.dispatch({
      kernel,
      entry: 'backward_x',
      constants: { ...variant.constants, ADD: earlier !== null },
      tensors: { x, modulation: scale, stats, dy, dx, ...(earlier && { earlier }) },
      params,
      grid: ceilDiv(times(batch, tokens), variant.rows),
    });
  }
  if (g.needs(1)) {
    const { constants, channels } = choose(ctx.engine, tokenSums, { vec: width % 4 === 0, width, tokens });
    ctx.dispatch({
      kernel: modulationKernel,
      entry: 'backward_mod',
      constants,
      tensors: { x, stats, dy, dshift: g.out(1), dscale: g.out(2) },
      params: { samples: batch, tokens, width },
      grid: ceilDiv(times(batch, width), channels),
    });
  }
};
