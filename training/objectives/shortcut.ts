/**
 * Shortcut models (arXiv 2410.12557): one step must match two of half its size, and the finest step learns the flow.
 *
 * Draws: for the first rows a level d, 0 .. log2(finest) - 1, evenly or with `dtBias` more often one of the two lowest, and t on the
 * grid of 2^d sections; for the others t on the finest grid, and whether the label is dropped.
 * Inputs: x_t = (1 - t) x0 + t x1, t, d, the label; flow rows have level log2(finest).
 * Targets: the mean of two steps of half the size from x_t, told level d + 1, by the moving average or the raw weights
 * (`targetsFromEma`); flow rows x1 - x0. With distilled guidance every drawn pair fills two rows of the same inputs, one with
 * the plain target and one with the guided.
 * Source: targets_shortcut.py of the reference. As there, the first rows are made of the same pictures and noise as the first flow
 * rows, so the last pictures of a batch are used by none.
 */
import type { Context } from '../../engine/context.ts';
import { integers, uniforms } from '../../engine/philox.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { eulerEach, guide, mean2 } from '../../kernels/flow.ts';
import { scatterRows } from '../../kernels/scatter.ts';
import {
  type DrawRequest,
  evaluate,
  filledIntegers,
  finestLevel,
  flowRows,
  flowTimes,
  type InputRequest,
  labelDrops,
  type Objective,
  type OwnInputs,
  type RecordRequest,
  type Row,
  type RowRequest,
  STREAM,
} from './objective.ts';

export const shortcut: Objective = {
  draw(request) {
    const { shares, from } = request;
    const levels = drawLevels(request);
    const u = uniforms(from(STREAM.timeT), shares.timePairs);
    return {
      levels,
      timeT: Float32Array.from(levels, (d, i) => Math.floor(u[i]! * 2 ** d) / 2 ** d),
      flowT: flowTimes(request),
      dropped: labelDrops(request),
    };
  },
  rows: (request) => [...pairRows(request), ...flowRows(request)],
  inputs(request) {
    const { shares, rows, told } = request;
    if (shares.timePairs === 0) return {};
    const pairs = rows.slice(0, shares.timePairs);
    const h = Float32Array.from(pairs, ({ level }) => 2 ** -(level + 1));
    return { ...pairInputs(request, pairs, h), step: Float32Array.from(pairs, (p) => told(p.level + 1)) };
  },
  record(ctx, request) {
    const { main, own, path, shares } = request;
    const { xt, v: target } = ctx.scope('flow', () => path(main.source, main.t));
    if (shares.timePairs > 0) {
      ctx.scope('time', () => {
        const start = path(own.source!, own.t!).xt;
        const halves = twoHalves(ctx, request, start);
        teach(ctx, request, target, halves, (a, b) => mean2(ctx, a, b));
      });
    }
    return { xt, target };
  },
};

/**
 * Levels of the pairs: even, or with `dtBias` as shortcut-models has them: a quarter has level 1, a
 * quarter level 0, and the others are even over the levels from 2 on. Where there are no more than two levels they are even.
 */
function drawLevels({ train, shares, from }: DrawRequest): ArrayLike<number> {
  const levels = finestLevel(train);
  if (!train.dtBias || levels <= 2) return integers(from(STREAM.level), levels, shares.timePairs);
  return Array.from(uniforms(from(STREAM.level), shares.timePairs), (u) => {
    if (u < 0.5) return Math.floor(4 * u);
    return 2 + Math.floor((2 * u - 1) * (levels - 2));
  });
}

/** The rows of the pairs: once, and with distilled guidance a second time. */
export const pairRows = ({ shares, draws, label }: RowRequest): Row[] =>
  Array.from({ length: shares.timeRows }, (_, r) => {
    const pair = r % Math.max(1, shares.timePairs);
    return { source: pair, t: draws.timeT[pair]!, level: draws.levels[pair]!, label: label(pair) };
  });

/** Inputs of the pairs' two steps, but the levels that these are told: the first step has length `h`. */
export function pairInputs(
  { shares, position, none, full }: InputRequest,
  pairs: readonly Row[],
  h: Float32Array,
): OwnInputs {
  const { timePairs, timeRows } = shares;
  return {
    source: Uint32Array.from(pairs, (p) => p.source),
    t: Float32Array.from(pairs, (p) => p.t),
    labels: Uint32Array.from(pairs, (p) => p.label),
    h,
    later: Float32Array.from(pairs, (p, i) => p.t + h[i]!),
    targets0: position.slice(0, timePairs),
    ...(timeRows > timePairs ? { targets1: position.slice(timePairs, timeRows) } : {}),
    none: filledIntegers(timePairs, none),
    full: filledIntegers(timePairs, full),
  };
}

/** Two steps' velocities, without guidance and, where it is distilled, with. */
export type Halves = readonly (readonly [first: Tensor, second: Tensor])[];

/**
 * A step by h [R] from `start` at own.t, told own.step, and one at own.later, told `second` (own.step unless given). As the
 * reference does it, the second conditional evaluation follows the conditional first one, the unconditional the guided.
 */
export function twoHalves(
  ctx: Context,
  { own, chosen, train }: Pick<RecordRequest, 'own' | 'chosen' | 'train'>,
  start: Tensor,
  second: Tensor = own.step!,
): Halves {
  const at = (name: string, x: Tensor, t: Tensor, step: Tensor, labels: Tensor) =>
    evaluate(ctx, name, chosen, { x, t, step, labels }, own.full!);
  const c1 = at('c1', start, own.t!, own.step!, own.labels!);
  const c2 = at('c2', eulerEach(ctx, start, c1, own.h!), own.later!, second, own.labels!);
  if (!train.guidance?.distill) return [[c1, c2]];
  const { weight } = train.guidance;
  const g1 = guide(ctx, at('u1', start, own.t!, own.step!, own.none!), c1, weight);
  const u2 = at('u2', eulerEach(ctx, start, g1, own.h!), own.later!, second, own.none!);
  const g2 = guide(ctx, u2, c2, weight);
  return [
    [c1, c2],
    [g1, g2],
  ];
}

/** Puts what `merge` makes of the halves in the place of the targets of the pairs' rows. */
export function teach(
  ctx: Context,
  { own }: Pick<RecordRequest, 'own'>,
  target: Tensor,
  halves: Halves,
  merge: (first: Tensor, second: Tensor) => Tensor,
): void {
  const made = halves.map(([first, second]) => merge(first, second));
  made.forEach((values, i) => {
    scatterRows(ctx, target, values, own[`targets${i}`]!);
  });
}
