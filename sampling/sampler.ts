/**
 * Fixed-step Euler sampling (Algorithm 2): any power of two of time steps, any allowed number of blocks, per call. One program per
 * (blocks, guided or not) serves every number of steps and every batch up to the largest.
 */
import { Arena } from '../engine/arena.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError, NonFiniteError, UsageError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput, times } from '../engine/scalar.ts';
import { reshaped, type Tensor } from '../engine/tensor.ts';
import { euler, guide } from '../kernels/flow.ts';
import { gatherRows } from '../kernels/gather.ts';
import { randomNormal } from '../kernels/random.ts';
import { allowedLengths, checkLength } from '../model/config.ts';
import { groupsOf, rowsPerGroup, velocity } from '../model/dit.ts';
import type { ResidentModel } from '../model/model.ts';

export interface SampleRequest {
  /** Class of each sample; null is "no class". */
  readonly labels: readonly (number | null)[];
  /** Number of Euler steps T: a power of two up to 128 for shortcut models. */
  readonly steps: number;
  /** Number of blocks L, one of the model's allowed lengths. Default: the largest. */
  readonly blocks?: number;
  /** 0: "no class"; 1: the label (default); otherwise v_u + w (v_c - v_u), at twice the work. */
  readonly guidance?: number;
  readonly seed?: number;
  /** Number of the first sample: sample n of a seed is the same picture whatever batch it is drawn in. Default 0. */
  readonly first?: number;
  /** Start from this noise [samples, H, W, C] instead of the seed's. */
  readonly noise?: Float32Array;
  /** Step level fed to the network instead of log2(steps): for replaying recorded runs; allows any number of steps. */
  readonly level?: number;
  /** Keeps blocks on the GPU that this call does not need. */
  readonly keepBlocks?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: SampleProgress) => void;
}

export interface SampleProgress {
  /** Network evaluations (time steps of batches) done, and in all. */
  readonly done: number;
  readonly total: number;
}

export interface Samples {
  /** [samples, H, W, C]; data lie in [-1, 1], samples about there. */
  readonly values: Float32Array;
  readonly shape: readonly [number, number, number, number];
}

export interface SamplerOptions {
  /** Most samples computed at once. Default 16. */
  readonly batch?: number;
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

const NOISE_STREAM = 0x73616d70;
const FINEST = 128;

/** @throws ConfigError unless T suits the model (a power of two up to 128 where it knows step sizes). */
export function checkSteps(steps: number, ignoreDt: boolean): void {
  if (!Number.isInteger(steps) || steps < 1) throw new ConfigError(`the number of steps is ${steps}; it must be a positive integer`);
  if (!ignoreDt && (steps > FINEST || !Number.isInteger(Math.log2(steps)))) {
    throw new ConfigError(`this model was trained for step sizes 1, 1/2, ..., 1/${FINEST}; ${steps} steps are none of them`, {
      hint: `use 1, 2, 4, 8, 16, 32, 64 or ${FINEST} steps`,
    });
  }
}

type Inputs = Record<'x' | 't' | 'step' | 'labels' | 'lengths' | 'numbers' | 'twice' | 'second', Tensor>;

export class Sampler {
  readonly model: ResidentModel;
  readonly batch: number;
  readonly #engine: Engine;
  readonly #arena: Arena;
  readonly #inputs: Inputs;
  readonly #programs = new Map<string, Program>();
  readonly #options: SamplerOptions;
  #noise: Program | null = null;

  constructor(engine: Engine, model: ResidentModel, options: SamplerOptions = {}) {
    this.#engine = engine;
    this.model = model;
    this.#options = options;
    this.batch = options.batch ?? 16;
    if (!Number.isInteger(this.batch) || this.batch < 1) throw new ConfigError(`batch is ${this.batch}; it must be a positive integer`);
    this.#arena = new Arena(engine, 'sampling');
    const { imageSize, channels } = model.config;
    const n = this.batch;
    const u32 = (label: string, size: number, data?: Uint32Array) => engine.tensor(label, [size], { dtype: 'u32', data });
    // Guided sampling evaluates 2n rows: "no class" first, then the labels.
    this.#inputs = {
      x: engine.tensor('x', [n, imageSize, imageSize, channels]),
      t: engine.tensor('t', [2 * n]),
      step: engine.tensor('step', [2 * n]),
      labels: u32('labels', 2 * n),
      lengths: u32('lengths', 2 * n),
      numbers: u32('numbers', n),
      twice: u32('twice', 2 * n),
      second: u32('second', n),
    };
  }

  /** Dispatches of one time step, and the plan of its activations, for a number of blocks already compiled. */
  program(blocks: number, guided = false): Program | undefined {
    return this.#programs.get(`${blocks}/${guided}`);
  }

