/**
 * Fixed-step Euler sampling (Algorithm 2): any power of two of time steps, any allowed number of blocks, per call. One program per
 * (blocks, guided or not) serves every number of steps and every batch up to the largest; only the weights in use are on the GPU.
 */

import type { Engine } from '../engine/engine.ts';
import { ConfigError, InterruptedError, NonFiniteError, OutOfMemoryError, UsageError } from '../engine/errors.ts';
import { Arena } from '../engine/memory/arena.ts';
import type { Plan as MemoryPlan } from '../engine/memory/planner.ts';
import { Program, record } from '../engine/program.ts';
import { scalarInput } from '../engine/scalar.ts';
import { maxSize } from '../engine/tensor.ts';
import { euler } from '../kernels/flow.ts';
import { randomNormal } from '../kernels/random/random.ts';
import { allowedLengths } from '../model/config.ts';
import { largestActivation, modulatedVelocity, rowsPerGroup } from '../model/dit.ts';
import { groupIndices } from '../model/params.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import {
  applyVelocity,
  createInputs,
  evaluatedImages,
  evaluatedRows,
  type StepInputs,
  type StepScalars,
  stepModulations,
} from './euler-step.ts';
import { type ConditionRows, ModulationTables } from './modulation-tables.ts';
import { checkObject, checkRequest, isGuided, type SampleRequest } from './request.ts';
import { StreamedStep } from './streamed.ts';

/** Sampled pictures or latents. */
export interface Samples {
  /** [samples, H, W, C]; data lie in [-1, 1], samples about there. */
  readonly values: Float32Array;
  readonly shape: readonly [number, number, number, number];
}

/** How a sampler uses memory. */
export interface SamplerOptions {
  /** Most samples computed at once; fewer where the device could not bind their activations. Default 16. */
  readonly batch?: number;
  /** Whether modulations are computed before the loop (sampling/modulation-tables.ts). Default: where the tables are smaller than the weights. */
  readonly ahead?: boolean;
  /** Most blocks whose weights are on the GPU at a time; implies `ahead`. Default: all that run. */
  readonly residentBlocks?: number;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

const NOISE_STREAM = 0x73616d70;

interface Plan {
  readonly blocks: number;
  readonly guided: boolean;
  readonly tables: ModulationTables | null;
  readonly signal: AbortSignal | undefined;
}

/** One compiled way of doing a step: the whole model as one program, or block by block. */
interface Step {
  readonly key: string;
  run(scalars: StepScalars, signal?: AbortSignal): Promise<void>;
  /** Steps that may be submitted before the one before them is done: one keeps the GPU busy while the host encodes. */
  readonly ahead: number;
  dispose(): void;
  readonly program?: Program;
  /** Of its programs, in the order that they run in. */
  readonly plans: readonly MemoryPlan[];
}

/**
 * Draws samples from a model, at any number of steps and allowed number of blocks. Programs are compiled at first use
 * and kept.
 */
export class Sampler {
  readonly model: ResidentModel;
  /** Most samples computed at once. */
  readonly batch: number;
  readonly #engine: Engine;
  readonly #arena: Arena;
  readonly #inputs: StepInputs;
  readonly #steps = new Map<string, Step>();
  readonly #options: SamplerOptions;
  #tables: ModulationTables | null = null;
  #noise: Program | null = null;
  #state: 'idle' | 'sampling' | 'disposed' = 'idle';

  constructor(engine: Engine, model: ResidentModel, options: SamplerOptions = {}) {
    this.#engine = engine;
    this.model = model;
    this.#options = options;
    checkObject('the options', options);
    const { batch = 16, residentBlocks = 1 } = options;
    const positive = (name: string, n: number) => {
      if (!Number.isInteger(n) || n < 1) throw new ConfigError(`${name} is ${n}; it must be a positive integer`);
    };
    positive('batch', batch);
    positive('residentBlocks', residentBlocks);
    const { imageSize, channels } = model.config;
    // More could not be bound, and inputs are made for all of them.
    this.batch = Math.min(batch, Math.max(1, Math.floor(engine.largestBinding / (4 * imageSize ** 2 * channels))));
    this.#arena = new Arena(engine, 'sampling');
    this.#inputs = createInputs(engine, model, this.batch);
  }

