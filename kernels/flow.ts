/** The elementwise arithmetic of flow matching and its sampler: interpolation, Euler step, guidance. Only `velocityToward` is differentiable. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import { rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './flow.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('flow', lib, source);
const constants = { WG: 64, EACH: 8 };

function elementwise(
  ctx: Context,
  entry: string,
  tensors: Record<string, Tensor>,
  like: Tensor,
  k: Scalar,
  chosen: Readonly<Record<string, number>> = {},
): void {
  for (const x of [tensors.a, tensors.b]) {
    if (x && rowSize(x) !== rowSize(like)) {
      throw new UsageError(`flow/${entry}: rows of ${shapeText(x)} and ${shapeText(like)} differ in size`);
    }
  }
  ctx.dispatch({
    kernel,
    entry,
    constants: { ...constants, ...chosen },
    tensors,
    params: { size: sizeOf(like), row: rowSize(like), k },
    grid: ceilDiv(sizeOf(like), constants.WG * constants.EACH),
  });
}

/**
 * The straight path from noise x0 to data x1 (both [B, ...]) at the samples' times t [B]:
 * xt = (1 - (1 - sigmaMin) t) x0 + t x1, and its velocity v = x1 - (1 - sigmaMin) x0 (Lipman et al. 2023, eq. 20-23).
 */
export function flowInterpolate(
  ctx: Context,
  x0: Tensor,
  x1: Tensor,
  t: Tensor,
  sigmaMin = 0,
): { xt: Tensor; v: Tensor } {
  const xt = ctx.empty('xt', x0.shape);
  const v = ctx.empty('v', x0.shape);
  elementwise(ctx, 'interpolate', { a: x0, b: x1, t, result: xt, velocity: v }, x0, 1 - sigmaMin);
  return { xt, v };
}

/** One Euler step, in place: x += h v, for the rows of v. */
export function euler(ctx: Context, x: Tensor, v: Tensor, h: Scalar): void {
  elementwise(ctx, 'advance', { a: v, result: x }, v, h);
}

/** x + h v with a step size per sample, h [B]. */
export function eulerEach(ctx: Context, x: Tensor, v: Tensor, h: Tensor): Tensor {
  const next = ctx.empty('next', x.shape);
  elementwise(ctx, 'advance_each', { a: x, b: v, t: h, result: next }, x, 0);
  return next;
}

/** x + h v, h [B], every element held within [-bound, bound]. */
export function eulerWithin(ctx: Context, x: Tensor, v: Tensor, h: Tensor, bound: number): Tensor {
  const next = ctx.empty('next', x.shape);
  elementwise(ctx, 'advance_within', { a: x, b: v, t: h, result: next }, x, bound);
  return next;
}

/** a + w (b - a) with a weight per sample, w [B]. */
export function mixEach(ctx: Context, a: Tensor, b: Tensor, w: Tensor): Tensor {
  const mixed = ctx.empty('mixed', a.shape);
  elementwise(ctx, 'mix_each', { a, b, t: w, result: mixed }, a, 0);
  return mixed;
}

/**
 * The velocity (end - x) / max(1 - t, floor) that leads straight from x at the samples' times t [B] to `end` at time 1, both of one
 * shape [B, ...]. Without a floor, times are below 1. Differentiable in x and end, not in t.
 */
export function velocityToward(ctx: Context, x: Tensor, end: Tensor, t: Tensor, floor = 0): Tensor {
  const v = ctx.empty('v', end.shape);
  elementwise(ctx, 'toward', { a: x, b: end, t, result: v }, v, floor);
  ctx.tape?.add({
    name: 'velocityToward',
    inputs: [x, end],
    outputs: [v],
    backward(g) {
      for (const [i, SIGN] of [-1, 1].entries()) {
        if (!g.needs(i)) continue;
        elementwise(ctx, 'toward_backward', { a: g.dy(0), t, result: g.out(i) }, v, floor, { SIGN });
      }
    },
  });
  return v;
}

/** Classifier-free guidance: vUncond + w (vCond - vUncond) (Ho & Salimans 2022). */
export function guide(ctx: Context, vUncond: Tensor, vCond: Tensor, w: Scalar): Tensor {
  const guided = ctx.empty('guided', vUncond.shape);
  elementwise(ctx, 'mix_by', { a: vUncond, b: vCond, result: guided }, guided, w);
  return guided;
}

/** (a + b) / 2. */
export function mean2(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const mean = ctx.empty('mean', a.shape);
  elementwise(ctx, 'mix_by', { a, b, result: mean }, mean, 0.5);
  return mean;
}

interface FlowCase {
  batch: number;
  row: number;
  /** sigmaMin, h or w. */
  k: number;
}

const cases = (...ks: number[]): FlowCase[] =>
  ks.flatMap((k) => [
    { batch: 1, row: 1, k },
    { batch: 3, row: 67, k },
  ]);

