/**
 * One training batch as plain arrays: what is drawn at random, and how the drawn rows become the network's inputs, sorted so that
 * samples with more blocks come first. No GPU here.
 */
import { integers } from '../engine/philox.ts';
import { allowedLengths, fullLength, type ModelConfig } from '../model/config.ts';
import { rowsPerGroup } from '../model/dit.ts';
import { batchShares, type TrainConfig } from './config.ts';
import { type OwnInputs, type Row, STREAM, type TargetDraws } from './objectives/objective.ts';
import { objectiveOf } from './objectives/registry.ts';

/** Every random number of a step but the noise x0. Rows are in the reference's order: consistency rows, then flow rows. */
export interface Draws extends TargetDraws {
  /** Number of blocks of each row of the merged batch. */
  readonly lengths: ArrayLike<number>;
  /** Number of blocks of the length target of each of the last rows. */
  readonly targetLengths: ArrayLike<number>;
}

/**
 * The draws of batch `step` (from 0, counted over the whole run): a pure function of the seed and that number. `update`: what objectives
 * that change over a run go by.
 */
export function drawStep(
  model: ModelConfig,
  train: TrainConfig,
  step: number,
  update = Math.floor(step / train.accumulate),
): Draws {
  const shares = batchShares(train, model);
  const from = (stream: number) => ({ seed: train.seed, stream: TRAIN_STREAM + stream, step });
  const allowed = allowedLengths(model);
  const choose = (stream: number, count: number) =>
    Array.from(integers(from(stream), allowed.length, count), (i) => allowed[i]!);
  return {
    ...objectiveOf(train.objective).draw({ train, shares, update, from }),
    lengths: choose(STREAM.lengths, train.batch),
    targetLengths:
      train.lengthTarget === 'full'
        ? new Array<number>(shares.lengthRows).fill(fullLength(model))
        : choose(STREAM.targetLengths, shares.lengthRows),
  };
}

const TRAIN_STREAM = 0x74726100;

/** Inputs of one forward pass over some rows. */
export interface RowInputs {
  /** Picture (and noise) that each row is made of. */
  readonly source: Uint32Array;
  readonly t: Float32Array;
  /** log2 of the number of steps, or 0 where the network is not to know. */
  readonly step: Float32Array;
  readonly labels: Uint32Array;
}

export interface Batch {
  /** The rows that are trained, longest first. */
  readonly main: RowInputs & {
    /** The step level of each row, also where the network is not told. */
    readonly levels: Float32Array;
    readonly lengths: Uint32Array;
    readonly rows: number[];
  };
  /** Position after sorting of each row of the reference's order. */
  readonly position: Uint32Array;
  /** What the objective's targets need besides. */
  readonly own: OwnInputs;
  /** The rows whose target is the velocity at another length, longest first; `targets` are rows of main. */
  readonly length: Omit<RowInputs, 'source'> & {
    readonly targets: Uint32Array;
    readonly lengths: Uint32Array;
    readonly rows: number[];
  };
}

/** Where each row of the reference's order stands when those with more blocks come first. */
export function sortedPlaces(lengths: ArrayLike<number>): Uint32Array {
  const rows = Array.from({ length: lengths.length }, (_, r) => r);
  const places = new Uint32Array(rows.length);
  rows
    .sort((a, b) => lengths[b]! - lengths[a]! || a - b)
    .forEach((row, at) => {
      places[row] = at;
    });
  return places;
}

/**
 * Merges and sorts the rows of a step. `labels` [batch] are the pictures' own (Algorithm 1). `shares`: how the batch is divided, where
 * it is part of a larger one (training/deal.ts).
 */
export function assembleBatch(
  model: ModelConfig,
  train: TrainConfig,
  labels: ArrayLike<number>,
  draws: Draws,
  shares = batchShares(train, model),
): Batch {
  const objective = objectiveOf(train.objective);
  const none = model.classes;
  const told = (level: number) => (model.ignoreDt ? 0 : level);
  const request = { train, shares, draws, none, label: (i: number) => (train.guidance ? labels[i]! : none) };
  const rows = objective.rows(request);
  const merged = rows.map((row, r) => ({ ...row, r, length: model.lengths ? draws.lengths[r]! : model.depth }));
  const position = sortedPlaces(merged.map(({ length }) => length));
  const sorted = [...merged];
  for (const row of merged) sorted[position[row.r]!] = row;
  const targets = merged
    .slice(train.batch - shares.lengthRows)
    .map((row, j) => ({ ...row, length: draws.targetLengths[j]! }))
    .sort((a, b) => b.length - a.length || a.r - b.r);
  return {
    position,
    own: objective.inputs?.({ ...request, rows, sorted, position, told, full: fullLength(model) }) ?? {},
    main: {
      ...columns(sorted, told),
      levels: Float32Array.from(sorted, (s) => s.level),
      lengths: Uint32Array.from(sorted, (s) => s.length),
      rows: rowsPerGroup(
        model,
        sorted.map((s) => s.length),
      ),
    },
    length: {
      ...columns(targets, told),
      targets: Uint32Array.from(targets, (s) => position[s.r]!),
      lengths: Uint32Array.from(targets, (s) => s.length),
      rows: rowsPerGroup(
        model,
        targets.map((s) => s.length),
      ),
    },
  };
}

const columns = (rows: readonly Row[], told: (level: number) => number): RowInputs => ({
  source: Uint32Array.from(rows, (s) => s.source),
  t: Float32Array.from(rows, (s) => s.t),
  step: Float32Array.from(rows, (s) => told(s.level)),
  labels: Uint32Array.from(rows, (s) => s.label),
});

/** Share of the block evaluations, forward and backward, that sorting by length spares against running every block for all. */
export function skippedShare(model: ModelConfig, lengths: ArrayLike<number>): number {
  if (!model.lengths) return 0;
  const { group } = model.lengths;
  const run = rowsPerGroup(model, Array.from(lengths)).reduce((sum, rows) => sum + rows * group, 0);
  return 1 - run / (model.depth * lengths.length);
}
