/**
 * Runs schedules (sampling/schedule.ts): any solver, any allowed number of steps and blocks, per call. One program per (blocks, guided
 * or not) serves every number of steps and every batch up to the largest; only the weights in use are on the GPU.
 */
import type { Engine } from '../engine/engine.ts';
import { ConfigError, NonFiniteError, UsageError } from '../engine/errors.ts';
import type { PeakMeter } from '../engine/memory/accountant.ts';
import type { Plan as MemoryPlan } from '../engine/memory/planner.ts';
import type { Program } from '../engine/program.ts';
import { type DiffusionPoint, linearDiffusion } from '../model/diffusion.ts';
import { largestActivation } from '../model/dit.ts';
import { groupIndices } from '../model/params.ts';
import type { ResidentModel } from '../model/weights/residency.ts';
import { blocksAt, describeBlocks } from './blocks.ts';
import { usualGuidance } from './classes.ts';
import { type Sink, writeConditions, writeTime } from './evaluation.ts';
import type { Evaluator, Way } from './evaluators.ts';
import { Pace } from './pace.ts';
import { checkObject, checkRequest, isGuided, type SampleRequest } from './request.ts';
import { type Condition, conditionsOf, type Evaluation, type Schedule, scheduleOf, variantKey } from './schedule.ts';
import { shardRange } from './shards.ts';
import type { Solve } from './solvers/integrate.ts';
import type { Batch } from './solvers/staged.ts';
import { walk } from './solvers/walk.ts';
import { Workspace } from './workspace.ts';

/** Sampled pictures or latents. */
export interface Samples {
  /** [samples, H, W, C]; data lie in [-1, 1], samples about there. */
  readonly values: Float32Array;
  readonly shape: readonly [number, number, number, number];
  /** Which of the samples asked for they are, [from, to): all, or those of the part. */
  readonly range: readonly [from: number, to: number];
  /** How each batch came to the end, in order: times at which its accepted steps ended, and how many steps were rejected. */
  readonly solves: readonly Solve[];
  /** Evaluations of the network, of all batches together. */
  readonly evaluations: number;
  /** Most bytes of the engine's buffers that were alive at once, once what an earlier request had left and this one does not need was freed. */
  readonly peakBytes: number;
}

/** JAX's starting noise for samples `first` and following; its generator is loaded when it is asked for. */
async function jaxStart(seed: number, shape: readonly [number, number], first: number): Promise<Float32Array> {
  const { jaxNoise } = await import('./on-request.ts');
  return jaxNoise(seed, 0, shape, first);
}

/** Most samples whose velocities at `slots` stages one binding can hold, of `pixels` numbers each. */
const mostStaged = (engine: Engine, slots: number, pixels: number): number =>
  Math.max(1, Math.floor(engine.largestBinding / (4 * pixels * slots)));

/** Bytes of tables of modulations for some rows and blocks that run, and of the weights that they replace. */
function modulationTrade(model: ResidentModel, blocks: number, rows: number): { tables: number; weights: number } {
  const { config, weights } = model;
  const at = groupIndices(config);
  const groups = [at.condition, at.headModulation, ...Array.from({ length: blocks }, (_, i) => at.modulation(i))];
  return {
    tables: 4 * rows * config.width * (6 * blocks + 4),
    weights: groups.reduce((sum, g) => sum + weights.bytesOf(g), 0),
  };
}

/** How a sampler uses memory. */
export interface SamplerOptions {
  /** Most samples computed at once; fewer where the device could not bind their activations. Default 16. */
  readonly batch?: number;
  /**
   * Whether modulations are computed before the loop (sampling/modulation-tables.ts). Default: where the tables are smaller than the
   * weights; not with adaptive solvers, where they would be computed before each step.
   */
  readonly ahead?: boolean;
  /** Most blocks whose weights are on the GPU at a time; implies `ahead`. Default: all that run. */
  readonly residentBlocks?: number;
  /** Told after each compiled pipeline. */
  readonly onCompile?: (progress: { compiled: number; pipelines: number }) => void;
}

