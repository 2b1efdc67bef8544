/** One golden model's network on the GPU: velocities and gradients for recorded rows, with whatever parameters are loaded. */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import { type Scalar, scalarInput } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { createTape } from '../kernels/derivatives.ts';
import { mse } from '../kernels/mse.ts';
import type { ModelConfig } from '../model/config.ts';
import { type Depth, groupsOf, type Model, rowsPerGroup, velocity } from '../model/dit.ts';
import { allSpecs, type ParamLayout, type ParamSet, paramLayout, paramsByName } from '../model/params.ts';
import { type Storing, uploadPositions } from '../model/weights/residency.ts';
import { Weights } from '../model/weights/weights.ts';
import { formulaParams } from './formula-params.ts';

/** Inputs of B samples in any order. */
export interface Rows {
  /** [B, H, W, C]. */
  readonly x: Float32Array;
  /** [B] each. */
  readonly t: ArrayLike<number>;
  readonly step: ArrayLike<number>;
  readonly labels: ArrayLike<number>;
  /** Blocks of each sample; absent: the conventional network. */
  readonly lengths?: ArrayLike<number>;
}

/** A mean squared error, the velocity [B, H, W, C] it is of, and its gradient by parameter. */
export interface Gradients {
  readonly loss: number;
  readonly v: Float32Array;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** What a run is for, besides the velocity. */
type Purpose = 'velocity' | 'gradients' | 'inside';

/** What a program makes besides the velocity: the loss, or the results of its scopes by path. */
interface Made {
  readonly v: Tensor;
  readonly loss: Tensor | null;
  readonly inside: ReadonlyMap<string, Tensor>;
}

interface Compiled extends Made {
  readonly program: Program;
  readonly inputs: Readonly<Record<'x' | 't' | 'step' | 'labels' | 'lengths' | 'target' | 'one', Tensor>>;
}

/** What a program gave, sorted as the rows are. */
interface Given {
  readonly v: Float32Array;
  readonly loss: number;
  readonly inside: ReadonlyMap<string, Float32Array>;
}

export class Network {
  readonly #engine: Engine;
  readonly #config: ModelConfig;
  readonly #layout: ParamLayout;
  readonly #model: Model;
  /** Programs never run at the same time, so they share memory. */
  readonly #arena: Arena;
  readonly #programs = new Map<string, Compiled>();
  #gradients: Weights | null = null;
  #loaded = '';