/** Work per element: operations, and values read and written. */
const bench = (flops: number, values: number) => ({
  cases: [{ batch: 64, row: 4096, k: 0.5 }],
  cost: ({ batch, row }: FlowCase) => ({ flops: flops * batch * row, bytes: 4 * values * batch * row }),
});

export const flowInterpolateContract = contract<FlowCase>({
  name: 'flowInterpolate',
  cases: cases(0, 1e-5),
  inputs: ({ batch, row }) => ({
    x0: { shape: [batch, row] },
    x1: { shape: [batch, row] },
    t: { shape: [batch], fill: (i) => i / 2 },
  }),
  run: (ctx, { x0, x1, t }, { k }) => ({ ...flowInterpolate(ctx, x0!, x1!, t!, k) }),
  reference: ({ x0, x1, t }, { row, k }) => ({
    xt: x0!.map((x, i) => (1 - (1 - k) * t![Math.floor(i / row)]!) * x + t![Math.floor(i / row)]! * x1![i]!),
    v: x0!.map((x, i) => x1![i]! - (1 - k) * x),
  }),
  differentiable: [],
  reduction: () => 2,
  bench: bench(5, 4),
});

export const eulerContract = contract<FlowCase>({
  name: 'euler',
  cases: cases(0.25),
  inputs: ({ batch, row }) => ({ x: { shape: [batch, row] }, v: { shape: [batch, row] } }),
  run(ctx, { x, v }, { k }) {
    const moved = guide(ctx, x!, v!, 0); // a copy: the contract must find its inputs unchanged when it runs again
    euler(ctx, moved, v!, k);
    return { x: moved };
  },
  reference: ({ x, v }, { k }) => ({ x: x!.map((value, i) => value + k * v![i]!) }),
  differentiable: [],
  reduction: () => 2,
  bench: bench(5, 6), // guide as a copy, then the step: three values each
});

export const guideContract = contract<FlowCase>({
  name: 'guide',
  cases: cases(1.5, 0),
  inputs: ({ batch, row }) => ({ u: { shape: [batch, row] }, c: { shape: [batch, row] } }),
  run: (ctx, { u, c }, { k }) => ({ guided: guide(ctx, u!, c!, k), mean: mean2(ctx, u!, c!) }),
  reference: ({ u, c }, { k }) => ({
    guided: u!.map((x, i) => x + k * (c![i]! - x)),
    mean: u!.map((x, i) => (x + c![i]!) / 2),
  }),
  differentiable: [],
  reduction: () => 2,
  bench: bench(5, 6), // guide and mean2: three values each
});

export const flowEachContract = contract<FlowCase>({
  name: 'flowEach',
  cases: cases(0.75),
  inputs: ({ batch, row }) => ({
    a: { shape: [batch, row] },
    b: { shape: [batch, row] },
    t: { shape: [batch], fill: (i) => (i % 4) / 4 },
  }),
  run: (ctx, { a, b, t }, { k }) => ({
    moved: eulerEach(ctx, a!, b!, t!),
    within: eulerWithin(ctx, a!, b!, t!, k),
    mixed: mixEach(ctx, a!, b!, t!),
    toward: velocityToward(ctx, a!, b!, t!),
  }),
  reference: ({ a, b, t }, { row, k }) => {
    const each = (f: (x: number, y: number, w: number) => number) =>
      a!.map((x, i) => f(x, b![i]!, t![Math.floor(i / row)]!));
    return {
      moved: each((x, y, w) => x + w * y),
      within: each((x, y, w) => Math.max(-k, Math.min(k, x + w * y))),
      mixed: each((x, y, w) => x + w * (y - x)),
      toward: each((x, y, w) => (y - x) / (1 - w)),
    };
  },
  differentiable: [],
  reduction: () => 2,
  bench: bench(12, 12), // four operations: three values each
});

export const velocityTowardContract = contract<FlowCase>({
  name: 'velocityToward',
  cases: cases(0.05, 0.4),
  inputs: ({ batch, row }) => ({
    x: { shape: [batch, row] },
    end: { shape: [batch, row] },
    // On both sides of either floor, and at the end.
    t: { shape: [batch], fill: (i) => [0.25, 0.9, 1][i % 3]! },
  }),
  run: (ctx, { x, end, t }, { k }) => ({ v: velocityToward(ctx, x!, end!, t!, k) }),
  reference: ({ x, end, t }, { row, k }) => ({
    v: x!.map((value, i) => (end![i]! - value) / Math.max(1 - t![Math.floor(i / row)]!, k)),
  }),
  differentiable: ['x', 'end'],
  reduction: () => 2,
  bench: {
    cases: [{ batch: 64, row: 4096, k: 0.05 }],
    // Backward: a quotient and its negative, from one gradient.
    cost: ({ batch, row }) => ({
      flops: 2 * batch * row,
      bytes: 4 * 3 * batch * row,
      backward: { flops: 2 * batch * row, bytes: 4 * 3 * batch * row },
    }),
  },
});
