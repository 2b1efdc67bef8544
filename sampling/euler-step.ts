/** What one Euler step dispatches, shared by whole-model and streamed sampling: inputs, guidance, update. */
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { type Scalar, scalarInput, times } from '../engine/scalar.ts';
import { reshaped, type Tensor } from '../engine/tensor.ts';
import { euler, guide } from '../kernels/flow.ts';
import { gatherRows } from '../kernels/gather.ts';
import type { Modulations } from '../model/condition.ts';
import { modulationsOf } from '../model/condition.ts';
import type { Model } from '../model/dit.ts';

/** Persistent inputs for up to `batch` samples; guided sampling evaluates twice as many rows, "no class" first. */
export interface StepInputs {
  /** [batch, H, W, C]: the samples under way. */
  readonly x: Tensor;
  /** [2 batch]: the condition of every row, and its row in tables computed ahead. */
  readonly t: Tensor;
  readonly step: Tensor;
  readonly labels: Tensor;
  readonly lengths: Tensor;
  readonly indices: Tensor;
  /** [batch]: numbers of the samples, for their noise. */
  readonly numbers: Tensor;
  /** Rows of x twice over [2 batch], and the rows of its second half [batch]. */
  readonly twice: Tensor;
  readonly second: Tensor;
}

export function createInputs(engine: Engine, { config }: Model, batch: number): StepInputs {
  const { imageSize, channels } = config;
  const f32 = (label: string) => engine.tensor(label, [2 * batch]);
  const u32 = (label: string, size: number) => engine.tensor(label, [size], { dtype: 'u32' });
  return engine.memory.allOrNothing(() => ({
    x: engine.tensor('x', [batch, imageSize, imageSize, channels]),
    t: f32('t'),
    step: f32('step'),
    labels: u32('labels', 2 * batch),
    lengths: u32('lengths', 2 * batch),
    indices: u32('indices', 2 * batch),
    numbers: u32('numbers', batch),
    twice: u32('twice', 2 * batch),
    second: u32('second', batch),
  }));
}

/** Scalars of a step program, given at every run: samples, step size, guidance weight. */
export interface StepScalars {
  readonly rows: number;
  readonly h: number;
  readonly guidance: number;
}

/** How many rows are evaluated for `rows` samples. */
export function evaluatedRows(batch: number, guided: boolean): { rows: Scalar; all: Scalar } {
  const rows = scalarInput('rows', batch);
  return { rows, all: guided ? times(rows, 2) : rows };
}

/** The leading `rows` rows of a tensor. */
export const first = (x: Tensor, rows: Scalar): Tensor => reshaped(x, [rows, ...(x.shape.slice(1) as number[])]);

/** Images that the network sees: x, or x twice over where guided. */
export function evaluatedImages(ctx: Context, inputs: StepInputs, batch: number, guided: boolean): Tensor {
  const { rows, all } = evaluatedRows(batch, guided);
  const x = first(inputs.x, rows);
  return guided ? gatherRows(ctx, x, first(inputs.twice, all)) : x;
}

/** Modulations that were computed before. */
export interface ModulationSource {
  /** Those of the samples whose rows are `indices` [B] u32. */
  modulations(ctx: Context, indices: Tensor): Modulations;
}

/** Modulations of the rows: from the tables, or computed on the spot. */
export function stepModulations(
  ctx: Context,
  model: Model,
  inputs: StepInputs,
  all: Scalar,
  tables: ModulationSource | null,
): Modulations {
  if (tables) return tables.modulations(ctx, first(inputs.indices, all));
  const conditions = { t: first(inputs.t, all), step: first(inputs.step, all), labels: first(inputs.labels, all) };
  return modulationsOf(ctx, model.weights, conditions, model.config.lengths ? first(inputs.lengths, all) : undefined);
}

/** x += h v, with v = v_u + w (v_c - v_u) where guided. */
export function applyVelocity(ctx: Context, inputs: StepInputs, v: Tensor, batch: number, guided: boolean): void {
  const { rows } = evaluatedRows(batch, guided);
  const x = first(inputs.x, rows);
  const h = scalarInput('h');
  if (guided) {
    const conditional = gatherRows(ctx, v, first(inputs.second, rows));
    v = guide(ctx, ctx.prefix(v, rows), conditional, scalarInput('guidance'));
  }
  euler(ctx, x, v, h);
}
