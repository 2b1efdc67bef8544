/**
 * What an update did to the parameters, group by group: norms of gradient, update and parameters, and how the parameters are distributed.
 * Programs of their own that only read what training leaves behind; they share its activations and run when they are asked to.
 */
import type { Engine } from '../engine/engine.ts';
import type { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput } from '../engine/scalar.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { adamwApplied } from '../kernels/adamw.ts';
import { HISTOGRAM_BINS, histogram } from '../kernels/histogram.ts';
import { globalNorm } from '../kernels/reduce.ts';
import type { ParamLayout } from '../model/params.ts';
import type { Weights } from '../model/weights/weights.ts';
import type { TrainConfig } from './config.ts';
import type { TrainState } from './state.ts';

/** Euclidean norms of one group of parameters in one update. */
export interface GroupNorms {
  /** Of the gradient before it is clipped. */
  readonly gradient: number;
  /** Of what the update took from the parameters; absent where processes divide the moments, from which it is worked out. */
  readonly update?: number;
  /** Of the parameters after it. */
  readonly parameters: number;
}

/** What was found, by group: `embed`, `block0`, ..., `head`. */
export interface Inspected {
  readonly norms: Readonly<Record<string, GroupNorms>>;
  /** Counts of the parameters by the bins of kernels/histogram.ts, padding not counted; if they were asked for. */
  readonly histograms?: Readonly<Record<string, readonly number[]>>;
}

/** The layout's groups by what they are called here: embedders are one, and a block's modulation belongs to it. */
function groupsByName(layout: ParamLayout): ReadonlyMap<string, number[]> {
  const groups = new Map<string, number[]>();
  layout.groups.forEach(({ name }, g) => {
    const own = name.split('.')[0]!;
    const short = own === 'patches' || own === 'condition' ? 'embed' : own;
    groups.set(short, [...(groups.get(short) ?? []), g]);
  });
  return groups;
}

/** The counts of a group's buffers, and how many zeros among them are padding. */
interface Counted {
  readonly counts: readonly Tensor[];
  readonly padding: number;
}

function kept(keep: (t: Tensor) => void, t: Tensor): Tensor {
  keep(t);
  return t;
}

interface NormsProgram {
  readonly program: Program;
  /** Of each group gradient, parameters and, where the moments are whole, update. */
  readonly tensors: readonly Tensor[];
}

interface CountsProgram {
  readonly program: Program;
  readonly groups: readonly Counted[];
}

export class Inspection {
  readonly #train: TrainConfig;
  readonly #names: readonly string[];
  readonly #norms: NormsProgram;
  readonly #histograms: CountsProgram;

  private constructor(train: TrainConfig, names: readonly string[], norms: NormsProgram, histograms: CountsProgram) {
    this.#train = train;
    this.#names = names;
    this.#norms = norms;
    this.#histograms = histograms;
  }

  /** Records and compiles for a state and the sum of an update's gradients. @throws as Program.compile */
  static async create(
    engine: Engine,
    train: TrainConfig,
    state: TrainState,
    total: Weights,
    options: { readonly arena: Arena; readonly signal?: AbortSignal },
  ): Promise<Inspection> {
    const { layout } = state.params;
    const named = groupsByName(layout);
    const groups = [...named.values()];
    const parts = (of: Weights, group: readonly number[]) => group.flatMap((g) => of.partsOf(g));
    const norms = record(engine, 'norms', (ctx, keep) =>
      groups.flatMap((group) => {
        const params = parts(state.params, group);
        const norm = (tensors: readonly Tensor[]) => kept(keep, globalNorm(ctx, tensors));
        const norms = [norm(parts(total, group)), norm(params)];
        if (state.m.layout !== layout) return norms;
        const [m, v] = [parts(state.m, group), parts(state.v, group)];
        const adam = { ...train, decay: train.weightDecay, lr: scalarInput('lr'), count: scalarInput('count') };
        return [...norms, norm(params.map((part, p) => adamwApplied(ctx, { params: part, m: m[p]!, v: v[p]! }, adam)))];
      }),
    );
    const histograms = record(engine, 'histograms', (ctx, keep) =>
      groups.map((group): Counted => {
        const held = parts(state.params, group);
        const values = group.flatMap((g) => layout.groups[g]!.specs).reduce((n, { size }) => n + size, 0);
        const padding = held.reduce((n, part) => n + maxSize(part), 0) - values;
        return { counts: held.map((part) => kept(keep, histogram(ctx, part))), padding };
      }),
    );
    const program = await Program.compile(engine, norms.recording, options);
    try {
      const counting = await Program.compile(engine, histograms.recording, options);
      return new Inspection(
        train,
        [...named.keys()],
        { program, tensors: norms.result },
        { program: counting, groups: histograms.result },
      );
    } catch (error) {
      program.dispose();
      throw error;
    }
  }

  /** After update number `count`, from 1, at rate `lr`. */
  async look(count: number, lr: number, options: { readonly histograms: boolean }): Promise<Inspected> {
    const { program, tensors } = this.#norms;
    program.run({ lr, count });
    const found = (await program.read(...tensors)).map(([value]) => value!);
    const each = found.length / this.#names.length;
    const norms = this.#names.map((name, i) => {
      const [gradient, parameters, update] = found.slice(each * i, each * (i + 1));
      const own = { gradient: gradient! / this.#train.accumulate, parameters: parameters! };
      return [name, update === undefined ? own : { ...own, update }] as const;
    });
    return { norms: Object.fromEntries(norms), ...(options.histograms ? { histograms: await this.#count() } : {}) };
  }

  async #count(): Promise<Record<string, number[]>> {
    const { program, groups } = this.#histograms;
    program.run();
    const rows = await program.read(...groups.flatMap(({ counts }) => counts));
    return Object.fromEntries(
      groups.map(({ counts, padding }, i) => {
        const sum = new Array<number>(HISTOGRAM_BINS).fill(0);
        for (const row of rows.splice(0, counts.length)) {
          // Counts, read as the words that they are.
          new Uint32Array(row.buffer, row.byteOffset, row.length).forEach((n, bin) => {
            sum[bin]! += n;
          });
        }
        sum[(HISTOGRAM_BINS - 1) / 2]! -= padding;
        return [this.#names[i]!, sum];
      }),
    );
  }

  /** Frees the programs; what they share stays. */
  dispose(): void {
    this.#norms.program.dispose();
    this.#histograms.program.dispose();
  }
}
