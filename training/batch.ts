/**
 * One training batch as plain arrays: what is drawn at random, and how the drawn rows become the network's inputs, sorted so that
 * samples with more blocks come first. No GPU here.
 */
import { integers, uniforms } from '../engine/philox.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { rowsPerGroup } from '../model/dit.ts';
import { batchShares, type TrainConfig } from './config.ts';

/** Every random number of a step but the noise x0. Rows are in the reference's order: time pairs, then flow rows. */
export interface Draws {
  /** Step level d of each time pair, 0 .. log2(finest) - 1, and its time on the grid of 2^d sections. */
  readonly levels: ArrayLike<number>;
  readonly timeT: ArrayLike<number>;
  /** Time of each flow row, on the finest grid. */
  readonly flowT: ArrayLike<number>;
  /** 1 where a flow row loses its label. */
  readonly dropped: ArrayLike<number>;
  /** Number of blocks of each row of the merged batch. */
  readonly lengths: ArrayLike<number>;
  /** Number of blocks of the length target of each of the last rows. */
  readonly targetLengths: ArrayLike<number>;
}

/** Random streams; `step` of the source is the training step. */
const STREAM = { level: 1, timeT: 2, flowT: 3, dropped: 4, lengths: 5, targetLengths: 6 } as const;

/** The draws of training step `step` (0-based): a pure function of the seed and the step. */
export function drawStep(model: ModelConfig, train: TrainConfig, step: number): Draws {
  const { timePairs, flowRows, lengthRows } = batchShares(train, model);
  const from = (stream: number) => ({ seed: train.seed, stream: TRAIN_STREAM + stream, step });
  const levels = integers(from(STREAM.level), Math.log2(train.finest), timePairs);
  const u = uniforms(from(STREAM.timeT), timePairs);
  const allowed = allowedLengths(model);
  const choose = (stream: number, count: number) =>
    Array.from(integers(from(stream), allowed.length, count), (i) => allowed[i]!);
  return {
    levels,
    timeT: Float32Array.from(levels, (d, i) => Math.floor(u[i]! * 2 ** d) / 2 ** d),
    flowT: Float32Array.from(integers(from(STREAM.flowT), train.finest, flowRows), (i) => i / train.finest),
    dropped: Uint8Array.from(uniforms(from(STREAM.dropped), flowRows), (x) => Number(x < train.classDropout)),
    lengths: choose(STREAM.lengths, train.batch),
    targetLengths: choose(STREAM.targetLengths, lengthRows),
  };
}

const TRAIN_STREAM = 0x74726100;

/** Inputs of one forward pass over some rows. */
export interface RowInputs {
  /** Picture (and noise) that each row is made of. */
  readonly source: Uint32Array;
  readonly t: Float32Array;
  /** log2 of the number of steps. */
  readonly step: Float32Array;
  readonly labels: Uint32Array;
}

export interface Batch {
  /** The rows that are trained, longest first. */
  readonly main: RowInputs & { readonly lengths: Uint32Array; readonly rows: number[] };
  /** Position after sorting of each row of the reference's order. */
  readonly position: Uint32Array;
  /** The time pairs: first half step of size h at (t, step + 1), the second at t + h; `targets` are rows of main. */
  readonly time: RowInputs & {
    readonly h: Float32Array;
    readonly later: Float32Array;
    readonly targets: Uint32Array[];
  };
  /** The rows whose target is the velocity at another length, longest first; `targets` are rows of main. */
  readonly length: Omit<RowInputs, 'source'> & {
    readonly targets: Uint32Array;
    readonly lengths: Uint32Array;
    readonly rows: number[];
  };
}

/** Merges and sorts the rows of a step. `labels` [batch] are the pictures' own (Algorithm 1; parity/README, traps 1 to 4). */
export function assembleBatch(model: ModelConfig, train: TrainConfig, labels: ArrayLike<number>, draws: Draws): Batch {
  const { timePairs, timeRows, flowRows, lengthRows } = batchShares(train, model);
  const finestLevel = Math.log2(train.finest);
  const none = model.classes;
  const label = (i: number) => (train.guidance ? labels[i]! : none);
  const level = (d: number) => (model.ignoreDt ? 0 : d);

  // With distilled guidance every time pair fills two rows: one with the plain target, one with the guided.
  const time = Array.from({ length: timeRows }, (_, r) => {
    const pair = r % Math.max(1, timePairs);
    return { source: pair, t: draws.timeT[pair]!, step: level(draws.levels[pair]!), label: label(pair) };
  });
  const flow = Array.from({ length: flowRows }, (_, r) => ({
    source: r,
    t: draws.flowT[r]!,
    step: level(finestLevel),
    label: draws.dropped[r] ? none : label(r),
  }));
  const merged = [...time, ...flow].map((row, r) => ({
    ...row,
    r,
    length: model.lengths ? draws.lengths[r]! : model.depth,
  }));
  const sorted = [...merged].sort((a, b) => b.length - a.length || a.r - b.r);
  const position = new Uint32Array(train.batch);
  sorted.forEach((row, at) => {
    position[row.r] = at;
  });

  const targets = merged
    .slice(train.batch - lengthRows)
    .map((row, j) => ({ ...row, length: draws.targetLengths[j]! }))
    .sort((a, b) => b.length - a.length || a.r - b.r);
  const pairs = time.slice(0, timePairs);
  const h = Float32Array.from(pairs, (_, i) => 2 ** -(draws.levels[i]! + 1));
  return {
    position,
    main: {
      ...columns(sorted),
      lengths: Uint32Array.from(sorted, (s) => s.length),
      rows: rowsPerGroup(
        model,
        sorted.map((s) => s.length),
      ),
    },
    time: {
      ...columns(pairs),
      step: Float32Array.from(pairs, (_, i) => level(draws.levels[i]! + 1)),
      h,
      later: Float32Array.from(pairs, (p, i) => p.t + h[i]!),
      targets: [position.slice(0, timePairs), position.slice(timePairs, timeRows)],
    },
    length: {
      ...columns(targets),
      targets: Uint32Array.from(targets, (s) => position[s.r]!),
      lengths: Uint32Array.from(targets, (s) => s.length),
      rows: rowsPerGroup(
        model,
        targets.map((s) => s.length),
      ),
    },
  };
}

const columns = (rows: readonly { source: number; t: number; step: number; label: number }[]): RowInputs => ({
  source: Uint32Array.from(rows, (s) => s.source),
  t: Float32Array.from(rows, (s) => s.t),
  step: Float32Array.from(rows, (s) => s.step),
  labels: Uint32Array.from(rows, (s) => s.label),
});

/** Share of the block evaluations, forward and backward, that sorting by length spares against running every block for all. */
export function skippedShare(model: ModelConfig, lengths: ArrayLike<number>): number {
  if (!model.lengths) return 0;
  const { group } = model.lengths;
  const run = rowsPerGroup(model, Array.from(lengths)).reduce((sum, rows) => sum + rows * group, 0);
  return 1 - run / (model.depth * lengths.length);
}
