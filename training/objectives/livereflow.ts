/**
 * Live reflow: flow matching, and beside it reflow (Liu et al., arXiv 2209.03003) of what the network makes at that moment.
 *
 * Draws: for flow rows t on the finest grid and whether the label is dropped; for the first rows t likewise.
 * Inputs: flow rows x_t = (1 - (1 - 1e-5) t) x0 + t x1 at level log2(finest); the first rows the same path from x0 to the sample that
 * the network makes of x0, at level 0, with their labels.
 * Targets: flow rows x1 - (1 - 1e-5) x0; the first rows sample minus x0. The sample takes eight Euler steps with the raw weights, all
 * blocks and level log2(finest), guided at the weight of `guidance`; without guidance, or at weight 0, for "no class".
 * Source: baselines/targets_livereflow.py of the reference. As there, the first rows have the noise and the times of the first flow
 * rows, and the last pictures of a batch are used by none.
 */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { eulerEach, guide } from '../../kernels/flow.ts';
import { flowInterpolate } from '../../kernels/flow-training.ts';
import { scatterRows } from '../../kernels/scatter.ts';
import {
  evaluate,
  filled,
  filledIntegers,
  finestLevel,
  flowRows,
  flowTimes,
  labelDrops,
  type Objective,
  type RecordRequest,
  SIGMA_MIN,
} from './objective.ts';

/** Euler steps of a sample. */
const STEPS = 8;

export const livereflow: Objective = {
  draw(request) {
    const { train, shares } = request;
    const { timeRows, flowRows } = shares;
    const times = flowTimes({ ...request, shares: { ...shares, flowRows: train.batch } });
    return {
      levels: new Array<number>(timeRows).fill(0),
      timeT: times.slice(0, timeRows),
      flowT: times.slice(0, flowRows),
      dropped: labelDrops(request),
    };
  },
  rows(request) {
    const { shares, draws, label } = request;
    const reflow = Array.from({ length: shares.timeRows }, (_, r) => ({
      source: r,
      t: draws.timeT[r]!,
      level: draws.levels[r]!,
      label: label(r),
    }));
    return [...reflow, ...flowRows(request)];
  },
  inputs({ train, shares, rows, position, told, none, full }) {
    const count = shares.timeRows;
    if (count === 0) return {};
    const reflow = rows.slice(0, count);
    const times = Array.from({ length: STEPS }, (_, i) => [`time${i}`, filled(count, i / STEPS)] as const);
    return {
      source: Uint32Array.from(reflow, (r) => r.source),
      t: Float32Array.from(reflow, (r) => r.t),
      labels: Uint32Array.from(reflow, (r) => r.label),
      step: filled(count, told(finestLevel(train))),
      h: filled(count, 1 / STEPS),
      back: filled(count, -1),
      targets: position.slice(0, count),
      none: filledIntegers(count, none),
      full: filledIntegers(count, full),
      ...Object.fromEntries(times),
    };
  },
  record(ctx, request) {
    const { main, own, path, noise, shares } = request;
    const { xt, v: target } = ctx.scope('flow', () => path(main.source, main.t, SIGMA_MIN));
    if (shares.timeRows > 0) {
      ctx.scope('time', () => {
        const x0 = noise(own.source!);
        const end = sample(ctx, request, x0);
        scatterRows(ctx, xt, flowInterpolate(ctx, x0, end, own.t!, SIGMA_MIN).xt, own.targets!);
        scatterRows(ctx, target, eulerEach(ctx, end, x0, own.back!), own.targets!);
      });
    }
    return { xt, target };
  },
};

/** What the raw weights make of x0 [R, H, W, C]. */
function sample(ctx: Context, { train, own, raw }: RecordRequest, x0: Tensor): Tensor {
  const weight = train.guidance?.weight ?? 0;
  let x = x0;
  for (let i = 0; i < STEPS; i++) {
    const at = (name: string, labels: Tensor) =>
      evaluate(ctx, `${name}${i}`, raw, { x, t: own[`time${i}`]!, step: own.step!, labels }, own.full!);
    const u = at('u', own.none!);
    x = eulerEach(ctx, x, weight === 0 ? u : guide(ctx, u, at('c', own.labels!), weight), own.h!);
  }
  return x;
}
