/** Group norm of pictures [B, H, W, C] with a learned gain and bias, and SiLU or ReLU fused; reference. Its backward is in groupnorm.backward.ts. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../../engine/scalar.ts';
import { maxSize, shapeText, type Tensor } from '../../engine/tensor.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { contract } from '../contract.ts';
import lib from '../lib.wgsl';
import source from './groupnorm.wgsl';

const kernel = defineKernel('groupnorm', source, lib);
const WG = 64;
/** Pixels of a row that an invocation takes. */
const SEGMENT = 64;
const ACTIVATION = { none: 0, silu: 1, relu: 2 } as const;

/** What is learned, [C] each. */
export interface GroupNormWeights {
  readonly gain: Tensor;
  readonly bias: Tensor;
}

/** How channels are grouped, and what follows. */
export interface GroupNormOptions {
  readonly groups: number;
  readonly eps: number;
  readonly activation?: keyof typeof ACTIVATION;
}

/** What is done to each pixel of a picture: found once, for as many rows at a time as one likes. */
export interface GroupNorm {
  /** Normalises `rows` rows of x, from its row `from` on, to row `into` of y; x and y [1, ..., W, C]. */
  normalise(x: Tensor, y: Tensor, rows: number, from: number, into: number): void;
}

/** Rows of a picture, from row `first` of it on: x [1, rows, W, C], f32. */
export interface MeasuredBand {
  readonly first: number;
  readonly x: Tensor;
}

/** Measures pictures [B, H, W, C], of which `bands` are all rows; `keep`: for a backward pass. @throws UsageError where shapes do not fit. */
function measured(
  ctx: Context,
  shape: readonly number[],
  bands: readonly MeasuredBand[],
  { gain, bias }: GroupNormWeights,
  { groups, eps, activation = 'none' }: GroupNormOptions,
  keep: boolean,
) {
  const [batch = 0, height = 0, width = 0, channels = 0] = shape;
  const halves = bands.find(({ x }) => x.dtype !== 'f32');
  if (shape.length !== 4 || halves || channels % groups !== 0) {
    const dtype = halves?.x.dtype ?? 'f32';
    throw new UsageError(`group norm of [${shape.join(', ')}] of ${dtype} in ${groups} groups is not possible`);
  }
  if (maxSize(gain) !== channels || maxSize(bias) !== channels) {
    throw new UsageError(`group norm of ${channels} channels by ${shapeText(gain)} and ${shapeText(bias)}`);
  }
  const segments = Math.ceil(width / SEGMENT);
  const vec = channels % 4 === 0;
  const lanes = ctx.engine.adapterClass === 'gpu' ? 64 : 1;
  const pixelwise = (rows: number, skip: number, into: number) => ({
    constants: { WG, SEGMENT, VEC: vec, ACTIVATION: ACTIVATION[activation] },
    params: { batch, height, width, channels, groups, segments, eps, rows, skip, into },
    grid: ceilDiv((rows * segments * channels) / (vec ? 4 : 1), WG),
  });
  const all = pixelwise(batch * height, 0, 0);
  const parts = ctx.empty('groupnorm.parts', [batch * height * segments, 2, channels]);
  const table = ctx.empty('groupnorm.table', [batch, 2, channels]);
  const rstd = keep ? ctx.empty('groupnorm.rstd', [batch, channels]) : undefined;
  for (const { first, x } of bands) {
    const { params, grid } = pixelwise(maxSize(x) / (width * channels), 0, first);
    const constants = { WG, SEGMENT, VEC: vec };
    ctx.dispatch({ kernel, entry: 'measure', constants, tensors: { x, parts_out: parts }, params, grid });
  }
  ctx.dispatch({
    ...{ kernel, entry: 'combine', params: all.params, grid: batch * groups },
    constants: { SEGMENT, LANES: lanes, KEEP: keep },
    tensors: { parts, gain, table_out: table, ...(rstd && { rstd_out: rstd }) },
  });
  const normalise: GroupNorm['normalise'] = (x, y, rows, from, into) =>
    ctx.dispatch({ kernel, entry: 'normalise', ...pixelwise(rows, from, into), tensors: { x, table, bias, y } });
  return { table, rstd, lanes, pixelwise: all, normalise };
}

/**
 * The group norm of a picture [1, H, W, C] that comes in bands of rows. Statistics have the same bits in any bands.
 * @throws UsageError where the channels are no whole groups or shapes do not fit, or a gradient is wanted.
 */
export function measureGroups(
  ctx: Context,
  shape: readonly number[],
  bands: readonly MeasuredBand[],
  weights: GroupNormWeights,
  options: GroupNormOptions,
): GroupNorm {
  if (ctx.tape?.needs(weights.gain, weights.bias, ...bands.map(({ x }) => x))) {
    throw new UsageError('no gradient passes a band of a picture', { hint: 'differentiate the whole picture' });
  }
  return measured(ctx, shape, bands, weights, options, false);
}