  /** Stored as `storing` says; gradients need f32. */
  constructor(engine: Engine, config: ModelConfig, { precision, activations }: Storing = {}) {
    this.#engine = engine;
    this.#config = config;
    this.#layout = paramLayout(config);
    this.#model = engine.memory.allOrNothing(() => ({
      config,
      weights: new Weights(engine, this.#layout, 'verify', { precision }),
      positions: uploadPositions(engine, config),
      activations,
    }));
    this.#arena = new Arena(engine, 'verify');
  }

  /** Fills the parameters by formula. */
  load(seed: number, strong: boolean): void {
    const wanted = `${seed}/${strong}`;
    if (wanted === this.#loaded) return;
    this.place(formulaParams(this.#config, seed, { strong }));
    this.#loaded = wanted;
  }

  /** Fills the parameters with these. */
  place({ groups }: ParamSet): void {
    for (const [g, values] of groups.entries()) this.#model.weights.place(g, values);
    this.#loaded = '';
  }

  /** Velocity [B, H, W, C] of the rows, in their order. */
  async velocity(rows: Rows): Promise<Float32Array> {
    return (await this.#run(rows, 'velocity')).v;
  }

  /**
   * What each part of the network gave, by its scope's path: 'block3' [B, T, D], 'condition/time' [B, D], 'head/patches', and
   * 'positions' [T, D]. Rows of samples that do not run a block are undefined.
   */
  async inside(rows: Rows): Promise<ReadonlyMap<string, Float32Array>> {
    const { inside } = await this.#run(rows, 'inside');
    return new Map([...inside, ['positions', await this.#engine.read(this.#model.positions)]]);
  }

  /** Gradient of the mean of (velocity - target)^2 by every parameter. */
  async gradients(rows: Rows, target: Float32Array): Promise<Gradients> {
    const weights = this.#gradientWeights();
    // Parameters that a case does not use keep what their gradient held.
    for (const [g, { length }] of this.#layout.groups.entries()) weights.place(g, new Float32Array(length));
    const { v, loss } = await this.#run(rows, 'gradients', target);
    return { v, loss, gradients: paramsByName(await weights.read()) };
  }

  dispose(): void {
    for (const { program, inputs } of this.#programs.values()) {
      program.dispose();
      for (const t of Object.values(inputs)) this.#engine.release(t);
    }
    this.#arena.dispose();
    this.#gradients?.release();
    this.#model.weights.release();
    this.#engine.release(this.#model.positions);
  }

  #gradientWeights(): Weights {
    this.#gradients ??= new Weights(this.#engine, this.#layout, 'verify/gradients', { kind: 'gradients' });
    return this.#gradients;
  }

  async #run(rows: Rows, purpose: Purpose, target?: Float32Array): Promise<Given> {
    const { t, lengths } = rows;
    const B = t.length;
    const { program, inputs, v, loss, inside } = await this.#compiled(B, lengths !== undefined, purpose);
    // The network wants samples with more blocks first.
    const order = Array.from({ length: B }, (_, r) => r);
    if (lengths) order.sort((a, b) => lengths[b]! - lengths[a]! || a - b);
    const size = rows.x.length / B;
    const write = (to: Tensor, from: ArrayLike<number>) => {
      const sorted = order.map((r) => from[r]!);
      this.#engine.write(to, to.dtype === 'u32' ? Uint32Array.from(sorted) : Float32Array.from(sorted));
    };
    this.#engine.write(inputs.x, permuted(rows.x, order, size));
    if (target) this.#engine.write(inputs.target, permuted(target, order, size));
    write(inputs.t, t);
    write(inputs.step, rows.step);
    write(inputs.labels, rows.labels);
    if (lengths) write(inputs.lengths, lengths);
    const counts = lengths ? rowsPerGroup(this.#config, Array.from(lengths)) : [];
    program.run(Object.fromEntries(counts.map((n, g) => [`rows${g}`, n])));
    const paths = [...inside.keys()];
    const [sorted, ...others] = await program.read(v, ...(loss ? [loss] : []), ...inside.values());
    const back = new Array<number>(B);
    order.forEach((r, at) => {
      back[r] = at;
    });
    const found = loss ? others.shift()![0]! : Number.NaN;
    const unsorted = (values: Float32Array) => permuted(values, back, values.length / B);
    return {
      v: unsorted(sorted!),
      loss: found,
      inside: new Map(others.map((values, i) => [paths[i]!, unsorted(values)])),
    };
  }

  async #compiled(B: number, wired: boolean, purpose: Purpose): Promise<Compiled> {
    const gradients = purpose === 'gradients';
    const key = `${B}${wired ? ' wired' : ''} ${purpose}`;
    const known = this.#programs.get(key);
    if (known) return known;
    const engine = this.#engine;
    const { imageSize, channels } = this.#config;
    const pixels = [B, imageSize, imageSize, channels] as const;
    const u32 = (label: string) => engine.tensor(label, [B], { dtype: 'u32' });
    const inputs = engine.memory.allOrNothing(() => ({
      x: engine.tensor('x', pixels),
      t: engine.tensor('t', [B]),
      step: engine.tensor('step', [B]),
      labels: u32('labels'),
      lengths: u32('lengths'),
      target: engine.tensor('target', gradients ? pixels : [1]),
      one: engine.tensor('one', [1], { data: Float32Array.of(1) }),
    }));
    const rows = groupsOf(this.#config).map((_, g): Scalar => (g === 0 ? B : scalarInput(`rows${g}`, B)));
    const depth = wired ? { lengths: inputs.lengths, rows } : undefined;
    try {
      const { recording, result } = record(engine, `verify ${key}`, (ctx, keep) => {
        const found = this.#made(ctx, inputs, depth, purpose);
        for (const t of [found.v, found.loss, ...found.inside.values()]) if (t) keep(t);
        return found;
      });
      const program = await Program.compile(engine, recording, { arena: this.#arena });
      const compiled = { program, inputs, ...result };
      this.#programs.set(key, compiled);
      return compiled;
    } catch (error) {
      for (const t of Object.values(inputs)) engine.release(t);
      throw error;
    }
  }

  #made(ctx: Context, inputs: Compiled['inputs'], depth: Depth | undefined, purpose: Purpose): Made {
    const inside = new Map<string, Tensor>();
    if (purpose === 'gradients') return { ...this.#withGradients(ctx, inputs, depth), inside };
    // A block's scope is entered twice: for its modulation, and then for itself.
    if (purpose === 'inside') ctx.observer = (path, result) => inside.set(path, result);
    return { v: velocity(ctx, this.#model, inputs, depth), loss: null, inside };
  }

  #withGradients(ctx: Context, inputs: Compiled['inputs'], depth: Depth | undefined): { v: Tensor; loss: Tensor } {
    const tape = createTape();
    const into = this.#gradientWeights();
    for (const { name } of allSpecs(this.#layout)) tape.watch(this.#model.weights.get(name), into.get(name));
    ctx.tape = tape;
    const v = velocity(ctx, this.#model, inputs, depth);
    const { loss } = mse(ctx, v, inputs.target);
    tape.backward(ctx, [[loss, inputs.one]]);
    ctx.tape = null;
    return { v, loss };
  }
}

/** Rows of `size` elements, row r of the result being row order[r] of `values`. */
export function permuted(values: Float32Array, order: ArrayLike<number>, size: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let r = 0; r < order.length; r++) out.set(values.subarray(order[r]! * size, (order[r]! + 1) * size), r * size);
  return out;
}
