/** Layer norm (no affine, eps 1e-6) fused with adaLN modulation: forward and backward. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, times } from '../../engine/scalar.ts';
import { lastDim, rowLayout, shapeText, type Tensor } from '../../engine/tensor.ts';
import { choose } from '../family.ts';
import halves from '../half.wgsl';
import lib from '../lib.wgsl';
import { tokenSums } from '../token-sums.ts';
import sums from '../token-sums.wgsl';
import source from './layernorm.wgsl';
import modulationSource from './modulation.wgsl';
import { norms } from './variants.ts';

const kernel = defineKernel('layernorm', source, halves, lib);
const modulationKernel = defineKernel('layernorm.modulation', sums, modulationSource, lib);
/** Added to the variance. */
export const EPS = 1e-6;

/**
 * y = xhat * (1 + scale) + shift with xhat the normalised x.
 * x [B, T, C], f32 or f16; shift, scale [B, C]: columns of one modulation matrix (kernels/chunk.ts), f32; returns [B, T, C], stored as x.
 * @throws UsageError when they are not, or for an odd C in f16.
 */
export function layernorm(ctx: Context, x: Tensor, shift: Tensor, scale: Tensor): Tensor {
  if (shift.storage !== scale.storage) throw new UsageError('shift and scale must be columns of one matrix');
  const [batch, tokens = 1] = x.shape;
  const width = lastDim(x);
  const rows = times(batch, tokens);
  const half = x.dtype === 'f16';
  if (half && width % 2 !== 0) throw new UsageError(`layernorm in f16 goes by pairs; ${shapeText(x)} has odd rows`);
  const y = ctx.empty('ln', x.shape, x.dtype);
  const stats = ctx.empty('ln.stats', [rows, 2]);
  const { stride } = rowLayout(shift);
  const columns = { width, shift: rowLayout(shift).offset, scale: rowLayout(scale).offset, stride };
  const params = { rows, tokens, ...columns, eps: EPS };
  const vec = Object.values(columns).every((n) => n % 4 === 0);
  const variant = choose(ctx.engine, norms, { width, vec, activations: half ? 'f16' : 'f32' });
  const common = {
    kernel,
    constants: { ...variant.constants, F16: half },
    params,
    grid: ceilDiv(rows, variant.rows),
  };
  ctx.dispatch({ ...common, entry: 'forward', tensors: { x, modulation: shift, y, stats_out: stats } });
  ctx.tape?.add({
    name: 'layernorm',
    inputs: [x, shift, scale],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      if (g.needs(0)) {
        const { out: dx, earlier } = g.onto(0);
        ctx.dispatch({
          ...common,
          entry: 'backward_x',
          constants: { ...variant.constants, ADD: earlier !== null },
          tensors: { x, modulation: scale, stats, dy, dx, ...(earlier && { earlier }) },
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
    },
  });
  return y;
}
