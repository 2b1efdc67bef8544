/**
 * A whole model on one adapter: a block, an evaluation at every number of blocks with weights in f32 and f16, a training step with all
 * blocks and with fewer for some samples, and sampling. Weights are arbitrary, as time does not depend on them.
 */

import { type AdapterDescription, describeAdapter } from '../engine/device.ts';
import type { Engine } from '../engine/engine.ts';
import { LimitError, OutOfMemoryError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { toHalf } from '../formats/half.ts';
import { createTape } from '../kernels/derivatives.ts';
import { block } from '../model/block.ts';
import { allowedLengths, type ModelConfig, tokenCount, usualSteps } from '../model/config.ts';
import { type Model, rowsPerGroup, velocity } from '../model/dit.ts';
import { groupIndices, paramLayout } from '../model/params.ts';
import type { Precision } from '../model/weights/quantize.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { formulaFill } from '../verify/formula-params.ts';
import { type ProgramTimes, type Share, sharesBy, timeDispatches } from './breakdown.ts';
import { dispatchWork } from './cost.ts';
import { type Timing, timingOf } from './harness.ts';
import { interleaveTasks, type Ratio, ratioOf, type Task } from './tasks.ts';
import type { Tracer } from './trace.ts';
import { benchTraining, type TrainingResult } from './training.bench.ts';

/** Number of Euler steps and of blocks. */
export interface Pair {
  readonly steps: number;
  readonly blocks: number;
}

/** What is measured, and who is told. */
export interface ModelBenchOptions {
  /** What the report calls the model. */
  readonly name: string;
  /** Samples at once, of blocks, evaluations and sampling. */
  readonly batches: readonly number[];
  /** Samples of a training step; none leaves training out. */
  readonly trainBatches: readonly number[];
  /** Default: few and all blocks, at 1, 4 and 16 steps. */
  readonly pairs?: readonly Pair[];
  readonly rounds: number;
  /** Where the weights come from. Default: made up. */
  readonly source?: GroupSource;
  readonly tracer?: Tracer;
  readonly signal?: AbortSignal;
  /** Told before each part. */
  readonly onPart?: (text: string) => void;
  /** Told what has been found after each part: keep it, and nothing is lost when the rest is not waited for. */
  readonly onFound?: (bench: ModelBench) => Promise<void>;
  readonly machine?: string;
  readonly note?: string;
}

/** One thing that was timed. */
export interface ModelResult {
  readonly what: 'block' | 'block and backward' | 'evaluation' | 'sampling';
  readonly batch: number;
  readonly weights: 'f32' | 'f16';
  readonly blocks: number;
  /** Of sampling. */
  readonly steps?: number;
  /** Of one run of its program; of sampling, of one step. */
  readonly dispatches: number;
  readonly seconds: Timing;
  /** Null where not all kernels have a known cost; see bench/cost.ts for which are left out of the sum. */
  readonly gflops: number | null;
}

/** A ratio that the design promises something of. */
export interface ModelRatio {
  readonly name: string;
  readonly ratio: Ratio;
  /** The ratio should be at most this. */
  readonly goal: number | null;
}

/** Where the time of one program goes. */
export interface ModelBreakdown {
  readonly what: string;
  readonly clock: ProgramTimes['clock'];
  readonly reason: string;
  readonly wallSeconds: number;
  readonly sumSeconds: number;
  readonly dispatches: number;
  readonly kernels: readonly Share[];
}

/** The whole, as data. */
export interface ModelBench {
  readonly date: string;
  readonly model: string;
  readonly config: ModelConfig;
  readonly adapter: AdapterDescription;
  readonly machine: string;
  readonly note: string;
  readonly rounds: number;
  readonly results: readonly ModelResult[];
  readonly ratios: readonly ModelRatio[];
  readonly training: readonly TrainingResult[];
  readonly breakdowns: readonly ModelBreakdown[];
  /** What the adapter had no memory for. */
  readonly missing: readonly { readonly what: string; readonly why: string }[];
}

/** Seconds from the start of a process to its first picture, which only new processes can tell (cli/bench-model.ts). */
export interface FirstSamples extends Pair {
  readonly runs: number;
  readonly cold: number;
  readonly warm: number;
  /** The second request of a process. */
  readonly again: number;
  /** What could not be had as cold as it should be. */
  readonly note: string;
}

/**
 * Weights of a standard deviation of about 0.02, made at the speed of memory: the same few thousand again and again; as floats or, as
 * packing those of a large model takes longer than to measure it, as halves.
 */
export function patternSource(config: ModelConfig, precision: 'f32' | 'f16' = 'f32'): GroupSource {
  const layout = paramLayout(config);
  const floats = new Float32Array(4096);
  formulaFill(floats, 1, 1, 0.02 * Math.sqrt(3));
  const pattern = precision === 'f16' ? toHalf(floats) : floats;
  return {
    layout,
    bytesOf: (group) => pattern.BYTES_PER_ELEMENT * layout.groups[group]!.length,
    read: async (group) => {
      const { length } = layout.groups[group]!;
      const values = precision === 'f16' ? new Uint16Array(length) : new Float32Array(length);
      for (let at = 0; at < length; at += pattern.length) {
        values.set(pattern.subarray(0, Math.min(pattern.length, length - at)), at);
      }
      return values;
    },
  };
}

/** Few and all blocks, at 1, 4 and 16 steps, or the model's finest. */
export function defaultPairs(config: ModelConfig): Pair[] {
  const lengths = allowedLengths(config);
  const [few, all] = [lengths[0]!, lengths.at(-1)!];
  const pairs = [few, all].flatMap((blocks) => usualSteps(config, [1, 4]).map((steps) => ({ steps, blocks })));
  const [most] = usualSteps(config, [16]) as [number];
  return [...new Map([...pairs, { steps: most, blocks: all }].map((p) => [`${p.steps}/${p.blocks}`, p])).values()];
}

/**
 * Measures a model. What the adapter has no memory for is left out and said in `missing`.
 * @throws InterruptedError, DeviceLostError.
 */
export async function benchModel(engine: Engine, config: ModelConfig, options: ModelBenchOptions): Promise<ModelBench> {
  const { machine = 'unknown', note = '', rounds, onPart } = options;
  const found: Found = { results: [], ratios: [], training: [], breakdowns: [], missing: [] };
  const date = new Date().toISOString().slice(0, 10);
  const adapter = describeAdapter(engine.device);
  const report = (): ModelBench => ({ date, model: options.name, config, adapter, machine, note, rounds, ...found });
  const fitting = async (what: string, body: () => Promise<void>) => {
    onPart?.(what);
    try {
      await body();
    } catch (error) {
      if (!(error instanceof OutOfMemoryError || error instanceof LimitError)) throw error;
      found.missing.push({ what, why: error.message });
    }
    await options.onFound?.(report());
  };
  const source = options.source ?? patternSource(config);
  // Once for all batches: to make and load the weights of a large model takes longer than to run it.
  const owned = new Owned();
  const models: Models = new Map();
  try {
    for (const weights of ['f32', 'f16'] as const) {
      await fitting(`weights in ${weights}`, async () => {
        const from = options.source ?? patternSource(config, weights);
        models.set(weights, await wholeModel(engine, config, from, weights, owned, options.signal));
      });
    }
    for (const batch of models.has('f32') ? options.batches : []) {
      await fitting(`evaluations, batch ${batch}`, () => forwards(engine, config, models, batch, options, found));
      await fitting(`sampling, batch ${batch}`, () => sampling(engine, config, models, batch, options, found));
    }
  } finally {
    owned.free();
  }
  for (const batch of options.trainBatches) {
    await fitting(`training, batch ${batch}`, async () => {
      const { result, times } = await benchTraining(engine, config, source, batch, options);
      found.training.push(result);
      if (batch === options.trainBatches.at(-1)) {
        found.breakdowns.push(breakdownOf(`training step, batch ${batch}, all blocks`, times));
      }
    });
  }
  return report();
}

/** Whole, by how their weights are stored; f16 may not have fitted. */
type Models = Map<'f32' | 'f16', ResidentModel>;

interface Found {
  readonly results: ModelResult[];
  readonly ratios: ModelRatio[];
  readonly training: TrainingResult[];
  readonly breakdowns: ModelBreakdown[];
  readonly missing: { what: string; why: string }[];
}

const breakdownOf = (what: string, times: ProgramTimes): ModelBreakdown => {
  const { clock, reason, wallSeconds, sumSeconds, dispatches } = times;
  return { what, clock, reason, wallSeconds, sumSeconds, dispatches: dispatches.length, kernels: sharesBy(dispatches) };
};

/** A program to time, and what it is. */
interface Part extends Pick<ModelResult, 'what' | 'weights' | 'blocks'> {
  readonly program: Program;
}

/** What lives as long as some programs: freed together, in reverse, whatever has happened. */
class Owned {
  readonly #release: (() => void)[] = [];
  add<T>(thing: T, release: (thing: T) => void): T {
    this.#release.push(() => release(thing));
    return thing;
  }
  free(): void {
    for (const release of this.#release.reverse()) release();
  }
}

const asTask = ({ program }: Part): Task => ({ run: () => program.run(), queues: true });

async function forwards(
  engine: Engine,
  config: ModelConfig,
  models: Models,
  batch: number,
  options: ModelBenchOptions,
  found: Found,
): Promise<void> {
  const { rounds, signal, tracer } = options;
  const owned = new Owned();
  try {
    const own = (label: string, shape: Tensor['shape'], dtype: 'f32' | 'u32' = 'f32') =>
      owned.add(engine.tensor(label, shape, { dtype }), (t) => engine.release(t));
    const f32 = models.get('f32')!;
    const parts = await blockParts(engine, f32, batch, own, owned);
    const longest = allowedLengths(config).at(-1)!;
    for (const blocks of allowedLengths(config)) {
      for (const [weights, model] of models) {
        const make = () => evaluation(engine, model, batch, blocks, own);
        const traced = tracer && blocks === longest && weights === 'f32' && batch === options.batches[0];
        const name = `evaluation, L=${blocks}, batch ${batch}`;
        const program = await (traced ? tracer.span(`${name}: record and compile`, make) : make());
        owned.add(program, (p) => p.dispose());
        parts.push({ what: 'evaluation', weights, blocks, program });
        if (!traced) continue;
        const whole = async () => {
          program.run();
          await engine.idle();
        };
        await tracer.span(`${name}: first run`, whole);
        await tracer.span(`${name}: run`, whole);
        await tracer.profile(name, program);
      }
    }
    const seconds = await interleaveTasks(engine, parts.map(asTask), rounds, signal);
    parts.forEach((part, i) => void found.results.push(resultOf(part, batch, seconds[i]!)));
    const evaluated = (weights: string, blocks: number) =>
      seconds[parts.findIndex((p) => p.what === 'evaluation' && p.weights === weights && p.blocks === blocks)]!;
    if (models.has('f16')) found.ratios.push(...evaluationRatios(config, batch, evaluated));
    if (batch === options.batches.at(-1)) {
      const { program } = parts.find((p) => p.weights === 'f32' && p.what === 'evaluation' && p.blocks === longest)!;
      const times = await timeDispatches(engine, program, { signal });
      found.breakdowns.push(breakdownOf(`evaluation, L=${longest}, batch ${batch}, f32 weights`, times));
    }
  } finally {
    owned.free();
  }
}

async function wholeModel(
  engine: Engine,
  config: ModelConfig,
  source: GroupSource,
  precision: Precision,
  owned: Owned,
  signal: AbortSignal | undefined,
): Promise<ResidentModel> {
  const model = owned.add(new ResidentModel(engine, config, source, { precision }), (m) => m.dispose());
  await model.require(
    source.layout.groups.map((_, g) => g),
    { signal },
  );
  return model;
}

type Own = (label: string, shape: Tensor['shape'], dtype?: 'f32' | 'u32') => Tensor;

/** One block, and one block with the gradients of its input, its modulation and all its weights. */
async function blockParts(engine: Engine, model: Model, batch: number, own: Own, owned: Owned): Promise<Part[]> {
  const { config, weights } = model;
  const x = own('x', [batch, tokenCount(config), config.width]);
  const modulation = own('modulation', [batch, 6 * config.width]);
  const dy = own('dy', x.shape);
  engine.write(x, patterned(batch * tokenCount(config) * config.width));
  engine.write(dy, patterned(batch * tokenCount(config) * config.width));
  const forward = await Program.compile(
    engine,
    record(engine, 'block', (ctx, keep) => keep(block(ctx, model, 0, x, modulation))).recording,
  );
  owned.add(forward, (p) => p.dispose());
  const { specs } = weights.layout.groups[groupIndices(config).block(0)]!;
  const watched = [x, modulation, ...specs.map(({ name }) => weights.get(name))];
  const gradients = watched.map((t) => own(`d(${t.label})`, t.shape));
  const backward = await Program.compile(
    engine,
    record(engine, 'block and backward', (ctx) => {
      const tape = createTape();
      for (const [i, t] of watched.entries()) tape.watch(t, gradients[i]!);
      ctx.tape = tape;
      const y = block(ctx, model, 0, x, modulation);
      tape.backward(ctx, [[y, dy]]);
    }).recording,
  );
  owned.add(backward, (p) => p.dispose());
  return [
    { what: 'block', weights: 'f32', blocks: 1, program: forward },
    { what: 'block and backward', weights: 'f32', blocks: 1, program: backward },
  ];
}

function patterned(size: number): Float32Array {
  const values = new Float32Array(size);
  formulaFill(values, 2, 1, 1);
  return values;
}

/** The network at some number of blocks, modulations included. */
function evaluation(engine: Engine, model: Model, batch: number, blocks: number, own: Own): Promise<Program> {
  const { config } = model;
  const { imageSize, channels } = config;
  const inputs = {
    x: own('images', [batch, imageSize, imageSize, channels]),
    t: own('t', [batch]),
    step: own('step', [batch]),
    labels: own('labels', [batch], 'u32'),
  };
  engine.write(inputs.x, patterned(batch * imageSize ** 2 * channels));
  const lengths = own('lengths', [batch], 'u32');
  engine.write(lengths, new Uint32Array(batch).fill(blocks));
  const rows = rowsPerGroup(config, [blocks]).filter((n) => n > 0);
  const depth = config.lengths ? { lengths, rows: rows.map(() => batch) } : undefined;
  const name = `evaluation L=${blocks} ${model.weights.precision}`;
  const { recording } = record(engine, name, (ctx, keep) => keep(velocity(ctx, model, inputs, depth)));
  return Program.compile(engine, recording);
}

function resultOf({ what, weights, blocks, program }: Part, batch: number, seconds: readonly number[]): ModelResult {
  const spread = timingOf(seconds);
  const flops = program.nodes.reduce((sum, node) => sum + (dispatchWork(node).flops ?? 0), 0);
  const gflops = flops / spread.median / 1e9;
  return { what, batch, weights, blocks, dispatches: program.dispatches, seconds: spread, gflops };
}

/** A third of the blocks should cost little more than a third of the time, and f16 weights no more than f32 ones. */
function evaluationRatios(
  config: ModelConfig,
  batch: number,
  seconds: (weights: string, blocks: number) => readonly number[],
): ModelRatio[] {
  const lengths = allowedLengths(config);
  const [few, all] = [lengths[0]!, lengths.at(-1)!];
  const ratios: ModelRatio[] = [];
  for (const weights of few === all ? [] : ['f32', 'f16']) {
    const goal = few * 3 === all ? 0.35 : null;
    const ratio = ratioOf(seconds(weights, few), seconds(weights, all));
    ratios.push({ name: `evaluation, batch ${batch}, ${weights}: L=${few} over L=${all}`, ratio, goal });
  }
  for (const blocks of lengths) {
    const ratio = ratioOf(seconds('f16', blocks), seconds('f32', blocks));
    ratios.push({ name: `evaluation, batch ${batch}, L=${blocks}: f16 over f32 weights`, ratio, goal: 1 });
  }
  return ratios;
}

async function sampling(
  engine: Engine,
  config: ModelConfig,
  models: Models,
  batch: number,
  options: ModelBenchOptions,
  found: Found,
): Promise<void> {
  const { rounds, signal, pairs = defaultPairs(config) } = options;
  const owned = new Owned();
  try {
    const model = models.get('f32')!;
    // All requests keep their blocks on the GPU: what is timed is sampling, not loading.
    const sampler = owned.add(new Sampler(engine, model, { batch, ahead: false }), (s) => s.dispose());
    const labels = usualLabels(config, batch);
    const tasks = pairs.map(
      ({ steps, blocks }): Task => ({ run: () => sampler.sample({ labels, steps, blocks, signal, keepBlocks: true }) }),
    );
    const seconds = await interleaveTasks(engine, tasks, rounds, signal);
    for (const [i, { steps, blocks }] of pairs.entries()) {
      const { dispatches } = sampler.program(blocks)!;
      const spread = timingOf(seconds[i]!);
      const rest = { batch, weights: 'f32', blocks, steps, dispatches, seconds: spread, gflops: null } as const;
      found.results.push({ what: 'sampling', ...rest });
    }
  } finally {
    owned.free();
  }
}
