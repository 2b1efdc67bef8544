/**
 * What one evaluation of the network dispatches, shared by whole-model and streamed sampling: inputs, guidance, and what becomes of
 * the velocity, an Euler step at once or a stage that a solver keeps.
 */
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { type Scalar, scalarInput, times } from '../engine/scalar.ts';
import { reshaped, type Tensor } from '../engine/tensor.ts';
import { euler, eulerEach, guide, velocityToward } from '../kernels/flow.ts';
import { gatherRows } from '../kernels/gather.ts';
import type { Modulations } from '../model/condition.ts';
import { modulationsOf } from '../model/condition.ts';
import { tokenCount } from '../model/config.ts';
import type { DiffusionPoint } from '../model/diffusion.ts';
import type { Model, Point } from '../model/dit.ts';

/** Persistent inputs for up to `batch` samples; guided sampling evaluates twice as many rows, "no class" first. */
export interface EvaluationInputs {
  /** [batch, H, W, C]: where the velocity is asked for; between steps, the samples under way. */
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
  /**
   * Of a model that predicts noise (model/diffusion.ts), [batch]: the network's input is x + shrink x, and its velocity is
   * (x - noise) / (1 - left).
   */
  readonly shrink?: Tensor;
  readonly left?: Tensor;
}

export function createInputs(engine: Engine, { config }: Model, batch: number): EvaluationInputs {
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
    ...(config.predicts === 'noise'
      ? { shrink: engine.tensor('shrink', [batch]), left: engine.tensor('left', [batch]) }
      : {}),
  }));
}

/** Where the sum of what late blocks add is kept for up to `rows` rows [rows, T, D], stored as the features are. */
export function createLateSum(engine: Engine, { config, activations }: Model, rows: number): Tensor {
  const shape: [number, number, number] = [rows, tokenCount(config), config.width];
  return engine.tensor('late', shape, { kind: 'activations', dtype: activations });
}

/** Writes the time that all rows of a batch are told, and, of a `diffusion`, what leads there from the straight path. */
export function writeTime(
  engine: Engine,
  { t, shrink, left }: EvaluationInputs,
  time: number,
  diffusion: DiffusionPoint | null,
): void {
  const fill = (tensor: Tensor, value: number) =>
    engine.write(tensor, new Float32Array(tensor.shape[0] as number).fill(value));
  fill(t, diffusion?.told ?? time);
  if (!diffusion) return;
  fill(shrink!, diffusion.scale - 1);
  fill(left!, 1 - diffusion.t);
}

/** Writes what the rows of a batch are told and does not change with time: labels as `asked` (twice as many as `rows` where guided). */
export function writeConditions(
  engine: Engine,
  { step, labels, lengths, twice, second }: EvaluationInputs,
  { asked, rows, blocks, level }: { asked: readonly number[]; rows: number; blocks: number; level: number },
): void {
  const capacity = step.shape[0] as number;
  engine.write(labels, Uint32Array.from(asked));
  engine.write(step, new Float32Array(capacity).fill(level));
  engine.write(lengths, new Uint32Array(capacity).fill(blocks));
  engine.write(
    twice,
    Uint32Array.from({ length: 2 * rows }, (_, i) => i % rows),
  );
  engine.write(
    second,
    Uint32Array.from({ length: rows }, (_, i) => rows + i),
  );
}

/** Scalars of an evaluation's program, given at every run: samples, guidance weight, and what becomes of the velocity. */
export type EvaluationScalars = Sink & { readonly rows: number; readonly guidance: number };

/** Where a solver keeps velocities (solvers/stages.ts, which is loaded when a solver needs it). */
export interface StageStore {
  /** Records: slot `slot` = v. */
  store(ctx: Context, v: Tensor, slot: Scalar): void;
}

/** What becomes of a velocity: x += h v, or slot `slot` of the solver's stages = v. */
export type Sink = { readonly h: number } | { readonly slot: number };

/** How many rows are evaluated for `rows` samples. */
export function evaluatedRows(batch: number, guided: boolean): { rows: Scalar; all: Scalar } {
  const rows = scalarInput('rows', batch);
  return { rows, all: guided ? times(rows, 2) : rows };
}

/** The leading `rows` rows of a tensor. */
export const first = (x: Tensor, rows: Scalar): Tensor => reshaped(x, [rows, ...(x.shape.slice(1) as number[])]);

/** Images that the network sees: x (scaled, of a diffusion), or that twice over where guided. */
export function evaluatedImages(ctx: Context, inputs: EvaluationInputs, batch: number, guided: boolean): Tensor {
  const { rows, all } = evaluatedRows(batch, guided);
  const asked = first(inputs.x, rows);
  const x = inputs.shrink ? eulerEach(ctx, asked, asked, first(inputs.shrink, rows)) : asked;
  return guided ? gatherRows(ctx, x, first(inputs.twice, all)) : x;
}

/** The points that the network sees: `evaluatedImages`, each at its row's time. */
export function evaluatedPoint(ctx: Context, inputs: EvaluationInputs, batch: number, guided: boolean): Point {
  const { all } = evaluatedRows(batch, guided);
  return { x: evaluatedImages(ctx, inputs, batch, guided), t: first(inputs.t, all) };
}

/** Modulations that were computed before. */
export interface ModulationSource {
  /** Those of the samples whose rows are `indices` [B] u32. */
  modulations(ctx: Context, indices: Tensor): Modulations;
}

/** Modulations of the rows: from the tables, or computed on the spot. */
export function rowModulations(
  ctx: Context,
  model: Model,
  inputs: EvaluationInputs,
  all: Scalar,
  tables: ModulationSource | null,
): Modulations {
  if (tables) return tables.modulations(ctx, first(inputs.indices, all));
  const conditions = { t: first(inputs.t, all), step: first(inputs.step, all), labels: first(inputs.labels, all) };
  return modulationsOf(ctx, model, conditions, model.config.lengths ? first(inputs.lengths, all) : undefined);
}

/**
 * v = v_u + w (v_c - v_u) where guided, made of noise that was predicted where it is that; then x += h v, or, where there are `stages`,
 * one of them is v.
 */
export function applyVelocity(
  ctx: Context,
  inputs: EvaluationInputs,
  v: Tensor,
  batch: number,
  guided: boolean,
  stages: StageStore | null,
): void {
  const { rows } = evaluatedRows(batch, guided);
  if (guided) {
    const conditional = gatherRows(ctx, v, first(inputs.second, rows));
    v = guide(ctx, ctx.prefix(v, rows), conditional, scalarInput('guidance'));
  }
  // Guided noise gives the guided velocity, which is linear in it.
  if (inputs.left) v = velocityToward(ctx, v, first(inputs.x, rows), first(inputs.left, rows));
  if (stages) stages.store(ctx, v, scalarInput('slot'));
  else euler(ctx, first(inputs.x, rows), v, scalarInput('h'));
}
