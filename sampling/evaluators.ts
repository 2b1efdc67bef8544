/** Compiled ways to evaluate the network: the whole model as one program, or block by block; made at first use and kept. */
import type { Engine } from '../engine/engine.ts';
import type { Arena } from '../engine/memory/arena.ts';
import type { Plan as MemoryPlan } from '../engine/memory/planner.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { modulatedVelocity, rowsPerGroup } from '../model/dit.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import {
  applyVelocity,
  type EvaluationInputs,
  type EvaluationScalars,
  evaluatedPoint,
  evaluatedRows,
  first,
  rowModulations,
  type StageStore,
} from './evaluation.ts';
import type { ModulationTables } from './modulation-tables.ts';
import { type Late, type Variant, variantKey } from './schedule.ts';

/** What decides how an evaluation is compiled. */
export interface Way extends Variant {
  /** Most samples of one run. */
  readonly batch: number;
  readonly tables: ModulationTables | null;
  /** Where velocities go; null: straight into an Euler step. */
  readonly stages: StageStore | null;
  /** [2 batch where guided, T, D]: what late blocks add; where the variant has some. */
  readonly lateSum: Tensor | null;
  /** Present where blocks are streamed, with `tables`. */
  readonly residentBlocks?: number;
}

export interface Evaluator {
  run(scalars: EvaluationScalars, signal?: AbortSignal): Promise<void>;
  /** Evaluations that may be submitted before the one before them is done: one keeps the GPU busy while the host encodes. */
  readonly ahead: number;
  dispose(): void;
  readonly program?: Program;
  /** Of its programs, in the order that they run in. */
  readonly plans: readonly MemoryPlan[];
}

/** What evaluators are compiled for and with. */
export interface Compiling {
  readonly engine: Engine;
  readonly model: ResidentModel;
  readonly inputs: EvaluationInputs;
  readonly arena: Arena;
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

export class Evaluators {
  readonly #with: Compiling;
  readonly #known = new Map<string, { readonly way: Way; readonly evaluator: Evaluator }>();

  constructor(compiling: Compiling) {
    this.#with = compiling;
  }

  /** The evaluator of this way, compiled if it is new. */
  async get(way: Way, signal: AbortSignal | undefined): Promise<Evaluator> {
    const { tables, stages, residentBlocks } = way;
    const how = residentBlocks ? `${residentBlocks} resident` : tables ? 'ahead' : 'inline';
    const key = `${variantKey(way)}/${how}/${stages ? 'keeping' : 'at once'}`;
    const known = this.#known.get(key);
    if (known) return known.evaluator;
    const made = await (residentBlocks ? this.#streamed(way, residentBlocks, signal) : this.#whole(way, signal));
    this.#known.set(key, { way, evaluator: made });
    return made;
  }

  /** One that has been used with this number of blocks, guided or not, whose late blocks are kept, reused or no others than the rest. */
  find(blocks: number, guided: boolean, late?: Late['how']): Evaluator | undefined {
    const is = (way: Way) => way.blocks === blocks && way.guided === guided && way.late?.how === late;
    return this.#matching(is)[0]?.[1].evaluator;
  }

  /** Frees those that were compiled for such ways. */
  clear(which: (way: Way) => boolean): void {
    for (const [key, { evaluator }] of this.#matching(which)) {
      evaluator.dispose();
      this.#known.delete(key);
    }
  }

  #matching(which: (way: Way) => boolean) {
    return [...this.#known].filter(([, { way }]) => which(way));
  }

  async #whole(way: Way, signal: AbortSignal | undefined): Promise<Evaluator> {
    const { engine, model, inputs, arena, onCompile } = this.#with;
    const { config } = model;
    const { blocks, guided, late, batch, tables, stages, lateSum } = way;
    const { all } = evaluatedRows(batch, guided);
    const groupsIn = (length: number) => rowsPerGroup(config, [length]).filter((n) => n > 0);
    const groups = groupsIn(late?.how === 'reused' ? late.after : blocks);
    const lateGroups =
      late && lateSum ? { how: late.how, from: groupsIn(late.after).length, sum: first(lateSum, all) } : undefined;
    const name = `sample L=${blocks}${guided ? ' guided' : ''}${late ? ` ${late.how}` : ''}`;
    const { recording } = record(engine, name, (ctx) => {
      const point = evaluatedPoint(ctx, inputs, batch, guided);
      const modulations = rowModulations(ctx, model, inputs, all, tables);
      const rows = config.lengths ? groups.map(() => all) : undefined;
      const v = modulatedVelocity(ctx, model, point, modulations, rows, { late: lateGroups });
      applyVelocity(ctx, inputs, v, batch, guided, stages);
    });
    const program = await Program.compile(engine, recording, { arena, signal, onProgress: onCompile });
    return {
      program,
      plans: [program.plan],
      run: async (scalars) => program.run({ ...scalars }),
      ahead: 1,
      dispose: () => program.dispose(),
    };
  }

  async #streamed(way: Way, resident: number, signal: AbortSignal | undefined): Promise<Evaluator> {
    const { engine, model, inputs, arena } = this.#with;
    const { blocks: length, batch, guided, stages } = way;
    const options = { length, resident, batch, guided, stages, signal };
    const { StreamedEvaluation } = await import('./on-request.ts');
    const evaluation = await StreamedEvaluation.create(engine, model, inputs, way.tables!, arena, options);
    // Its weights pass through memory that the evaluation before still reads: it waits for itself.
    return {
      plans: evaluation.plans,
      run: (scalars, s) => evaluation.run(scalars, s),
      ahead: 0,
      dispose: () => evaluation.dispose(),
    };
  }
}
