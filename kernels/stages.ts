/** Steps of Runge-Kutta methods from the velocities at their stages, which lie in the slots of one tensor. Not differentiable. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import { maxSize, rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import lib from './lib.wgsl';
import source from './stages.wgsl';

const kernel = defineKernel('stages', lib, source);
const constants = { WG: 64, EACH: 8 };

/** Most slots of a tensor of stages. */
const MOST_STAGES = 7;

/** What a sum over x [B, ...] and the slots of `stages` [slots, B at most, ...] counts: x times `own`, slot j times `slots[j]`. */
export interface StageSum {
  readonly x: Tensor;
  readonly stages: Tensor;
  readonly own: Scalar;
  readonly slots: readonly Scalar[];
}

/** Elements from one slot to the next. @throws UsageError where `like` is no row of slots that `stages` has. */
function strideOf(stages: Tensor, like: Tensor, slots: number): number {
  const stride = rowSize(stages);
  if (maxSize(like) > stride || slots > MOST_STAGES || slots * stride > maxSize(stages)) {
    throw new UsageError(`${slots} stages of ${shapeText(like)} do not fit ${shapeText(stages)}`);
  }
  return stride;
}

function sum(ctx: Context, entry: 'combine' | 'scaled', { x, stages, own, slots }: StageSum, more: Sum): void {
  const stride = strideOf(stages, x, slots.length);
  const coefficients = Object.fromEntries(Array.from({ length: MOST_STAGES }, (_, j) => [`c${j}`, slots[j] ?? 0]));
  ctx.dispatch({
    kernel,
    entry,
    constants,
    tensors: { x, stages, ...more.tensors },
    params: { size: sizeOf(x), stride, slot: 0, own, ...coefficients, tolerance: more.tolerance ?? 0 },
    grid: ceilDiv(sizeOf(x), constants.WG * constants.EACH),
  });
}

interface Sum {
  readonly tensors: Record<string, Tensor>;
  readonly tolerance?: Scalar;
}

/** result = own x + sum_j slots[j] k_j; slots that count nothing are not read. */
export function combineStages(ctx: Context, of: StageSum, result: Tensor): void {
  sum(ctx, 'combine', of, { tensors: { result } });
}

/** The same sum by what is tolerated of each element: tolerance (1 + max(|x|, |end|)). `end` is shaped like x. */
export function scaledStages(ctx: Context, of: StageSum, end: Tensor, tolerance: Scalar): Tensor {
  const result = ctx.empty('scaled', of.x.shape);
  sum(ctx, 'scaled', of, { tensors: { end, result }, tolerance });
  return result;
}

/** Slot `slot` of `stages` = v. */
export function storeStage(ctx: Context, v: Tensor, stages: Tensor, slot: Scalar): void {
  const none = Object.fromEntries(Array.from({ length: MOST_STAGES }, (_, j) => [`c${j}`, 0]));
  ctx.dispatch({
    kernel,
    entry: 'store',
    constants,
    tensors: { x: v, result: stages },
    params: { size: sizeOf(v), stride: strideOf(stages, v, 1), slot, own: 0, ...none, tolerance: 0 },
    grid: ceilDiv(sizeOf(v), constants.WG * constants.EACH),
  });
}

interface StagesCase {
  batch: number;
  row: number;
  slots: number[];
}

const OWN = 0.5;
const TOLERANCE = 0.25;
/** Rows that the slots hold beyond those in use. */
const SPARE = 1;

export const stagesContract = contract<StagesCase>({
  name: 'stages',
  cases: [
    { batch: 1, row: 1, slots: [2] },
    { batch: 3, row: 67, slots: [0.5, 0, -1.5] },
    { batch: 2, row: 530, slots: [1, -2, 3, 0, 0.25, -0.125, 7] },
  ],
  inputs: ({ batch, row, slots }) => ({
    x: { shape: [batch, row] },
    end: { shape: [batch, row] },
    // What does not count is not to be read.
    stages: {
      shape: [slots.length, batch + SPARE, row],
      fill: (i, normal) => (slots[Math.floor(i / ((batch + SPARE) * row))] === 0 ? Number.NaN : normal()),
    },
  }),
  run(ctx, { x, end, stages }, { slots }) {
    const of = { x: x!, stages: stages!, own: OWN, slots };
    const combined = ctx.empty('combined', x!.shape);
    combineStages(ctx, of, combined);
    const stored = ctx.empty('stored', [2, rowSize(x!) * (x!.shape[0] as number)]);
    storeStage(ctx, x!, stored, 1);
    storeStage(ctx, end!, stored, 0);
    return { combined, scaled: scaledStages(ctx, of, end!, TOLERANCE), stored };
  },
  reference({ x, end, stages }, { batch, row, slots }) {
    const stride = (batch + SPARE) * row;
    const total = (i: number) =>
      slots.reduce((sum, c, j) => (c === 0 ? sum : sum + c * stages![j * stride + i]!), OWN * x![i]!);
    const combined = x!.map((_, i) => total(i));
    const allowed = (i: number) => TOLERANCE * (1 + Math.max(Math.abs(x![i]!), Math.abs(end![i]!)));
    const stored = new Float64Array(2 * batch * row);
    stored.set(end!);
    stored.set(x!, batch * row);
    return {
      combined,
      scaled: combined.map((value, i) => value / allowed(i)),
      stored,
    };
  },
  differentiable: [],
  reduction: ({ slots }) => 2 * slots.length + 2,
  bench: {
    cases: [{ batch: 64, row: 4096, slots: [1, 2, 3, 4, 5, 6, 7] }],
    // Two sums of seven slots, one of them scaled, and two copies.
    cost: ({ batch, row, slots }) => ({
      flops: (4 * slots.length + 6) * batch * row,
      bytes: 4 * (2 * slots.length + 9) * batch * row,
    }),
  },
});
