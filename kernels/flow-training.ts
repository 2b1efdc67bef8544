/** The elementwise arithmetic of flow matching that only training needs; flow.ts has the rest. */
import type { Context } from '../engine/context.ts';
import { defineKernel } from '../engine/kernel.ts';
import type { Derivative } from '../engine/tape.ts';
import type { Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import {
  eulerEach,
  type FlowCase,
  flowBench,
  flowCases,
  flowKernel,
  launchFlow,
  type TowardSaved,
  velocityToward,
} from './flow.ts';
import source from './flow-training.wgsl';

const kernel = defineKernel(flowKernel.name, flowKernel.source, source);

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
  launchFlow(ctx, kernel, 'interpolate', { a: x0, b: x1, t, result: xt, velocity: v }, x0, 1 - sigmaMin);
  return { xt, v };
}

/** x + h v, h [B], every element held within [-bound, bound]. */
export function eulerWithin(ctx: Context, x: Tensor, v: Tensor, h: Tensor, bound: number): Tensor {
  const next = ctx.empty('next', x.shape);
  launchFlow(ctx, kernel, 'advance_within', { a: x, b: v, t: h, result: next }, x, bound);
  return next;
}

/** a + w (b - a) with a weight per sample, w [B]. */
export function mixEach(ctx: Context, a: Tensor, b: Tensor, w: Tensor): Tensor {
  const mixed = ctx.empty('mixed', a.shape);
  launchFlow(ctx, kernel, 'mix_each', { a, b, t: w, result: mixed }, a, 0);
  return mixed;
}

/** The backward of flow.ts's velocityToward: a quotient for its end, and its negative for x. */
export const velocityTowardBackward: Derivative<TowardSaved> = (ctx, g, { t, floor }) => {
  for (const [i, SIGN] of [-1, 1].entries()) {
    if (!g.needs(i)) continue;
    launchFlow(ctx, kernel, 'toward_backward', { a: g.dy(0), t, result: g.out(i) }, g.dy(0), floor, { SIGN });
  }
};

export const flowInterpolateContract = contract<FlowCase>({
  name: 'flowInterpolate',
  cases: flowCases(0, 1e-5),
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
  bench: flowBench(5, 4),
});

export const flowEachContract = contract<FlowCase>({
  name: 'flowEach',
  cases: flowCases(0.75),
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
  bench: flowBench(12, 12), // four operations: three values each
});
