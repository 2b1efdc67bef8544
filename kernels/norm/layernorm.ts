/** Layer norm (no affine, eps 1e-6) fused with adaLN modulation: forward, backward, reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, times } from '../../engine/scalar.ts';
import { lastDim, rowLayout, shapeText, type Tensor } from '../../engine/tensor.ts';
import { chunk } from '../chunk.ts';
import { contract } from '../contract.ts';
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
const EPS = 1e-6;

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

export const layernormContract = contract<{ batch: number; tokens: number; width: number }>({
  name: 'layernorm',
  cases: [
    { batch: 1, tokens: 1, width: 4 },
    { batch: 2, tokens: 17, width: 60 },
    { batch: 3, tokens: 5, width: 97 },
    { batch: 1, tokens: 3, width: 22 },
  ],
  inputs: ({ batch, tokens, width }) => ({
    x: { shape: [batch, tokens, width] },
    modulation: { shape: [batch, 2 * width] },
  }),
  run(ctx, { x, modulation }) {
    const [shift, scale] = chunk(ctx, modulation!, 2);
    return { y: layernorm(ctx, x!, shift!, scale!) };
  },
  reference({ x, modulation }, { batch, tokens, width }) {
    const y = new Float64Array(batch * tokens * width);
    for (let r = 0; r < batch * tokens; r++) {
      const b = Math.floor(r / tokens);
      const row = x!.subarray(r * width, (r + 1) * width);
      const mean = row.reduce((s, v) => s + v, 0) / width;
      const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
      for (let c = 0; c < width; c++) {
        const xhat = (row[c]! - mean) / Math.sqrt(variance + EPS);
        y[r * width + c] = xhat * (1 + modulation![(2 * b + 1) * width + c]!) + modulation![2 * b * width + c]!;
      }
    }
    return { y };
  },
  differentiable: ['x', 'modulation'],
  reduction: ({ tokens, width }) => Math.max(tokens, width),
  bench: {
    cases: [{ batch: 64, tokens: 49, width: 96 }],
    block: ({ batch, tokens, width }) => [{ batch, tokens, width }],
    // Per element, forward: the sum; difference, its square, their sum; the product with 1 / deviation; scale and shift. Backward: with
    // xhat (2), dshift (1) and dscale (2); g = dy (1 + scale) (1), the means of g and g xhat (3), and (g - mean - xhat mean) / deviation (4).
    cost({ batch, tokens, width }) {
      const [values, modulation] = [batch * tokens * width, 2 * batch * width];
      return {
        flops: 7 * values,
        bytes: 4 * (2 * values + modulation),
        backward: { flops: 13 * values, bytes: 4 * (3 * values + 1.5 * modulation) },
      };
    },
  },
});
