/**
 * SplitMeanFlow (arXiv 2507.16884): the mean velocity over an interval is that over its two parts, whatever the place of the split.
 * With u(x, a, b) for the mean velocity from time a to time b, and time from noise (0) to data (1), its identity is
 * (r - t) u(x_t, t, r) = (s - t) u(x_t, t, s) + (r - s) u(x_s, s, r) with x_s = x_t + (s - t) u(x_t, t, s). Halves on grids of powers
 * of two make it the shortcut objective.
 *
 * Draws: for the first rows an interval from t to r and a split s between them, on the finest grid or, with `timeSampling`
 * continuous, anywhere (at least two of the finest steps long); flow rows as shortcut.
 * Inputs: x_t = (1 - t) x0 + t x1, t, the label, and the level -log2(r - t), which need not be whole; flow rows have level
 * log2(finest), and so has a part that is shorter than a finest step.
 * Targets: the mean of the two parts' velocities by their lengths, by the moving average or the raw weights (`targetsFromEma`);
 * flow rows x1 - x0. Distilled guidance as shortcut.
 * Source: the paper; the reference does not have it.
 */
import { integers, uniforms } from '../../engine/philox.ts';
import { mixEach } from '../../kernels/flow-training.ts';
import { type DrawRequest, finestLevel, flowRows, flowTimes, labelDrops, type Objective, STREAM } from './objective.ts';
import { pairInputs, pairRows, teach, twoHalves } from './shortcut.ts';

export const splitmeanflow: Objective = {
  draw(request) {
    const intervals = drawIntervals(request);
    return {
      levels: intervals.map(({ length }) => -Math.log2(length)),
      timeT: Float32Array.from(intervals, ({ t }) => t),
      fractions: intervals.map(({ fraction }) => fraction),
      flowT: flowTimes(request),
      dropped: labelDrops(request),
    };
  },
  rows: (request) => [...pairRows(request), ...flowRows(request)],
  inputs(request) {
    const { train, shares, draws, rows, told } = request;
    if (shares.timePairs === 0) return {};
    const pairs = rows.slice(0, shares.timePairs);
    const fraction = Float32Array.from(draws.fractions!);
    const level = (length: number) => told(Math.min(finestLevel(train), -Math.log2(length)));
    const h = Float32Array.from(pairs, (p, i) => fraction[i]! * 2 ** -p.level);
    return {
      ...pairInputs(request, pairs, h),
      step: Float32Array.from(h, level),
      second: Float32Array.from(pairs, (p, i) => level((1 - fraction[i]!) * 2 ** -p.level)),
      share: fraction.map((f) => 1 - f),
    };
  },
  record(ctx, request) {
    const { main, own, path, shares } = request;
    const { xt, v: target } = ctx.scope('flow', () => path(main.source, main.t));
    if (shares.timePairs > 0) {
      ctx.scope('time', () => {
        const parts = twoHalves(ctx, request, path(own.source!, own.t!).xt, own.second!);
        teach(ctx, request, target, parts, (first, second) => mixEach(ctx, first, second, own.share!));
      });
    }
    return { xt, target };
  },
};

interface Interval {
  readonly t: number;
  readonly length: number;
  /** Length of the first part, as a share. */
  readonly fraction: number;
}

/** Two different points, in order, and one between them. */
function drawIntervals({ train, shares, from }: DrawRequest): Interval[] {
  const { finest, timeSampling } = train;
  const count = shares.timePairs;
  const split = uniforms(from(STREAM.fraction), count);
  if (timeSampling === 'continuous') {
    const ends = uniforms(from(STREAM.timeT), 2 * count);
    return Array.from({ length: count }, (_, i) => {
      const [a, b] = [ends[2 * i]!, ends[2 * i + 1]!];
      const length = Math.max(Math.abs(a - b), 2 / finest);
      return { t: Math.min(a, b, 1 - length), length, fraction: split[i]! };
    });
  }
  // Lengths of two sections and more: of all such pairs of points of the grid each is as likely as the others.
  const pairs: { t: number; sections: number }[] = [];
  for (let t = 0; t <= finest - 2; t++)
    for (let end = t + 2; end <= finest; end++) pairs.push({ t, sections: end - t });
  const chosen = integers(from(STREAM.timeT), pairs.length, count);
  return Array.from(chosen, (which, i) => {
    const { t, sections } = pairs[which]!;
    const first = 1 + Math.floor(split[i]! * (sections - 1));
    return { t: t / finest, length: sections / finest, fraction: first / sections };
  });
}
