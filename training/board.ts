/** What TensorBoard is shown of a run: which numbers and histograms, and their names. */
import type { MemoryReport } from '../engine/memory/accountant.ts';
import type { HistogramSummary, Summary } from '../formats/tensorboard.ts';
import { histogramEdges } from '../kernels/histogram.ts';
import type { Inspected } from './inspection.ts';
import type { Losses } from './losses.ts';
import type { TrainEvent } from './trainer.ts';

/** Bins of a histogram of losses. */
const LOSS_BINS = 30;

const scalar = (tag: string, value: number): Summary => ({ tag, scalar: value });

function losses(prefix: string, { byTime, byBlocks, byLevel, ...kinds }: Losses): Summary[] {
  const by = { t: byTime, blocks: byBlocks, level: byLevel };
  return [
    ...Object.entries(kinds).map(([kind, value]) => scalar(`${prefix}/${kind}`, value as number)),
    ...Object.entries(by).flatMap(([of, parts]) =>
      Object.entries(parts).map(([part, value]) => scalar(`${prefix} by ${of}/${of}=${part}`, value)),
    ),
  ];
}

/** Of every update: losses, rate, norm of the whole gradient, speed; and what a validation found. `samples`: samples of an update. */
export const updateSummaries = (event: TrainEvent, samples: number): Summary[] => [
  ...losses('loss', event.losses),
  scalar('training/learning rate', event.lr),
  scalar('training/gradient norm', event.gradNorm),
  scalar('training/samples per second', samples / event.seconds),
  ...(event.validation
    ? [...losses('validation', event.validation.average), ...losses('validation raw', event.validation.raw)]
    : []),
];

/** What the engine's buffers take: now, and at most so far, in bytes. */
export const memorySummaries = ({ live, peak }: Pick<MemoryReport, 'live' | 'peak'>): Summary[] => [
  scalar('memory/live bytes', live),
  scalar('memory/peak bytes', peak),
];

/** Norms by group, and histograms of the parameters where they were counted. */
export function inspectionSummaries({ norms, histograms = {} }: Inspected): Summary[] {
  const scalars = Object.entries(norms).flatMap(([group, of]) => [
    scalar(`norm of gradient/${group}`, of.gradient),
    ...(of.update === undefined ? [] : [scalar(`norm of update/${group}`, of.update)]),
    scalar(`norm of parameters/${group}`, of.parameters),
  ]);
  const counted = Object.entries(histograms).map(([group, counts]) => ({
    tag: `parameters/${group}`,
    histogram: binned(counts, norms[group]!.parameters ** 2),
  }));
  return [...scalars, ...counted];
}

/** Counts by the bins of kernels/histogram.ts; the sum is that of the middles of the bins. */
function binned(counts: readonly number[], sumSquares: number): HistogramSummary {
  const edges = histogramEdges();
  const first = counts.findIndex((n) => n > 0);
  const last = counts.findLastIndex((n) => n > 0);
  const sum = counts.reduce((total, n, i) => total + (n * (edges[i]! + edges[i + 1]!)) / 2, 0);
  return {
    min: edges[first]!,
    max: edges[last + 1]!,
    sum,
    sumSquares,
    limits: edges.slice(first + 1, last + 2),
    counts: counts.slice(first, last + 1),
  };
}

/** The losses of an update's samples, in bins of equal width. */
export function lossHistogram(values: Float32Array): Summary {
  const min = values.reduce((a, b) => Math.min(a, b));
  const max = values.reduce((a, b) => Math.max(a, b));
  const width = (max - min) / LOSS_BINS || 1;
  const counts = new Array<number>(LOSS_BINS).fill(0);
  for (const value of values) counts[Math.min(LOSS_BINS - 1, Math.floor((value - min) / width))]!++;
  const limits = counts.map((_, i) => min + (i + 1) * width);
  const sum = values.reduce((a, b) => a + b, 0);
  const sumSquares = values.reduce((a, b) => a + b * b, 0);
  return { tag: 'loss of samples', histogram: { min, max, sum, sumSquares, limits, counts } };
}
