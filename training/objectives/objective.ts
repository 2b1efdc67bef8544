/**
 * What an objective is: what it draws for a batch on the host, the rows that it makes of the draws, the GPU inputs that its targets
 * need, and the part of the training step that makes points and targets. One file per objective; `registry.ts` lists them.
 */
import type { Context } from '../../engine/context.ts';
import { integers, type RandomSource, uniforms } from '../../engine/philox.ts';
import type { ScalarValues } from '../../engine/scalar.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { groupsOf, type Model, velocity } from '../../model/dit.ts';
import type { BatchShares, TrainConfig } from '../config.ts';

/** Random streams of a batch's draws. */
export const STREAM = { level: 1, timeT: 2, flowT: 3, dropped: 4, lengths: 5, targetLengths: 6, fraction: 7 } as const;

/** What an objective draws, in the reference's order of rows: those with consistency targets, then flow rows. */
export interface TargetDraws {
  /** Step level and time of each consistency target. */
  readonly levels: ArrayLike<number>;
  readonly timeT: ArrayLike<number>;
  /** Where each consistency target's interval is split, as a share of it; only for splitmeanflow. */
  readonly fractions?: ArrayLike<number>;
  /** Time of each flow row. */
  readonly flowT: ArrayLike<number>;
  /** 1 where a flow row loses its label. */
  readonly dropped: ArrayLike<number>;
}

export interface DrawRequest {
  readonly train: TrainConfig;
  readonly shares: BatchShares;
  /** Number of the update, from 0. */
  readonly update: number;
  /** The source of a stream's random numbers for this batch. */
  readonly from: (stream: number) => RandomSource;
}

/** One row of a batch. */
export interface Row {
  /** Picture, and noise, that it is made of. */
  readonly source: number;
  readonly t: number;
  /** log2 of the number of steps. */
  readonly level: number;
  readonly label: number;
}

export interface RowRequest {
  readonly train: TrainConfig;
  readonly shares: BatchShares;
  readonly draws: TargetDraws;
  /** Label of a picture, as it is trained; `none`: "no class". */
  readonly label: (source: number) => number;
  readonly none: number;
}

export interface InputRequest extends RowRequest {
  /** The rows in the reference's order, and as they are run (longest first), and each one's place there. */
  readonly rows: readonly Row[];
  readonly sorted: readonly Row[];
  readonly position: Uint32Array;
  /** What the network is told of a level: 0 where it ignores it. */
  readonly told: (level: number) => number;
  /** Blocks of targets with all blocks: the most that rows learn, too. */
  readonly full: number;
}

/** An objective's own GPU inputs by name; their types and lengths are the same for every batch of a configuration. */
export type OwnInputs = Readonly<Record<string, Float32Array | Uint32Array>>;

export interface RecordRequest {
  readonly train: TrainConfig;
  readonly shares: BatchShares;
  /** The rows that are trained, longest first: source [B], t [B], step [B], labels [B]. */
  readonly main: Readonly<Record<'source' | 't' | 'step' | 'labels', Tensor>>;
  readonly own: Readonly<Record<string, Tensor>>;
  /** The weights as they are, their moving average, whichever of them `targetsFromEma` names, and the teacher if there is one. */
  readonly raw: Model;
  readonly average: Model;
  readonly chosen: Model;
  readonly teacher: Model | null;
  /** The straight path of pictures and noise `source` at times t: (1 - (1 - sigma) t) x0 + t x1, and x1 - (1 - sigma) x0. */
  readonly path: (source: Tensor, t: Tensor, sigma?: number) => { xt: Tensor; v: Tensor };
  /** Noise x0 of rows `source` [R]. */
  readonly noise: (source: Tensor) => Tensor;
}

export interface Objective {
  draw(request: DrawRequest): TargetDraws;
  /** All rows of a batch in the reference's order: consistency rows, then flow rows. */
  rows(request: RowRequest): Row[];
  /** The objective's own inputs for a batch. */
  inputs?(request: InputRequest): OwnInputs;
  /** Scalars of an update, beside those of the step. */
  scalars?(train: TrainConfig, update: number): ScalarValues;
  /** Records points and targets [B, H, W, C] of the main rows. Weights are read in inference mode, outside any tape. */
  record(ctx: Context, request: RecordRequest): { xt: Tensor; target: Tensor };
}

/** sigma of the paths that end with a trace of noise, as the reference has it. */
export const SIGMA_MIN = 1e-5;

/** Beyond this the reference cuts off the points that a teacher's step leads to. */
export const BOUND = 4;

export const finestLevel = ({ finest }: TrainConfig): number => Math.log2(finest);

/** Times of the flow rows: on the finest grid, or anywhere in [0, 1). */
export function flowTimes({ train, shares, from }: DrawRequest): Float32Array {
  const { flowRows } = shares;
  if (train.timeSampling === 'continuous') return uniforms(from(STREAM.flowT), flowRows);
  return Float32Array.from(integers(from(STREAM.flowT), train.finest, flowRows), (i) => i / train.finest);
}

/** Which flow rows lose their label. */
export const labelDrops = ({ train, shares, from }: DrawRequest): Uint8Array =>
  Uint8Array.from(uniforms(from(STREAM.dropped), shares.flowRows), (x) => Number(x < train.classDropout));

/** Flow rows: rows 0, 1, ... of the pictures at the drawn times and the finest level, their labels dropped as drawn. */
export const flowRows = ({ train, shares, draws, label, none }: RowRequest): Row[] =>
  Array.from({ length: shares.flowRows }, (_, r) => ({
    source: r,
    t: draws.flowT[r]!,
    level: finestLevel(train),
    label: draws.dropped[r] ? none : label(r),
  }));

/** Rows that all have a consistency target, with their labels: picture r at its drawn time and level. */
export const consistencyRows = ({ train, draws, label }: RowRequest): Row[] =>
  Array.from({ length: train.batch }, (_, r) => ({
    source: r,
    t: draws.timeT[r]!,
    level: draws.levels[r]!,
    label: label(r),
  }));

/** Draws of one level for the whole batch, and times on its grid of 2^level sections. */
export function levelDraws({ train, from }: DrawRequest, level: number): TargetDraws {
  const sections = 2 ** level;
  return {
    levels: new Array<number>(train.batch).fill(level),
    timeT: Float32Array.from(integers(from(STREAM.timeT), sections, train.batch), (i) => i / sections),
    flowT: [],
    dropped: [],
  };
}

/** `value` for `count` rows. */
export const filled = (count: number, value: number): Float32Array => new Float32Array(count).fill(value);
export const filledIntegers = (count: number, value: number): Uint32Array => new Uint32Array(count).fill(value);

/** The velocity of a model with all the blocks that it ever runs; `full` [R] u32: that number for each of the rows. */
export function evaluate(
  ctx: Context,
  name: string,
  model: Model,
  inputs: { x: Tensor; t: Tensor; step: Tensor; labels: Tensor },
  full: Tensor,
): Tensor {
  const rows = inputs.t.shape[0];
  const depth = model.config.lengths ? { lengths: full, rows: groupsOf(model.config).map(() => rows) } : undefined;
  return ctx.scope(name, () => velocity(ctx, model, inputs, depth));
}
