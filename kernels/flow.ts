/** The elementwise arithmetic of sampling: Euler step, guidance, velocities towards an end. Of these `velocityToward` is differentiable. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel, type Kernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import { rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './flow.wgsl';
import lib from './lib.wgsl';

/** flow-training.ts extends it. */
export const flowKernel = defineKernel('flow', lib, source);
const constants = { WG: 64, EACH: 8 };

/** Dispatches an entry point of flow.wgsl or of flow-training.wgsl, for the elements of `like`. */
export function launchFlow(
  ctx: Context,
  kernel: Kernel,
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

/** One Euler step, in place: x += h v, for the rows of v. */
export function euler(ctx: Context, x: Tensor, v: Tensor, h: Scalar): void {
  launchFlow(ctx, flowKernel, 'advance', { a: v, result: x }, v, h);
}

/** x + h v with a step size per sample, h [B]. */
export function eulerEach(ctx: Context, x: Tensor, v: Tensor, h: Tensor): Tensor {
  const next = ctx.empty('next', x.shape);
  launchFlow(ctx, flowKernel, 'advance_each', { a: x, b: v, t: h, result: next }, x, 0);
  return next;
}

/** What the backward of `velocityToward` needs. */
export interface TowardSaved {
  readonly t: Tensor;
  readonly floor: number;
}

/**
 * The velocity (end - x) / max(1 - t, floor) that leads straight from x at the samples' times t [B] to `end` at time 1, both of one
 * shape [B, ...]. Without a floor, times are below 1. Differentiable in x and end, not in t.
 */
export function velocityToward(ctx: Context, x: Tensor, end: Tensor, t: Tensor, floor = 0): Tensor {
  const v = ctx.empty('v', end.shape);
  launchFlow(ctx, flowKernel, 'toward', { a: x, b: end, t, result: v }, v, floor);
  ctx.tape?.add({ name: 'velocityToward', inputs: [x, end], outputs: [v], saved: { t, floor } satisfies TowardSaved });
  return v;
}

/** Classifier-free guidance: vUncond + w (vCond - vUncond) (Ho & Salimans 2022). */
export function guide(ctx: Context, vUncond: Tensor, vCond: Tensor, w: Scalar): Tensor {
  const guided = ctx.empty('guided', vUncond.shape);
  launchFlow(ctx, flowKernel, 'mix_by', { a: vUncond, b: vCond, result: guided }, guided, w);
  return guided;
}

/** (a + b) / 2. */
export function mean2(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const mean = ctx.empty('mean', a.shape);
  launchFlow(ctx, flowKernel, 'mix_by', { a, b, result: mean }, mean, 0.5);
  return mean;
}

/** Samples, elements of each, and a number. */
export interface FlowCase {
  batch: number;
  row: number;
  /** sigmaMin, h or w. */
  k: number;
}

/** Small cases for each k. */
export const flowCases = (...ks: number[]): FlowCase[] =>
  ks.flatMap((k) => [
    { batch: 1, row: 1, k },
    { batch: 3, row: 67, k },
  ]);

/** Work per element: operations, and values read and written. */
export const flowBench = (flops: number, values: number) => ({
  cases: [{ batch: 64, row: 4096, k: 0.5 }],
  cost: ({ batch, row }: FlowCase) => ({ flops: flops * batch * row, bytes: 4 * values * batch * row }),
});

export const eulerContract = contract<FlowCase>({
  name: 'euler',
  cases: flowCases(0.25),
  inputs: ({ batch, row }) => ({ x: { shape: [batch, row] }, v: { shape: [batch, row] } }),
  run(ctx, { x, v }, { k }) {
    const moved = guide(ctx, x!, v!, 0); // a copy: the contract must find its inputs unchanged when it runs again
    euler(ctx, moved, v!, k);
    return { x: moved };
  },
  reference: ({ x, v }, { k }) => ({ x: x!.map((value, i) => value + k * v![i]!) }),
  differentiable: [],
  reduction: () => 2,
  bench: flowBench(5, 6), // guide as a copy, then the step: three values each
});

export const guideContract = contract<FlowCase>({
  name: 'guide',
  cases: flowCases(1.5, 0),
  inputs: ({ batch, row }) => ({ u: { shape: [batch, row] }, c: { shape: [batch, row] } }),
  run: (ctx, { u, c }, { k }) => ({ guided: guide(ctx, u!, c!, k), mean: mean2(ctx, u!, c!) }),
  reference: ({ u, c }, { k }) => ({
    guided: u!.map((x, i) => x + k * (c![i]! - x)),
    mean: u!.map((x, i) => (x + c![i]!) / 2),
  }),
  differentiable: [],
  reduction: () => 2,
  bench: flowBench(5, 6), // guide and mean2: three values each
});

export const velocityTowardContract = contract<FlowCase>({
  name: 'velocityToward',
  cases: flowCases(0.05, 0.4),
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
