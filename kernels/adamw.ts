/** The optimiser: AdamW and the exponential moving average of the parameters, fused, over one flat tensor. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, map, type Scalar } from '../engine/scalar.ts';
import { maxSize, sizeOf, type Tensor } from '../engine/tensor.ts';
import source from './adamw.wgsl';
import appliedSource from './adamw-applied.wgsl';
import { contract } from './contract.ts';
import { guide } from './flow.ts';
import lib from './lib.wgsl';
import { globalNorm } from './reduce.ts';

const kernel = defineKernel('adamw', lib, source);
const appliedKernel = defineKernel('adamw.applied', lib, appliedSource);
const WG = 64;
const EACH = 8;

/** All of the same size; all but the gradient are updated in place. */
export interface AdamWTensors {
  readonly params: Tensor;
  readonly gradient: Tensor;
  /** First and second moment, zero before the first step. */
  readonly m: Tensor;
  readonly v: Tensor;
  /** Moving average of the parameters. */
  readonly ema: Tensor;
}

/** Numbers of an update. */
export interface AdamWOptions {
  readonly lr: Scalar;
  /** Number of this update, from 1. The bias corrections 1 - beta^count follow from it in float64. */
  readonly count: Scalar;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Decoupled weight decay, of every parameter. */
  readonly decay?: number;
  /** What the moving average keeps of itself in a step. */
  readonly emaDecay?: Scalar;
  /** Multiplies the gradient first. */
  readonly gradientScale?: Scalar;
  /** Shortens the scaled gradient to `most` where it is longer; `norm` [1] is that of the whole gradient before it is scaled. */
  readonly clip?: { readonly norm: Tensor; readonly most: number };
}

const correction = (beta: number, count: Scalar) => map(count, `1-${beta}^`, (n) => 1 - beta ** n);

/**
 * One update as optax.adamw does it: p -= lr (mhat / (sqrt(vhat) + eps) + decay p); then ema += (1 - emaDecay) (p - ema).
 * @throws UsageError when the sizes differ.
 */
export function adamw(ctx: Context, tensors: AdamWTensors, options: AdamWOptions): void {
  const { params, gradient, m, v, ema } = tensors;
  for (const [name, t] of Object.entries(tensors)) {
    if (maxSize(t) !== maxSize(params))
      throw new UsageError(`adamw: ${name} has ${maxSize(t)} elements, not ${maxSize(params)}`);
  }
  const {
    lr,
    count,
    beta1 = 0.9,
    beta2 = 0.999,
    eps = 1e-8,
    decay = 0.1,
    emaDecay = 0.999,
    gradientScale = 1,
    clip,
  } = options;
  ctx.dispatch({
    kernel,
    entry: 'update',
    constants: { WG, EACH, CLIP: Number(clip !== undefined) },
    tensors: { weights: params, gradient, m, v, ema, ...(clip ? { norm: clip.norm } : {}) },
    params: {
      size: sizeOf(params),
      lr,
      beta1,
      rest1: 1 - beta1,
      beta2,
      rest2: 1 - beta2,
      correction1: correction(beta1, count),
      correction2: correction(beta2, count),
      eps,
      decay,
      ema_rest: map(emaDecay, '1-', (x) => 1 - x),
      gradient_scale: gradientScale,
      most: clip?.most ?? 0,
    },
    grid: ceilDiv(sizeOf(params), WG * EACH),
  });
}

/**
 * What the update that is just done took from the parameters, in their shape: p before, minus p after. From p, m and v as it left them, and
 * the same options. @throws UsageError when the sizes differ.
 */
export function adamwApplied(
  ctx: Context,
  { params, m, v }: Pick<AdamWTensors, 'params' | 'm' | 'v'>,
  options: Pick<AdamWOptions, 'lr' | 'count' | 'beta1' | 'beta2' | 'eps' | 'decay'>,
): Tensor {
  for (const [name, t] of Object.entries({ m, v })) {
    if (maxSize(t) !== maxSize(params))
      throw new UsageError(`adamw: ${name} has ${maxSize(t)} elements, not ${maxSize(params)}`);
  }
  const { lr, count, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.1 } = options;
  const taken = ctx.empty('applied', params.shape);
  ctx.dispatch({
    kernel: appliedKernel,
    entry: 'applied',
    constants: { WG, EACH },
    tensors: { weights: params, m, v, taken },
    params: {
      size: sizeOf(params),
      lr,
      correction1: correction(beta1, count),
      correction2: correction(beta2, count),
      eps,
      decay,
      shrunk: map(lr, `1-${decay}*`, (rate) => 1 - rate * decay),
    },
    grid: ceilDiv(sizeOf(params), WG * EACH),
  });
  return taken;
}