/** A request made ready: what is compiled, and whose labels are asked for. */
interface Prepared {
  readonly schedule: Schedule;
  /** By `variantKey`. */
  readonly evaluators: ReadonlyMap<string, Evaluator>;
  /** Makes resident what an evaluation needs, where that is done along the way. */
  readonly load: (evaluation: Evaluation) => Promise<void>;
  readonly batch: number;
  /** Labels that occur, each once: columns of the tables. */
  readonly distinct: readonly number[];
  readonly ahead: boolean;
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
  readonly #workspace: Workspace;
  readonly #options: SamplerOptions;
  /** Of a model that predicts noise: where its diffusion stands at a time. */
  readonly #diffusion: ((t: number) => DiffusionPoint) | null;
  #disposed = false;

  constructor(engine: Engine, model: ResidentModel, options: SamplerOptions = {}) {
    this.#engine = engine;
    this.model = model;
    this.#options = options;
    checkObject('the options', options);
    const { batch = 16, residentBlocks = 1, onCompile } = options;
    const positive = (name: string, n: number) => {
      if (!Number.isInteger(n) || n < 1) throw new ConfigError(`${name} is ${n}; it must be a positive integer`);
    };
    positive('batch', batch);
    positive('residentBlocks', residentBlocks);
    // More could not be bound, and inputs are made for all of them.
    this.batch = Math.min(batch, Math.max(1, Math.floor(engine.largestBinding / (4 * this.#pixels))));
    const { predicts, timeScale = 1 } = model.config;
    this.#diffusion = predicts === 'noise' ? linearDiffusion(timeScale) : null;
    this.#workspace = new Workspace({ engine, model, onCompile }, this.batch);
  }

  get #pixels(): number {
    const { imageSize, channels } = this.model.config;
    return imageSize ** 2 * channels;
  }

  /** Samples computed at once: `batch`, or as many as have activations that the device can bind. */
  batchFor(guided: boolean): number {
    const { config, activations } = this.model;
    // Guidance evaluates every sample with and without its label.
    const most = Math.floor(this.#engine.largestBinding / (largestActivation(config, activations) * (guided ? 2 : 1)));
    return Math.min(this.batch, Math.max(1, most));
  }

  /**
   * The program of one whole evaluation for a number of blocks that has been used: its plan and its dispatches. `late`: of a request with
   * `refresh`, the one of the steps that keep what late blocks add, or of those that reuse it.
   */
  program(blocks: number, guided = false, late?: 'kept' | 'reused'): Program | undefined {
    return this.#workspace.evaluators.find(blocks, guided, late)?.program;
  }

  /** Memory plans of the programs that make up one evaluation, as for `program`; they share slabs. */
  plans(blocks: number, guided = false, late?: 'kept' | 'reused'): readonly MemoryPlan[] {
    return this.#workspace.evaluators.find(blocks, guided, late)?.plans ?? [];
  }

  /**
   * Draws samples. Calls wait for each other, in order, and for those of other samplers of the same model.
   * @throws ConfigError for steps, blocks, labels, solver or guidance that make no sense, UsageError for other fields that are wrong or
   * missing, and where the sampler has been disposed, then or since;
   * LimitError for more samples or steps than fit: all before anything is computed; ConvergenceError where an adaptive solver does
   * not reach the end; NonFiniteError; InterruptedError.
   */
  async sample(request: SampleRequest): Promise<Samples> {
    checkRequest(request, this.model.config);
    const unlessDisposed = (cause?: unknown) => {
      if (this.#disposed) throw new UsageError('this sampler has been disposed', { cause });
    };
    unlessDisposed();
    return this.model.alone(async () => {
      unlessDisposed();
      const meter = this.#engine.memory.meterPeak();
      try {
        return await this.#sample(request, meter);
      } catch (error) {
        unlessDisposed(error);
        throw error;
      } finally {
        meter.stop();
      }
    }, request.signal);
  }

  async #sample(request: SampleRequest, meter: PeakMeter): Promise<Samples> {
    const { config } = this.model;
    const { labels, guidance = usualGuidance(config), seed = 0, first = 0 } = request;
    const rowLabels = labels.map((label) => (guidance === 0 ? config.classes : (label ?? config.classes)));
    const distinct = [...new Set(isGuided(guidance) ? [...rowLabels, config.classes] : rowLabels)];
    const prepared = await this.#prepare(scheduleOf(request, config), distinct, request, meter);
    const { schedule, batch } = prepared;
    const { inputs, noise, stages } = this.#workspace;

    const pixels = this.#pixels;
    const [begin, end] = request.shard ? shardRange(request.shard, labels.length, batch) : [0, labels.length];
    const values = new Float32Array((end - begin) * pixels);
    const solves: Solve[] = [];
    const total = schedule.evaluations === null ? null : Math.ceil((end - begin) / batch) * schedule.evaluations;
    const count = { done: 0, total };
    for (let from = begin; from < end; from += batch) {
      const part = rowLabels.slice(from, Math.min(end, from + batch));
      const samples = { rows: part.length, seed, first: first + from };
      const of = (all: Float32Array | undefined) => all?.subarray(from * pixels, (from + part.length) * pixels);
      const drawn = request.rng === 'jax' ? await jaxStart(seed, [part.length, pixels], first + from) : undefined;
      await noise.start(samples, of(request.noise) ?? drawn);
      const renoise = (index: number, t: number) => noise.again(samples, index, t, of(request.renoise?.[index]));
      const { under, settle } = this.#batch(prepared, part, request, count, renoise);
      solves.push(await walk(under, schedule, stages, request));
      await under.unlessAborted();
      values.set((await this.#engine.read(inputs.x)).subarray(0, part.length * pixels), (from - begin) * pixels);
      settle();
    }
    const bad = values.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0) {
      const how = request.steps === undefined ? schedule.solver : `T=${request.steps}`;
      throw new NonFiniteError(
        `sample ${first + begin + Math.floor(bad / pixels)} is not finite (L=${describeBlocks(schedule.blocks)}, ${how})`,
        {
          hint:
            this.model.activations === 'f16'
              ? 'features beyond 65504 do not fit f16: use activations in f32'
              : 'the weights may be damaged, or the driver wrong: `odelt verify` checks the adapter',
        },
      );
    }
    const { imageSize, channels } = config;
    const shape = [end - begin, imageSize, imageSize, channels] as const;
    return { values, shape, range: [begin, end], solves, evaluations: count.done, peakBytes: meter.bytes };
  }

  /** Frees programs, activations and inputs; the model stays. */
  dispose(): void {
    this.#disposed = true;
    this.#workspace.dispose();
  }

  /** A batch for a solver to walk with (solvers/walk.ts); `settle` once it has been read. */
  #batch(
    { schedule, evaluators, load, distinct, ahead }: Prepared,
    part: readonly number[],
    { guidance = 1, signal, onProgress }: SampleRequest,
    count: { done: number; readonly total: number | null },
    renoise: Batch['renoise'],
  ): { under: Batch & { unlessAborted(): Promise<void> }; settle: () => void } {
    const rows = part.length;
    const { classes } = this.model.config;
    const workspace = this.#workspace;
    const { inputs } = workspace;
    const pace = new Pace(this.#engine, Math.min(...[...evaluators.values()].map((e) => e.ahead)));
    let steps = { t: 0, accepted: 0, rejected: 0 };
    const tell = () => onProgress?.({ done: count.done, total: count.total, ...steps });
    const unlessAborted = () =>
      pace.unlessAborted(signal, (under) => {
        const of = count.total === null ? 'evaluations' : `of ${count.total} steps`;
        return `sampling was interrupted after ${count.done + under} ${of}`;
      });
    let conditioned: Evaluation | undefined;
    const under = {
      rows,
      renoise,
      unlessAborted,
      prepare: async (evaluations: readonly Evaluation[]) => {
        await unlessAborted();
        if (ahead) await this.#tabulate(conditionsOf(evaluations), distinct, schedule, signal);
      },
      evaluate: async (evaluation: Evaluation, sink: Sink, reached: number) => {
        await unlessAborted();
        await load(evaluation);
        const { t, blocks, guided } = evaluation;
        const asked = guided ? [...part.map(() => classes), ...part] : part;
        if (conditioned?.guided !== guided || conditioned.blocks !== blocks)
          writeConditions(this.#engine, inputs, { asked, rows, blocks, level: schedule.level });
        conditioned = evaluation;
        writeTime(this.#engine, inputs, t, this.#diffusion?.(t) ?? null);
        if (ahead) {
          const row = workspace.rowOf(evaluation);
          this.#engine.write(
            inputs.indices,
            Uint32Array.from(asked, (label) => row + distinct.indexOf(label)),
          );
        }
        await pace.submit(
          () => evaluators.get(variantKey(evaluation))!.run({ rows, guidance, ...sink }, signal),
          () => {
            count.done++;
            if (schedule.evaluations !== null && reached > steps.t)
              steps = { ...steps, t: reached, accepted: steps.accepted + 1 };
            tell();
          },
        );
      },
      judged: (progress: typeof steps) => {
        // The error has been read: all that was submitted before is done.
        pace.settle();
        steps = progress;
        tell();
      },
    };
    return { under, settle: () => pace.settle() };
  }

  /** Makes resident what the schedule needs, fills the tables if it is to have some, and compiles its evaluations. */
  async #prepare(
    schedule: Schedule,
    distinct: readonly number[],
    request: SampleRequest,
    meter: PeakMeter,
  ): Promise<Prepared> {
    const { model } = this;
    const workspace = this.#workspace;
    const { signal, keepBlocks, loadBlocks } = request;
    const { residentBlocks } = this.#options;
    const { blocks, mostBlocks, kept } = schedule;
    const running = model.blocksFor(mostBlocks);
    const adaptive = schedule.evaluations === null;
    const conditions = conditionsOf(
      adaptive ? schedule.stepAt(0, 1).evaluations : schedule.steps.flatMap(({ evaluations }) => evaluations),
    );
    const streamed = residentBlocks !== undefined && residentBlocks < running;
    const trade = modulationTrade(model, running, conditions.length * distinct.length);
    const ahead = streamed || (this.#options.ahead ?? (!adaptive && trade.tables < trade.weights));
    if (streamed && request.refresh) {
      throw new ConfigError(`refresh keeps all ${running} blocks resident; residentBlocks is ${residentBlocks}`, {
        hint: 'leave out one of them',
      });
    }
    const at = groupIndices(model.config);
    const along = (loadBlocks === 'along' || loadBlocks === 'needed') && !streamed; // streaming does so by itself
    const wanted = streamed ? [at.patches, at.head] : model.groupsFor(along ? blocksAt(blocks, 0) : mostBlocks, ahead);
    const held = streamed
      ? Array.from({ length: running }, (_, i) => at.block(i)).filter((g) => model.weights.isResident(g))
      : [];
    // What is not needed goes before more is made, so that both are never there together.
    if (!keepBlocks) workspace.tables?.trim(running);
    if (!request.renoise) workspace.noise.trim();
    const batch = Math.min(
      ...schedule.variants.map(({ guided }) => this.batchFor(guided)),
      ...(kept > 0 ? [mostStaged(this.#engine, kept, this.#pixels)] : []),
    );
    const stages = { slots: kept, batch, norms: adaptive };
    // Rows of the largest variant that has late blocks.
    const lateRows = Math.max(
      ...schedule.variants.map(({ guided, late }) => (late ? this.batchFor(guided) * (guided ? 2 : 1) : 0)),
    );
    workspace.release(stages, lateRows);
    await model.require(
      [...wanted, ...held.slice(0, residentBlocks)].filter((g) => model.weights.isResident(g)),
      { keep: keepBlocks },
    );
    meter.restart();
    if (ahead) await this.#tabulate(conditions, distinct, schedule, signal);
    await workspace.provide(stages, lateRows);
    const compiling = (async () => {
      const made = new Map<string, Evaluator>();
      for (const variant of schedule.variants) {
        const way: Way = {
          ...variant,
          batch: kept > 0 ? batch : this.batchFor(variant.guided),
          tables: ahead ? workspace.tables : null,
          stages: workspace.stages,
          lateSum: variant.late ? workspace.lateSum : null,
          ...(streamed ? { residentBlocks } : {}),
        };
        made.set(variantKey(variant), await workspace.evaluators.get(way, signal));
      }
      return made;
    })();
    // Weights arrive while shaders compile. Both have ended before an error goes on.
    const [loaded] = await Promise.allSettled([model.require(wanted, { keep: true, signal }), compiling]);
    if (loaded.status === 'rejected') throw loaded.reason;
    const load = async (evaluation: Evaluation) => {
      const keep = keepBlocks || loadBlocks === 'along';
      if (along) await model.require(model.groupsFor(evaluation.blocks, ahead), { keep, signal });
    };
    return { schedule, evaluators: await compiling, load, batch, distinct, ahead };
  }

  #tabulate(
    conditions: readonly Condition[],
    distinct: readonly number[],
    { level }: Schedule,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const told = (t: number) => this.#diffusion?.(t).told ?? t;
    return this.#workspace.tabulate(conditions, distinct, { level, told, signal });
  }
}
