/**
 * What a sampler keeps on the GPU besides weights: tables of modulations, what a solver keeps, what late blocks add, and the evaluators
 * compiled with them. Before one of them is freed, the evaluators that use it are.
 */
import type { Engine } from '../engine/engine.ts';
import { OutOfMemoryError } from '../engine/errors.ts';
import { Arena } from '../engine/memory/arena.ts';
import type { Tensor } from '../engine/tensor.ts';
import { createInputs, createLateSum, type EvaluationInputs } from './evaluation.ts';
import { type Compiling, Evaluators } from './evaluators.ts';
import type { ConditionRows, ModulationTables } from './modulation-tables.ts';
import { Noise } from './noise.ts';
import { type Condition, conditionKey } from './schedule.ts';
import type { Stages } from './solvers/stages.ts';

/** What a solver keeps: velocities of `slots` stages for up to `batch` samples; `norms`: whether errors will be asked for. */
export interface StagesNeeded {
  readonly slots: number;
  readonly batch: number;
  readonly norms: boolean;
}

export class Workspace {
  readonly inputs: EvaluationInputs;
  readonly evaluators: Evaluators;
  readonly noise: Noise;
  readonly #engine: Engine;
  readonly #model: Compiling['model'];
  readonly #arena: Arena;
  #tables: ModulationTables | null = null;
  /** Conditions in the order of the tables' rows, `labels` rows each. */
  #rows: { readonly of: ReadonlyMap<string, number>; readonly labels: number } = { of: new Map(), labels: 0 };
  #stages: { readonly key: string; readonly made: Stages } | null = null;
  #lateSum: Tensor | null = null;

  /** For up to `batch` samples. */
  constructor({ engine, model, onCompile }: Pick<Compiling, 'engine' | 'model' | 'onCompile'>, batch: number) {
    this.#engine = engine;
    this.#model = model;
    this.#arena = new Arena(engine, 'sampling');
    this.inputs = createInputs(engine, model, batch);
    this.noise = new Noise(engine, this.#arena, this.inputs);
    this.evaluators = new Evaluators({ engine, model, inputs: this.inputs, arena: this.#arena, onCompile });
  }

  get tables(): ModulationTables | null {
    return this.#tables;
  }

  get stages(): Stages | null {
    return this.#stages?.made ?? null;
  }

  /** What late blocks add [rows, T, D], where they are evaluated in some steps only. */
  get lateSum(): Tensor | null {
    return this.#lateSum;
  }

  /** Frees what of an earlier request's does not suit these stages and rows of late blocks (0: none). */
  release(stages: StagesNeeded, lateRows: number): void {
    if (this.#stages?.key !== stagesKey(stages)) this.#forgetStages();
    if (this.#lateSum?.shape[0] !== lateRows) this.#forgetLate();
  }

  /** Makes these stages and rows of late blocks, where they are not there. */
  async provide(stages: StagesNeeded, lateRows: number): Promise<void> {
    if (stages.slots > 0 && !this.#stages) {
      const { Stages } = await import('./on-request.ts');
      const made = await Stages.create(this.#engine, this.#arena, this.inputs.x, stages);
      this.#stages = { key: stagesKey(stages), made };
    }
    if (lateRows > 0) this.#lateSum ??= createLateSum(this.#engine, this.#model, lateRows);
  }

  /** Fills the tables for these conditions, labels and step level, made anew where they are too small; `told`: what time t is to the model. */
  async tabulate(
    conditions: readonly Condition[],
    labels: readonly number[],
    { level, told, signal }: { level: ConditionRows['level']; told: (t: number) => number; signal?: AbortSignal },
  ): Promise<void> {
    const cells = conditions.flatMap((condition) => labels.map((label) => ({ ...condition, label })));
    if (!this.#tables || this.#tables.capacity < cells.length) {
      this.#forgetTables();
      const { ModulationTables } = await import('./on-request.ts');
      this.#tables = new ModulationTables(this.#engine, this.#model, this.#arena, cells.length);
    }
    const rows: ConditionRows = {
      t: Float32Array.from(cells, ({ t }) => told(t)),
      labels: Uint32Array.from(cells, ({ label }) => label),
      lengths: Uint32Array.from(cells, ({ blocks }) => blocks),
      level,
    };
    this.#rows = { of: new Map(conditions.map((c, row) => [conditionKey(c), row])), labels: labels.length };
    try {
      await this.#tables.fill(rows, signal);
    } catch (error) {
      // Some of them may never have been made.
      if (error instanceof OutOfMemoryError) this.#forgetTables();
      throw error;
    }
  }

  /** The first of the tables' rows for a condition: that of the first label. */
  rowOf(condition: Condition): number {
    return this.#rows.of.get(conditionKey(condition))! * this.#rows.labels;
  }

  dispose(): void {
    this.#forgetTables();
    this.#forgetStages();
    this.#forgetLate();
    this.noise.dispose();
    this.#arena.dispose();
    for (const t of Object.values(this.inputs)) this.#engine.release(t);
  }

  /** All evaluators may use the tables. */
  #forgetTables(): void {
    this.evaluators.clear(() => true);
    this.#tables?.dispose();
    this.#tables = null;
  }

  #forgetLate(): void {
    if (!this.#lateSum) return;
    this.evaluators.clear(({ lateSum }) => lateSum !== null);
    this.#engine.release(this.#lateSum);
    this.#lateSum = null;
  }

  #forgetStages(): void {
    if (!this.#stages) return;
    this.evaluators.clear(({ stages }) => stages !== null);
    this.#stages.made.dispose();
    this.#stages = null;
  }
}

const stagesKey = ({ slots, batch, norms }: StagesNeeded): string => `${slots}/${batch}/${norms}`;
