/**
 * Block streaming: any number of blocks with the weights of K on the GPU at a time. One program per block; a block's weights take
 * over the buffer of the one that ran K blocks before. The queue keeps its order, so an upload need not wait for the kernels before it:
 * while the GPU works on one block, the next is read and written.
 */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arena } from '../engine/memory/arena.ts';
import type { Plan } from '../engine/memory/planner.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { add, copyInto } from '../kernels/add.ts';
import { block } from '../model/block.ts';
import { tokenCount } from '../model/config.ts';
import { decode, embedPatches, groupsOf } from '../model/dit.ts';
import { groupIndices } from '../model/params.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import {
  applyVelocity,
  type EvaluationInputs,
  type EvaluationScalars,
  evaluatedImages,
  evaluatedPoint,
  evaluatedRows,
  first,
  rowModulations,
  type StageStore,
} from './evaluation.ts';
import type { ModulationTables } from './modulation-tables.ts';

/** How many blocks run, how many are on the GPU at a time, for how many samples, and what becomes of the velocity. */
interface StreamedOptions {
  readonly length: number;
  readonly resident: number;
  readonly batch: number;
  readonly guided: boolean;
  readonly stages: StageStore | null;
  readonly signal?: AbortSignal;
}

export class StreamedEvaluation {
  readonly #engine: Engine;
  readonly #model: ResidentModel;
  readonly #blocks: number;
  readonly #resident: number;
  readonly #programs: readonly Program[];
  /** Running state and accumulated velocity [rows, T, D] between programs. */
  readonly #state: { x: Tensor; v: Tensor };

  private constructor(
    engine: Engine,
    model: ResidentModel,
    blocks: number,
    resident: number,
    programs: readonly Program[],
    state: { x: Tensor; v: Tensor },
  ) {
    this.#engine = engine;
    this.#model = model;
    this.#blocks = blocks;
    this.#resident = resident;
    this.#programs = programs;
    this.#state = state;
  }

  /** Records and compiles the programs for `length` blocks with `resident` (at least 1) on the GPU at a time. */
  static async create(
    engine: Engine,
    model: ResidentModel,
    inputs: EvaluationInputs,
    tables: ModulationTables,
    arena: Arena,
    options: StreamedOptions,
  ): Promise<StreamedEvaluation> {
    const { config } = model;
    const { batch, guided, stages, signal } = options;
    const blocks = model.blocksFor(options.length);
    const { all } = evaluatedRows(batch, guided);
    const shape: [number, number, number] = [batch * (guided ? 2 : 1), tokenCount(config), config.width];
    const state = engine.memory.allOrNothing(() => ({
      x: engine.tensor('stream/x', shape, { kind: 'activations', dtype: model.activations }),
      v: engine.tensor('stream/v', shape, { kind: 'activations', dtype: model.activations }),
    }));
    const [x, v] = [first(state.x, all), first(state.v, all)];
    const programs: Program[] = [];
    const streamed = new StreamedEvaluation(engine, model, blocks, options.resident, programs, state);
    const compile = async (name: string, body: (ctx: Context) => void) => {
      programs.push(await Program.compile(engine, record(engine, name, body).recording, { arena, signal }));
    };
    try {
      const ends = new Set(groupsOf(config).map(({ last }) => last));
      await compile('stream/patches', (ctx) => {
        copyInto(ctx, embedPatches(ctx, model, evaluatedImages(ctx, inputs, batch, guided)), x);
      });
      for (let i = 0; i < blocks; i++) {
        await compile(`stream/block${i}`, (ctx) => {
          const modulation = rowModulations(ctx, model, inputs, all, tables).block(i, all);
          const y = block(ctx, model, i, x, modulation);
          if (!ends.has(i)) return void copyInto(ctx, y, x);
          const isFirstGroup = [...ends].every((end) => end >= i);
          copyInto(ctx, isFirstGroup ? y : add(ctx, v, y), v);
          if (i < blocks - 1) copyInto(ctx, add(ctx, x, y), x);
        });
      }
      await compile('stream/head', (ctx) => {
        const modulation = rowModulations(ctx, model, inputs, all, tables).head();
        const point = () => evaluatedPoint(ctx, inputs, batch, guided);
        const velocity = decode(ctx, model, config.lengths ? v : x, modulation, point);
        applyVelocity(ctx, inputs, velocity, batch, guided, stages);
      });
    } catch (error) {
      streamed.dispose();
      throw error;
    }
    return streamed;
  }

  /** Memory plans of its programs, in the order that they run in. */
  get plans(): readonly Plan[] {
    return this.#programs.map((program) => program.plan);
  }

  /** One evaluation, and what becomes of its velocity. */
  async run(scalars: EvaluationScalars, signal?: AbortSignal): Promise<void> {
    const values = { ...scalars };
    this.#programs[0]!.run(values);
    // While the GPU runs one block the next is read and written, and no more: until then the driver holds a copy of what is written.
    let [before, now] = [Promise.resolve(), this.#engine.done()];
    for (let i = 0; i < this.#blocks; i++) {
      await before;
      await this.#load(i, signal);
      this.#programs[i + 1]!.run(values);
      [before, now] = [now, this.#engine.done()];
    }
    this.#programs.at(-1)!.run(values);
  }

  dispose(): void {
    for (const program of this.#programs) program.dispose();
    this.#engine.release(this.#state.x);
    this.#engine.release(this.#state.v);
  }

  /** Makes block i resident, in place of the block that has waited longest if K are. */
  async #load(i: number, signal: AbortSignal | undefined): Promise<void> {
    const { weights, config } = this.#model;
    const at = groupIndices(config);
    if (weights.isResident(at.block(i))) return;
    const held = Array.from({ length: config.depth }, (_, b) => b).filter((b) => weights.isResident(at.block(b)));
    // Blocks come round in order: those behind i are needed last.
    const oldest = held.filter((b) => b > i)[0] ?? held[0];
    if (held.length >= this.#resident && oldest !== undefined) {
      await this.#model.exchange(at.block(oldest), at.block(i), signal);
    } else await this.#model.require([at.block(i)], { keep: true, signal });
  }
}