export const adamwAppliedContract = contract<{ size: number; count: number }>({
  name: 'adamwApplied',
  cases: [
    { size: 1, count: 1 },
    { size: 613, count: 7 },
  ],
  inputs: ({ size }) => ({
    params: { shape: [size] },
    m: { shape: [size] },
    v: { shape: [size], fill: (_, normal) => 1e-4 + normal() ** 2 },
  }),
  run: (ctx, { params, m, v }, { count }) => ({
    taken: adamwApplied(ctx, { params: params!, m: m!, v: v! }, { lr: 1e-2, count }),
  }),
  reference({ params, m, v }, { count }) {
    const taken = params!.map((after, i) => {
      const step = m![i]! / (1 - 0.9 ** count) / (Math.sqrt(v![i]! / (1 - 0.999 ** count)) + 1e-8);
      const before = (after + 1e-2 * step) / (1 - 1e-2 * 0.1);
      return before - after;
    });
    return { taken };
  },
  differentiable: [],
  reduction: () => 4,
  bench: {
    cases: [{ size: 4_000_000, count: 1 }],
    cost: ({ size }) => ({ flops: 9 * size, bytes: 4 * 4 * size }),
  },
});

export const adamwContract = contract<{ size: number; count: number; clip?: number }>({
  name: 'adamw',
  cases: [
    { size: 1, count: 1 },
    { size: 613, count: 7 },
    { size: 613, count: 7, clip: 2 },
    { size: 613, count: 7, clip: 1e6 },
  ],
  inputs: ({ size }) => ({
    params: { shape: [size] },
    gradient: { shape: [size] },
    m: { shape: [size] },
    v: { shape: [size], fill: (_, normal) => 1e-4 + normal() ** 2 },
    ema: { shape: [size] },
  }),
  run(ctx, { params, gradient, m, v, ema }, { count, clip }) {
    // Copies: the contract must find its inputs unchanged when it runs again.
    const copy = (t: Tensor | undefined) => guide(ctx, t!, gradient!, 0);
    const tensors = { params: copy(params), gradient: gradient!, m: copy(m), v: copy(v), ema: copy(ema) };
    const clipping = clip === undefined ? undefined : { norm: globalNorm(ctx, [gradient!]), most: clip };
    adamw(ctx, tensors, { lr: 1e-2, count, gradientScale: 0.5, clip: clipping });
    return { params: tensors.params, m: tensors.m, v: tensors.v, ema: tensors.ema };
  },
  reference({ params, gradient, m, v, ema }, { count, clip = Number.POSITIVE_INFINITY }) {
    const norm = Math.sqrt(gradient!.reduce((sum, g) => sum + g * g, 0));
    const scale = Math.min(0.5, clip / norm);
    const m1 = m!.map((x, i) => 0.9 * x + 0.1 * scale * gradient![i]!);
    const v1 = v!.map((x, i) => 0.999 * x + 0.001 * (scale * gradient![i]!) ** 2);
    const p1 = params!.map((p, i) => {
      const step = m1[i]! / (1 - 0.9 ** count) / (Math.sqrt(v1[i]! / (1 - 0.999 ** count)) + 1e-8);
      return p - 1e-2 * (step + 0.1 * p);
    });
    return { params: p1, m: m1, v: v1, ema: ema!.map((x, i) => 0.999 * x + 0.001 * p1[i]!) };
  },
  differentiable: [],
  reduction: ({ size, clip }) => (clip === undefined ? 4 : size),
  bench: {
    cases: [{ size: 4_000_000, count: 1 }],
    // The update: 20 operations on five values in and four out. Before it four copies by `guide`: 3 operations, two in and one out.
    cost: ({ size }) => ({ flops: (20 + 4 * 3) * size, bytes: 4 * (9 + 4 * 3) * size }),
  },
});