/**
 * activation((x - mean) / sqrt(variance + eps) * gain + bias), mean and variance over the pixels and channels of a group.
 * x [B, H, W, C], f32; returns the same.
 * @throws UsageError where the channels are no whole groups or shapes do not fit.
 */
export function groupnorm(ctx: Context, x: Tensor, weights: GroupNormWeights, options: GroupNormOptions): Tensor {
  const { gain, bias } = weights;
  const [batch, height = 0] = x.shape;
  if (typeof batch !== 'number') throw new UsageError(`group norm of ${shapeText(x)} is not possible`);
  const keep = ctx.tape?.needs(x, gain, bias) ?? false;
  const shape = x.shape as readonly number[];
  const { table, rstd, lanes, pixelwise, normalise } = measured(
    ...([ctx, shape, [{ first: 0, x }], weights, options, keep] as const),
  );
  const y = ctx.empty('groupnorm', x.shape);
  normalise(x, y, batch * height, 0, 0);
  const saved = { x, gain, bias, table, rstd, lanes, pixelwise } satisfies GroupNormSaved;
  ctx.tape?.add({ name: 'groupnorm', inputs: [x, gain, bias], outputs: [y], saved });
  return y;
}

/** What the backward needs. */
export interface GroupNormSaved {
  readonly x: Tensor;
  readonly gain: Tensor;
  readonly bias: Tensor;
  /** [B, 2, C]: mean, rstd gain; and rstd [B, C]. */
  readonly table: Tensor;
  readonly rstd: Tensor | undefined;
  /** Invocations that share a group. */
  readonly lanes: number;
  /** How pixels are gone over. */
  readonly pixelwise: {
    readonly constants: Constants;
    readonly params: Readonly<Record<'batch' | 'groups' | 'height' | 'segments', number>> &
      Readonly<Record<string, number>>;
    readonly grid: Scalar;
  };
}

/** Sizes of a group norm. */
export interface GroupNormCase {
  batch: number;
  height: number;
  width: number;
  channels: number;
  groups: number;
  activation: keyof typeof ACTIVATION;
}

/** Stable Diffusion's, which are small beside its pictures' variances. */
const EPS = 1e-6;

export const groupnormContract = contract<GroupNormCase>({
  name: 'groupnorm',
  cases: [
    { batch: 1, height: 1, width: 2, channels: 4, groups: 1, activation: 'none' },
    { batch: 2, height: 5, width: 7, channels: 24, groups: 4, activation: 'silu' },
    { batch: 1, height: 3, width: 70, channels: 8, groups: 4, activation: 'relu' },
    { batch: 1, height: 2, width: 3, channels: 15, groups: 3, activation: 'silu' },
  ],
  inputs: ({ batch, height, width, channels }) => ({
    // Far from zero, where squares minus squared means would cancel.
    x: { shape: [batch, height, width, channels], fill: (_, normal) => 10 + normal() },
    gain: { shape: [channels], fill: (_, normal) => 1 + normal() / 4 },
    bias: { shape: [channels] },
  }),
  run: (ctx, { x, gain, bias }, { groups, activation }) => ({
    y: groupnorm(ctx, x!, { gain: gain!, bias: bias! }, { groups, eps: EPS, activation }),
  }),
  reference({ x, gain, bias }, { batch, height, width, channels, groups, activation }) {
    const [pixels, size] = [height * width, channels / groups];
    const y = new Float64Array(x!.length);
    for (let b = 0; b < batch; b++) {
      for (let g = 0; g < groups; g++) {
        const places: number[] = [];
        for (let p = 0; p < pixels; p++) {
          for (let c = 0; c < size; c++) places.push((b * pixels + p) * channels + g * size + c);
        }
        const mean = places.reduce((sum, at) => sum + x![at]!, 0) / places.length;
        const variance = places.reduce((sum, at) => sum + (x![at]! - mean) ** 2, 0) / places.length;
        for (const at of places) {
          const v = ((x![at]! - mean) / Math.sqrt(variance + EPS)) * gain![at % channels]! + bias![at % channels]!;
          y[at] = activation === 'silu' ? v / (1 + Math.exp(-v)) : activation === 'relu' ? Math.max(0, v) : v;
        }
      }
    }
    return { y };
  },
  differentiable: ['x', 'gain', 'bias'],
  reduction: ({ height, width, channels, groups }) => (height * width * channels) / groups,
  // The mean of numbers near 10 is rounded to ten times the unit of their distances from it.
  slack: 4,
  bench: {
    cases: [{ batch: 1, height: 64, width: 64, channels: 128, groups: 32, activation: 'silu' }],
    // Per element: the sum; difference, its square, their sum; difference, factor, offset; SiLU: exp, sum, quotient. Backward: as layer
    // norm's 13, and the slope: factor and offset, exp, sum, quotient, and its four.
    cost: ({ batch, height, width, channels }) => {
      const values = batch * height * width * channels;
      return {
        ...{ flops: 10 * values, bytes: 4 * (2 * values + 2 * channels) },
        backward: { flops: 22 * values, bytes: 4 * (3 * values + 4 * channels) },
      };
    },
  },
});
