/**
 * Which rows of a batch a process trains: all, or those of one rank among several. Everything random is drawn for the whole batch and
 * then dealt, so that ranks together do what one process does.
 *
 * Pictures are dealt in turn: rank r has pictures r, r + size, r + 2 size and so on. Rows follow their pictures: consistency rows and flow rows that
 * share a picture (shortcut, splitmeanflow, livereflow) stay together, as do the two rows of a pair with distilled guidance.
 * The order of rows is kept, so the rows with length targets, the last of the batch, are the last of each rank as well.
 */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import type { Draws } from './batch.ts';
import { type BatchShares, batchShares, type TrainConfig } from './config.ts';

/** The rows of one process. */
export interface Deal {
  /** The options, with the number of these rows as `batch`. */
  readonly train: TrainConfig;
  readonly shares: BatchShares;
  /** Their numbers in the reference's order of the whole batch, ascending. */
  readonly rows: Uint32Array;
  /** Numbers of the consistency targets, and of the flow rows among all flow rows. */
  readonly pairs: Uint32Array;
  readonly flows: Uint32Array;
  /** Numbers of the pictures that these rows are made of, in the whole batch; at most as many as rows. */
  readonly pictures: Uint32Array;
  /** Rows of the whole batch. */
  readonly whole: number;
}

/** 0 .. count - 1 of which `rank` gets every `size`-th. */
const inTurn = (count: number, rank: number, size: number): Uint32Array =>
  Uint32Array.from({ length: Math.max(0, Math.ceil((count - rank) / size)) }, (_, i) => rank + i * size);

/** Deals the rows of a batch. @throws ConfigError where a rank would have none. */
export function dealRows(train: TrainConfig, model: ModelConfig, { rank = 0, size = 1 } = {}): Deal {
  const all = batchShares(train, model);
  const of = (r: number) => ({ pairs: inTurn(all.timePairs, r, size), flows: inTurn(all.flowRows, r, size) });
  const last = of(size - 1);
  if (last.pairs.length + last.flows.length === 0) {
    const most = Math.max(all.timePairs, all.flowRows);
    throw new ConfigError(`training.batch is ${train.batch}; ${size} processes share it, and ${most} at most can`, {
      hint: 'training.batch is that of all processes together: give a larger one, or start fewer processes',
    });
  }
  const { pairs, flows } = of(rank);
  const twice = all.timeRows > all.timePairs;
  const rows = Uint32Array.from([
    ...pairs,
    ...(twice ? pairs.map((pair) => all.timePairs + pair) : []),
    ...flows.map((flow) => all.timeRows + flow),
  ]);
  const shares: BatchShares = {
    timePairs: pairs.length,
    timeRows: pairs.length * (twice ? 2 : 1),
    flowRows: flows.length,
    lengthRows: rows.filter((row) => row >= train.batch - all.lengthRows).length,
  };
  const pictures = pairs.length > flows.length ? pairs : flows;
  return { train: { ...train, batch: rows.length }, shares, rows, pairs, flows, pictures, whole: train.batch };
}

/** The draws of a process' rows, of those of the whole batch. */
export function dealDraws(draws: Draws, { rows, pairs, flows, shares, whole }: Deal): Draws {
  const pick = (from: ArrayLike<number>, which: Uint32Array) => Array.from(which, (i) => from[i]!);
  const firstTarget = whole - draws.targetLengths.length;
  const targets = rows.subarray(rows.length - shares.lengthRows).map((row) => row - firstTarget);
  return {
    levels: pick(draws.levels, pairs),
    timeT: pick(draws.timeT, pairs),
    ...(draws.fractions ? { fractions: pick(draws.fractions, pairs) } : {}),
    flowT: pick(draws.flowT, flows),
    dropped: pick(draws.dropped, flows),
    lengths: pick(draws.lengths, rows),
    targetLengths: pick(draws.targetLengths, targets),
  };
}
