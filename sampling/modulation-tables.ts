/**
 * Modulations computed ahead. The adaLN linears are a third of a block's weights and depend only on (t, step, label, L): their
 * outputs for all evaluations of a request are tabulated before its loop (those of an adaptive solver before each step), block by
 * block, and none of those weights stays on the GPU. Pays where the tables are smaller than the weights: large models, few distinct labels.
 */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { copyInto } from '../kernels/add.ts';
import { gatherRows } from '../kernels/gather.ts';
import { blockModulation, embedConditions, headModulation, type Modulations } from '../model/condition.ts';
import { groupIndices } from '../model/params.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import { first, type ModulationSource } from './evaluation.ts';

export interface ConditionRows {
  /** Time, label (u32) and number of blocks (u32) of every row of the tables. */
  readonly t: Float32Array;
  readonly labels: Uint32Array;
  readonly lengths: Uint32Array;
  /** Of all rows. */
  readonly level: number;
}

export class ModulationTables implements ModulationSource {
  /** Most rows (time steps x distinct labels) that fit. */
  readonly capacity: number;
  readonly #engine: Engine;
  readonly #model: ResidentModel;
  readonly #arena: Arena;
  readonly #rows: Record<'t' | 'step' | 'labels' | 'lengths', Tensor>;
  readonly #embedded: { head: Tensor; blocks: Tensor };
  readonly #blocks: Tensor[] = [];
  readonly #head: Tensor;
  readonly #programs = new Map<string, Program>();
  /** The conditions that the tables hold. */
  #filled = '';

  constructor(engine: Engine, model: ResidentModel, arena: Arena, capacity: number) {
    const { width } = model.config;
    this.capacity = capacity;
    this.#engine = engine;
    this.#model = model;
    this.#arena = arena;
    const f32 = (label: string, columns?: number) =>
      engine.tensor(`ahead/${label}`, columns ? [capacity, columns] : [capacity], { kind: 'activations' });
    const u32 = (label: string) => engine.tensor(`ahead/${label}`, [capacity], { kind: 'activations', dtype: 'u32' });
    const { t, step, labels, lengths, embeddedHead, embeddedBlocks, head } = engine.memory.allOrNothing(() => ({
      t: f32('t'),
      step: f32('step'),
      labels: u32('labels'),
      lengths: u32('lengths'),
      embeddedHead: f32('embedded.head', width),
      embeddedBlocks: f32('embedded.blocks', width),
      head: f32('head', 2 * width),
    }));
    this.#rows = { t, step, labels, lengths };
    this.#embedded = { head: embeddedHead, blocks: embeddedBlocks };
    this.#head = head;
  }

  /** Fills the tables, unless they hold just that; weights pass through the GPU one group at a time. */
  async fill(conditions: ConditionRows, signal?: AbortSignal): Promise<void> {
    const { t, level, labels, lengths } = conditions;
    const wanted = [level, ...t, ...labels, ...lengths].join();
    if (wanted === this.#filled) return;
    this.#filled = '';
    await this.#compute(conditions, signal);
    this.#filled = wanted;
  }

  async #compute({ t, level, labels, lengths }: ConditionRows, signal?: AbortSignal): Promise<void> {
    const { weights, config } = this.#model;
    const at = groupIndices(config);
    const engine = this.#engine;
    const count = t.length;
    engine.write(this.#rows.t, t);
    engine.write(this.#rows.step, new Float32Array(count).fill(level));
    engine.write(this.#rows.labels, labels);
    engine.write(this.#rows.lengths, lengths);
    const rows = scalarInput('rows', this.capacity);
    const run = async (group: number, name: string, body: (ctx: Context) => void) => {
      await this.#model.withGroup(group, signal, async () => {
        let program = this.#programs.get(name);
        if (!program) {
          program = await Program.compile(engine, record(engine, name, body).recording, { arena: this.#arena, signal });
          this.#programs.set(name, program);
        }
        program.run({ rows: count });
        // The next group takes this one's memory.
        await engine.idle();
      });
    };
    await run(at.condition, 'ahead/condition', (ctx) => {
      const some = (x: Tensor) => first(x, rows);
      const { t, step, labels, lengths } = this.#rows;
      const conditions = { t: some(t), step: some(step), labels: some(labels) };
      const { head, blocks } = embedConditions(
        ctx,
        { config, weights },
        conditions,
        config.lengths ? some(lengths) : undefined,
      );
      copyInto(ctx, head, some(this.#embedded.head));
      copyInto(ctx, blocks, some(this.#embedded.blocks));
    });
    for (let i = 0; i < this.#model.blocksFor(Math.max(...lengths)); i++) {
      const table = this.#table(i);
      await run(at.modulation(i), `ahead/block${i}`, (ctx) => {
        copyInto(ctx, blockModulation(ctx, weights, i, first(this.#embedded.blocks, rows)), first(table, rows));
      });
    }
    await run(at.headModulation, 'ahead/head', (ctx) => {
      copyInto(ctx, headModulation(ctx, weights, first(this.#embedded.head, rows)), first(this.#head, rows));
    });
  }

  /** Modulations of the samples whose table rows are `indices` [B] u32. */
  modulations(ctx: Context, indices: Tensor): Modulations {
    return {
      block: (i, rows) => gatherRows(ctx, this.#table(i), first(indices, rows)),
      head: () => gatherRows(ctx, this.#head, indices),
    };
  }

  /** Frees the tables beyond the first `blocks` blocks. */
  trim(blocks: number): void {
    const extra = this.#blocks.slice(blocks).filter(({ storage }) => storage.place);
    if (extra.length > 0) this.#filled = '';
    for (const table of extra) this.#engine.release(table);
  }

  dispose(): void {
    for (const program of this.#programs.values()) program.dispose();
    const { head, blocks } = this.#embedded;
    for (const x of [...Object.values(this.#rows), head, blocks, this.#head, ...this.#blocks]) this.#engine.release(x);
    this.#programs.clear();
    this.#blocks.length = 0;
  }

  #table(block: number): Tensor {
    for (let i = this.#blocks.length; i <= block; i++) {
      const shape: [number, number] = [this.capacity, 6 * this.#model.config.width];
      this.#blocks.push(this.#engine.tensor(`ahead/table${i}`, shape, { kind: 'activations' }));
    }
    const table = this.#blocks[block]!;
    this.#engine.place(table, 'activations'); // it may have been trimmed
    return table;
  }
}