  /** Samples computed at once: `batch`, or as many as have activations that the device can bind. */
  batchFor(guided: boolean): number {
    const { config, activations } = this.model;
    // Guidance evaluates every sample with and without its label.
    const most = Math.floor(this.#engine.largestBinding / (largestActivation(config, activations) * (guided ? 2 : 1)));
    return Math.min(this.batch, Math.max(1, most));
  }

  /** The program of one whole time step for a number of blocks that has been used: its plan and its dispatches. */
  program(blocks: number, guided = false): Program | undefined {
    return this.#step(blocks, guided)?.program;
  }

  /** Memory plans of the programs that make up one time step, for a number of blocks that has been used; they share slabs. */
  plans(blocks: number, guided = false): readonly MemoryPlan[] {
    return this.#step(blocks, guided)?.plans ?? [];
  }

  /**
   * Draws samples.
   * @throws ConfigError for steps, blocks, labels or guidance that make no sense, UsageError for other fields that are wrong or missing, and
   * while an earlier call is under way, whose inputs it would write over;
   * LimitError for more samples or steps than fit: all before anything is computed; NonFiniteError; InterruptedError.
   */
  async sample(request: SampleRequest): Promise<Samples> {
    checkRequest(request, this.model.config);
    if (this.#state === 'disposed') throw new UsageError('this sampler has been disposed');
    if (this.#state === 'sampling') {
      throw new UsageError('this sampler is drawing samples already', {
        hint: 'await the call before, or ask for more samples in one call',
      });
    }
    this.#state = 'sampling';
    try {
      return await this.#sample(request);
    } finally {
      if (this.#state === 'sampling') this.#state = 'idle';
    }
  }

  async #sample(request: SampleRequest): Promise<Samples> {
    const { config } = this.model;
    const { imageSize, channels } = config;
    const { labels, steps, guidance = 1, seed = 0, first = 0, signal } = request;
    const blocks = request.blocks ?? Math.max(...allowedLengths(config));
    const pixels = imageSize ** 2 * channels;
    const guided = isGuided(guidance);
    const level = config.ignoreDt ? 0 : (request.level ?? Math.log2(steps));
    const rowLabels = labels.map((label) => (guidance === 0 ? config.classes : (label ?? config.classes)));
    const distinct = [...new Set(guided ? [...rowLabels, config.classes] : rowLabels)];
    const step = await this.#prepare(blocks, guided, steps, level, distinct, request);

    const values = new Float32Array(labels.length * pixels);
    const batch = this.batchFor(guided);
    const total = Math.ceil(labels.length / batch) * steps;
    let done = 0;
    for (let from = 0; from < labels.length; from += batch) {
      const part = rowLabels.slice(from, from + batch);
      const rows = part.length;
      await this.#start(rows, seed, first + from, request.noise?.subarray(from * pixels, (from + rows) * pixels));
      const asked = guided ? [...part.map(() => config.classes), ...part] : part;
      this.#condition(asked, rows, blocks, level);
      const under: Promise<void>[] = [];
      const finished = () => request.onProgress?.({ done: ++done, total });
      const unlessAborted = async () => {
        if (!signal?.aborted) return;
        await Promise.all(under);
        throw new InterruptedError(`sampling was interrupted after ${done + under.length} of ${total} steps`);
      };
      for (let i = 0; i < steps; i++) {
        await unlessAborted();
        this.#engine.write(this.#inputs.t, new Float32Array(2 * this.batch).fill(i / steps));
        this.#engine.write(
          this.#inputs.indices,
          Uint32Array.from(asked, (label) => i * distinct.length + distinct.indexOf(label)),
        );
        await step.run({ rows, h: 1 / steps, guidance }, signal);
        under.push(this.#engine.done());
        while (under.length > step.ahead) {
          await under.shift();
          this.#engine.check();
          finished();
        }
      }
      await unlessAborted();
      values.set((await this.#engine.read(this.#inputs.x)).subarray(0, rows * pixels), from * pixels);
      for (const _ of under) finished();
    }
    const bad = values.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0) {
      throw new NonFiniteError(`sample ${first + Math.floor(bad / pixels)} is not finite (L=${blocks}, T=${steps})`, {
        hint:
          this.model.activations === 'f16'
            ? 'features beyond 65504 do not fit f16: use activations in f32'
            : 'the weights may be damaged, or the driver wrong: `odelt verify` checks the adapter',
      });
    }
    return { values, shape: [labels.length, imageSize, imageSize, channels] };
  }

  /** Frees programs, activations and inputs; the model stays. */
  dispose(): void {
    this.#state = 'disposed';
    this.#forgetTables();
    this.#noise?.dispose();
    this.#noise = null;
    this.#arena.dispose();
    for (const t of Object.values(this.#inputs)) this.#engine.release(t);
  }

  /** Makes resident what the request needs, fills the tables if it is to have some, and compiles its step. */
  async #prepare(
    blocks: number,
    guided: boolean,
    steps: number,
    level: number,
    distinct: readonly number[],
    { signal, keepBlocks }: SampleRequest,
  ): Promise<Step> {
    const { model } = this;
    const { residentBlocks } = this.#options;
    const running = model.blocksFor(blocks);
    const rows = steps * distinct.length;
    const streamed = residentBlocks !== undefined && residentBlocks < running;
    const trade = ModulationTables.tradeOff(model, running, rows);
    const ahead = streamed || (this.#options.ahead ?? trade.tables < trade.weights);
    const at = groupIndices(model.config);
    const wanted = streamed ? [at.patches, at.head] : model.groupsFor(blocks, ahead);
    const held = streamed
      ? Array.from({ length: running }, (_, i) => at.block(i)).filter((g) => model.weights.isResident(g))
      : [];
    // What is not needed goes before the tables are made, so that both are never there together.
    if (!keepBlocks) this.#tables?.trim(running);
    await model.require(
      [...wanted, ...held.slice(0, residentBlocks)].filter((g) => model.weights.isResident(g)),
      { keep: keepBlocks },
    );
    if (ahead) {
      const t = Float32Array.from({ length: rows }, (_, r) => Math.floor(r / distinct.length) / steps);
      const labels = Uint32Array.from({ length: rows }, (_, r) => distinct[r % distinct.length]!);
      await this.#tabulate({ t, level, labels, blocks }, signal);
    }
    const plan: Plan = { blocks, guided, tables: ahead ? this.#tables : null, signal };
    const compiled = this.#compiled(plan, streamed ? residentBlocks : undefined);
    // Weights arrive while shaders compile. Both have ended before an error goes on.
    const [loaded] = await Promise.allSettled([model.require(wanted, { keep: true, signal }), compiled]);
    if (loaded.status === 'rejected') throw loaded.reason;
    return compiled;
  }

  /** Fills the tables, made anew where these are too small. */
  async #tabulate(rows: ConditionRows, signal: AbortSignal | undefined): Promise<void> {
    const count = rows.t.length;
    if (!this.#tables || this.#tables.capacity < count) {
      this.#forgetTables();
      this.#tables = new ModulationTables(this.#engine, this.model, this.#arena, count);
    }
    try {
      await this.#tables.fill(rows, signal);
    } catch (error) {
      // Some of them may never have been made.
      if (error instanceof OutOfMemoryError) this.#forgetTables();
      throw error;
    }
  }

  /** The step of a plan, block by block if a number of resident blocks is given; compiled once. */
  async #compiled(plan: Plan, residentBlocks: number | undefined): Promise<Step> {
    const how = residentBlocks ? `${residentBlocks} resident` : plan.tables ? 'ahead' : 'inline';
    const key = `${plan.blocks}/${plan.guided}/${how}`;
    const known = this.#steps.get(key);
    if (known) return known;
    const step = await (residentBlocks ? this.#streamedStep(key, plan, residentBlocks) : this.#wholeStep(key, plan));
    this.#steps.set(key, step);
    return step;
  }

  async #wholeStep(key: string, { blocks, guided, tables, signal }: Plan): Promise<Step> {
    const { model } = this;
    const { config } = model;
    const batch = this.batchFor(guided);
    const { all } = evaluatedRows(batch, guided);
    const groups = rowsPerGroup(config, [blocks]).filter((n) => n > 0);
    const { recording } = record(this.#engine, `sample L=${blocks}${guided ? ' guided' : ''}`, (ctx) => {
      const images = evaluatedImages(ctx, this.#inputs, batch, guided);
      const modulations = stepModulations(ctx, model, this.#inputs, all, tables);
      const v = modulatedVelocity(ctx, model, images, modulations, config.lengths ? groups.map(() => all) : undefined);
      applyVelocity(ctx, this.#inputs, v, batch, guided);
    });
    const program = await Program.compile(this.#engine, recording, {
      arena: this.#arena,
      signal,
      onProgress: this.#options.onCompile,
    });
    return {
      key,
      program,
      plans: [program.plan],
      run: async (scalars) => program.run({ ...scalars }),
      ahead: 1,
      dispose: () => program.dispose(),
    };
  }

  async #streamedStep(key: string, { blocks, guided, tables, signal }: Plan, resident: number): Promise<Step> {
    const options = { length: blocks, resident, batch: this.batchFor(guided), guided, signal };
    const step = await StreamedStep.create(this.#engine, this.model, this.#inputs, tables!, this.#arena, options);
    // Its weights pass through memory that the step before still reads: it waits for itself.
    return {
      key,
      plans: step.plans,
      run: (scalars, s) => step.run(scalars, s),
      ahead: 0,
      dispose: () => step.dispose(),
    };
  }

  #step(blocks: number, guided: boolean): Step | undefined {
    return [...this.#steps.values()].find(({ key }) => key.startsWith(`${blocks}/${guided}/`));
  }

  /** Frees the tables and the steps, which may use them. */
  #forgetTables(): void {
    for (const step of this.#steps.values()) step.dispose();
    this.#steps.clear();
    this.#tables?.dispose();
    this.#tables = null;
  }

  /** Puts the starting noise into x: the caller's, or the seed's for samples number `first` and on. */
  async #start(rows: number, seed: number, first: number, noise: Float32Array | undefined): Promise<void> {
    const { x, numbers } = this.#inputs;
    if (noise) return this.#engine.write(x, noise);
    if (!this.#noise) {
      const { recording } = record(this.#engine, 'noise', (ctx) => {
        const from = { seed: 0, stream: NOISE_STREAM, step: scalarInput('seed'), indices: numbers };
        euler(ctx, x, randomNormal(ctx, x.shape, from), 1);
      });
      this.#noise = await Program.compile(this.#engine, recording, { arena: this.#arena });
    }
    this.#engine.write(x, new Float32Array(maxSize(x)));
    this.#engine.write(
      numbers,
      Uint32Array.from({ length: this.batch }, (_, i) => first + Math.min(i, rows - 1)),
    );
    this.#noise.run({ seed });
  }

  #condition(asked: readonly number[], rows: number, blocks: number, level: number): void {
    const { step, labels, lengths, twice, second } = this.#inputs;
    this.#engine.write(labels, Uint32Array.from(asked));
    this.#engine.write(step, new Float32Array(2 * this.batch).fill(level));
    this.#engine.write(lengths, new Uint32Array(2 * this.batch).fill(blocks));
    this.#engine.write(
      twice,
      Uint32Array.from({ length: 2 * rows }, (_, i) => i % rows),
    );
    this.#engine.write(
      second,
      Uint32Array.from({ length: rows }, (_, i) => rows + i),
    );
  }
}
