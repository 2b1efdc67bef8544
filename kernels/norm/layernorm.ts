/** Layer norm (no affine, eps 1e-6) fused with adaLN modulation; its backward is in layernorm.backward.ts. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, type Scalar, times } from '../../engine/scalar.ts';
import { lastDim, rowLayout, shapeText, type Tensor } from '../../engine/tensor.ts';
import { choose } from '../family.ts';
import halves from '../half.wgsl';
import lib from '../lib.wgsl';
import source from './layernorm.wgsl';
import { type NormVariant, norms } from './variants.ts';

const kernel = defineKernel('layernorm', source, halves, lib);
/** Added to the variance. */
export const EPS = 1e-6;

/** What the backward of a layer norm needs. */
export interface LayernormSaved {
  readonly x: Tensor;
  readonly scale: Tensor;
  /** [rows, 2]: mean, rstd. */
  readonly stats: Tensor;
  readonly variant: NormVariant;
  readonly params: Readonly<Record<string, Scalar>>;
}

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
  ctx.dispatch({
    kernel,
    entry: 'forward',
    constants: { ...variant.constants, F16: half },
    tensors: { x, modulation: shift, y, stats_out: stats },
    params,
    grid: ceilDiv(rows, variant.rows),
  });
  const saved = { x, scale, stats, variant, params } satisfies LayernormSaved;
  ctx.tape?.add({ name: 'layernorm', inputs: [x, shift, scale], outputs: [y], saved });
  return y;
}
