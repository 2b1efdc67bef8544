/** Group norm of pictures [B, H, W, C] with a learned gain and bias, and SiLU or ReLU fused; its backward; reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv } from '../../engine/scalar.ts';
import { columns, maxSize, shapeText, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import lib from '../lib.wgsl';
import { columnSum } from '../reduce.ts';
import backwardSource from './groupnorm.backward.wgsl';
import source from './groupnorm.wgsl';

const kernel = defineKernel('groupnorm', source, lib);
const backwardKernel = defineKernel('groupnorm.backward', source, backwardSource, lib);
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

/**
 * activation((x - mean) / sqrt(variance + eps) * gain + bias), mean and variance over the pixels and channels of a group.
 * x [B, H, W, C], f32; returns the same.
 * @throws UsageError where the channels are no whole groups or shapes do not fit.
 */
export function groupnorm(
  ctx: Context,
  x: Tensor,
  { gain, bias }: GroupNormWeights,
  { groups, eps, activation = 'none' }: GroupNormOptions,
): Tensor {
  const [batch, height, width, channels = 0] = x.shape;
  if (x.shape.length !== 4 || typeof batch !== 'number' || x.dtype !== 'f32' || channels % groups !== 0) {
    throw new UsageError(`group norm of ${shapeText(x)} of ${x.dtype} in ${groups} groups is not possible`);
  }
  if (maxSize(gain) !== channels || maxSize(bias) !== channels) {
    throw new UsageError(`group norm of ${channels} channels by ${shapeText(gain)} and ${shapeText(bias)}`);
  }
  const segments = Math.ceil(width! / SEGMENT);
  const vec = channels % 4 === 0;
  const lanes = ctx.engine.adapterClass === 'gpu' ? 64 : 1;
  const params = { batch, height: height!, width: width!, channels, groups, segments, eps };
  const constants = { WG, SEGMENT, VEC: vec };
  const pieces = ceilDiv((batch * height! * segments * channels) / (vec ? 4 : 1), WG);
  const parts = ctx.empty('groupnorm.parts', [batch * height! * segments, 2, channels]);
  const table = ctx.empty('groupnorm.table', [batch, 2, channels]);
  const y = ctx.empty('groupnorm', x.shape);
  const rstd = ctx.tape?.needs(x, gain, bias) ? ctx.empty('groupnorm.rstd', [batch, channels]) : undefined;
  ctx.dispatch({ kernel, entry: 'measure', constants, tensors: { x, parts_out: parts }, params, grid: pieces });
  ctx.dispatch({
    ...{ kernel, entry: 'combine', constants: { SEGMENT, LANES: lanes, KEEP: rstd !== undefined } },
    ...{ tensors: { parts, gain, table_out: table, ...(rstd && { rstd_out: rstd }) }, params, grid: batch * groups },
  });
  const pixelwise = { constants: { ...constants, ACTIVATION: ACTIVATION[activation] }, params, grid: pieces };
  ctx.dispatch({ kernel, entry: 'normalise', ...pixelwise, tensors: { x, table, bias, y } });
  ctx.tape?.add({
    name: 'groupnorm',
    inputs: [x, gain, bias],
    outputs: [y],
    backward(g) {
      const seen = { x, dy: g.dy(0), table, bias };
      const sums = ctx.empty('d(groupnorm).parts', [batch * height! * segments, 2 * channels]);
      ctx.dispatch({
        kernel: backwardKernel,
        entry: 'measure_dy',
        ...pixelwise,
        tensors: { ...seen, rstd: rstd!, parts_out: sums },
      });
      if (g.needs(1)) columnSum(ctx, columns(sums, channels, channels), g.out(1));
      if (g.needs(2)) columnSum(ctx, columns(sums, 0, channels), g.out(2));
      if (!g.needs(0)) return;
      const means = ctx.empty('d(groupnorm).means', [batch, 2, channels]);
      ctx.dispatch({
        ...{ kernel: backwardKernel, entry: 'combine_dy', constants: { SEGMENT, LANES: lanes } },
        ...{ tensors: { parts: sums, gain, rstds: rstd!, means_out: means }, params, grid: batch * groups },
      });
      const { out: dx, earlier } = g.onto(0);
      ctx.dispatch({
        ...{ kernel: backwardKernel, entry: 'differentiate', ...pixelwise },
        constants: { ...pixelwise.constants, ADD: earlier !== null },
        tensors: { ...seen, means, dx, ...(earlier && { earlier }) },
      });
    },
  });
  return y;
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