  /**
   * Draws samples.
   * @throws ConfigError for steps, blocks, labels or guidance that make no sense; NonFiniteError; InterruptedError.
   */
  async sample(request: SampleRequest): Promise<Samples> {
    const { config } = this.model;
    const { imageSize, channels, classes } = config;
    const { labels, steps, guidance = 1, seed = 0, first = 0, signal } = request;
    const blocks = request.blocks ?? Math.max(...allowedLengths(config));
    if (request.level === undefined) checkSteps(steps, config.ignoreDt);
    checkLength(config, blocks);
    if (!Number.isFinite(guidance)) throw new ConfigError(`guidance is ${guidance}; it must be a finite number`);
    for (const label of labels) {
      if (label !== null && !(Number.isInteger(label) && label >= 0 && label < classes)) {
        throw new ConfigError(`there is no class ${label}`, { hint: `classes are 0 to ${classes - 1}` });
      }
    }
    const pixels = imageSize ** 2 * channels;
    if (request.noise && request.noise.length !== labels.length * pixels) {
      throw new UsageError(`noise has ${request.noise.length} elements; ${labels.length} samples need ${labels.length * pixels}`);
    }
    await this.model.require(blocks, { keep: request.keepBlocks, signal });
    const guided = guidance !== 0 && guidance !== 1;
    const program = await this.#compile(blocks, guided, signal);
    const level = config.ignoreDt ? 0 : (request.level ?? Math.log2(steps));
    const values = new Float32Array(labels.length * pixels);
    const total = Math.ceil(labels.length / this.batch) * steps;
    let done = 0;
    for (let from = 0; from < labels.length; from += this.batch) {
      const part = labels.slice(from, from + this.batch);
      const rows = part.length;
      await this.#start(rows, seed, first + from, request.noise?.subarray(from * pixels, (from + rows) * pixels));
      this.#condition(part, blocks, level, guidance, guided);
      const t = new Float32Array(2 * this.batch);
      for (let i = 0; i < steps; i++) {
        if (signal?.aborted) throw new InterruptedError(`sampling was interrupted after ${done} of ${total} steps`);
        this.#engine.write(this.#inputs.t, t.fill(i / steps));
        program.run({ rows, h: 1 / steps, guidance });
        if (i < steps - 1) await this.#engine.idle();
        request.onProgress?.({ done: ++done, total });
      }
      values.set((await this.#engine.read(this.#inputs.x)).subarray(0, rows * pixels), from * pixels);
    }
    const bad = values.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0) {
      throw new NonFiniteError(`sample ${first + Math.floor(bad / pixels)} is not finite (L=${blocks}, T=${steps})`, {
        hint: 'the weights may be damaged: run `odelt verify` to check the adapter',
      });
    }
    return { values, shape: [labels.length, imageSize, imageSize, channels] };
  }

  /** Frees programs, activations and inputs; the model stays. */
  dispose(): void {
    for (const program of this.#programs.values()) program.dispose();
    this.#programs.clear();
    this.#noise?.dispose();
    this.#arena.dispose();
    for (const t of Object.values(this.#inputs)) this.#engine.release(t);
  }

  async #start(rows: number, seed: number, first: number, noise: Float32Array | undefined): Promise<void> {
    const { x, numbers } = this.#inputs;
    if (noise) return this.#engine.write(x, noise);
    const given = scalarInput('seed');
    if (!this.#noise) {
      const { recording } = record(this.#engine, 'noise', (ctx) => {
        const normal = randomNormal(ctx, x.shape, { seed: 0, stream: NOISE_STREAM, step: given, indices: numbers });
        euler(ctx, x, normal, 1);
      });
      this.#noise = await Program.compile(this.#engine, recording, { arena: this.#arena });
    }
    this.#engine.write(x, new Float32Array(this.batch * (x.storage.bytes / 4 / this.batch)));
    this.#engine.write(numbers, Uint32Array.from({ length: this.batch }, (_, i) => first + Math.min(i, rows - 1)));
    this.#noise.run({ seed });
  }

  #condition(part: readonly (number | null)[], blocks: number, level: number, guidance: number, guided: boolean): void {
    const { step, labels, lengths, twice, second } = this.#inputs;
    const none = this.model.config.classes;
    const asked = part.map((label) => (guidance === 0 ? none : (label ?? none)));
    const count = part.length;
    this.#engine.write(labels, Uint32Array.from(guided ? [...asked.map(() => none), ...asked] : asked));
    this.#engine.write(step, new Float32Array(2 * this.batch).fill(level));
    this.#engine.write(lengths, new Uint32Array(2 * this.batch).fill(blocks));
    this.#engine.write(twice, Uint32Array.from({ length: 2 * count }, (_, i) => i % count));
    this.#engine.write(second, Uint32Array.from({ length: count }, (_, i) => count + i));
  }

  /** The program of one Euler step: v at (x, t), then x += h v. */
  async #compile(blocks: number, guided: boolean, signal: AbortSignal | undefined): Promise<Program> {
    const key = `${blocks}/${guided}`;
    const known = this.#programs.get(key);
    if (known) return known;
    const { config } = this.model;
    const inputs = this.#inputs;
    const rows = scalarInput('rows', this.batch);
    const all = guided ? times(rows, 2) : rows;
    const { recording } = record(this.#engine, `sample L=${blocks}${guided ? ' guided' : ''}`, (ctx) => {
      const some = (t: Tensor, n = all) => reshaped(t, [n, ...(t.shape.slice(1) as number[])]);
      const x = some(inputs.x, rows);
      const groups = rowsPerGroup(config, [blocks]).filter((n) => n > 0).length;
      const depth = config.lengths
        ? { lengths: some(inputs.lengths), rows: groupsOf(config).slice(0, groups).map(() => all) }
        : undefined;
      const v = velocity(
        ctx,
        this.model,
        { x: guided ? gatherRows(ctx, x, some(inputs.twice)) : x, t: some(inputs.t), step: some(inputs.step), labels: some(inputs.labels) },
        depth,
      );
      if (!guided) return euler(ctx, x, v, scalarInput('h'));
      const conditional = gatherRows(ctx, v, some(inputs.second, rows));
      euler(ctx, x, guide(ctx, ctx.prefix(v, rows), conditional, scalarInput('guidance')), scalarInput('h'));
    });
    const program = await Program.compile(this.#engine, recording, { arena: this.#arena, signal, onProgress: this.#options.onCompile });
    this.#programs.set(key, program);
    return program;
  }
}
