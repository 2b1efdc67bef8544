/**
 * One training step as one recorded program: noise, the objective's points and targets, length targets, forward, loss, backward and
 * AdamW (Algorithm 1).
 * The number of samples that each group of blocks runs is a symbolic scalar, so one program serves every draw of lengths. With
 * accumulation it runs once per batch; symbolic sizes of zero leave the update out until the last one.
 */

import type { Communicator } from '../cluster/communicator.ts';
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import type { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import { map, type ScalarValues, scalarInput, times } from '../engine/scalar.ts';
import { maxSize, range, reshaped, type Tensor } from '../engine/tensor.ts';
import { adamw } from '../kernels/adamw.ts';
import { addGradients, copyInto } from '../kernels/add.ts';
import { createTape } from '../kernels/derivatives.ts';
import { mse } from '../kernels/mse.ts';
import { globalNorm } from '../kernels/reduce.ts';
import type { ModelConfig } from '../model/config.ts';
import { mlpWithDropout } from '../model/dropout.ts';
import { allSpecs } from '../model/params.ts';
import { Weights } from '../model/weights/weights.ts';
import { batchScalars, type Networks, networksOf, recordPrediction, recordTargets } from './batch-loss.ts';
import type { TrainConfig } from './config.ts';
import { type Deal, dealRows } from './deal.ts';
import { Exchange } from './exchange.ts';
import type { BatchLosses } from './losses.ts';
import { factsOf } from './objectives/facts.ts';
import { warmDecay } from './schedule.ts';
import type { Division } from './share.ts';
import type { TrainState } from './state.ts';
import { type BatchValues, createInputs, freeInputs, type StepInputs, writeBatch } from './step-inputs.ts';

export interface StepResult extends BatchLosses {
  /** Of the gradient that AdamW gets: the mean over the batches of the update, known after the last; 0 before. */
  readonly gradNorm: number;
}

/** `noise` is used instead of drawing it, and only where the step was built with `givenNoise`. */
export interface StepRequest extends BatchValues {
  /** Number of the update, from 0, and its learning rate. */
  readonly index: number;
  readonly lr: number;
  /** Which of the update's `accumulate` batches this is, from 0 and in order; the last one updates. Default 0. */
  readonly part?: number;
}

/** How a step is built. */
export interface StepOptions {
  /** x0 comes from the caller. */
  readonly givenNoise?: boolean;
  /** The rows that this process trains. Default: all. */
  readonly deal?: Deal;
  /** The processes whose gradients are summed before the update. Default: none but this. */
  readonly communicator?: Communicator;
  /** Which part of the parameters this process updates, where the state is divided. Default: all. */
  readonly division?: Division | null;
  /** Least bytes of gradients that are summed at once. */
  readonly bucketBytes?: number;
  /** Whether they are summed while the backward pass goes on; false to measure what that gains. Default true. */
  readonly overlap?: boolean;
  /** Where activations lie, if other programs use the place between updates. */
  readonly arena?: Arena;
  readonly onProgress?: (p: { compiled: number; pipelines: number }) => void;
  readonly signal?: AbortSignal;
}

const NOISE_STREAM = 0x6e6f6973;

/** The buffers of a step beside its program: inputs, and gradients of one batch and, where several are accumulated, of all. */
interface Buffers {
  readonly inputs: StepInputs;
  readonly gradients: Weights;
  readonly sums: Weights | null;
}

export class TrainStep {
  readonly program: Program;
  /** Inputs and intermediate tensors by name, for tests and `verify`. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly #engine: Engine;
  readonly #buffers: Buffers;
  readonly #deal: Deal;
  readonly #givenNoise: boolean;
  /** Where there are other processes. */
  readonly #exchange: Exchange | null;

  private constructor(
    engine: Engine,
    program: Program,
    buffers: Buffers,
    tensors: Record<string, Tensor>,
    deal: Deal,
    { exchange, givenNoise }: { readonly exchange: Exchange | null; readonly givenNoise: boolean },
  ) {
    this.#engine = engine;
    this.program = program;
    this.#buffers = buffers;
    this.tensors = tensors;
    this.#deal = deal;
    this.#exchange = exchange;
    this.#givenNoise = givenNoise;
  }

  /**
   * Records and compiles the step for a model and state.
   * @throws UsageError for a state without the teacher that the objective needs; as Program.compile. Nothing stays allocated then.
   */
  static async create(
    engine: Engine,
    config: ModelConfig,
    train: TrainConfig,
    state: TrainState,
    options: StepOptions = {},
  ): Promise<TrainStep> {
    const { accumulate, objective } = train;
    const { givenNoise = false, deal = dealRows(train, config), division = null } = options;
    if (factsOf(objective).teacher && !state.teacher) {
      throw new UsageError(`the objective ${objective} needs a teacher, and the state has none`);
    }
    const zeros = (label: string) => new Weights(engine, state.params.layout, label, { kind: 'gradients' });
    const buffers = engine.memory.allOrNothing(() => ({
      inputs: createInputs(engine, config, deal),
      gradients: zeros('gradients'),
      sums: accumulate > 1 ? zeros('sums') : null,
    }));
    try {
      const networks = networksOf(config, train, state, buffers.inputs);
      const { recording, result } = record(engine, 'train', (ctx, keep) => {
        const at = { ...buffers, state, givenNoise, division };
        const tensors = recordStep(ctx, deal, networks, at);
        for (const t of Object.values(tensors)) if (!t.storage.place) keep(t);
        return tensors;
      });
      const program = await Program.compile(engine, recording, options);
      const exchange = exchangeOf(engine, program, buffers, state, options);
      return new TrainStep(engine, program, buffers, result, deal, { exchange, givenNoise });
    } catch (error) {
      free(engine, buffers);
      throw error;
    }
  }

  /** What batches are written to; other programs may use it between updates. */
  get inputs(): StepInputs {
    return this.#buffers.inputs;
  }

  /** The sum of the gradients of the last update's batches, `accumulate` times what AdamW got. */
  get total(): Weights {
    return this.#buffers.sums ?? this.#buffers.gradients;
  }

  /** Gradients of the last batch. */
  get gradients(): Weights {
    return this.#buffers.gradients;
  }

  /** How gradients are summed over processes; null where there is but this. */
  get exchange(): Exchange['plan'] | null {
    return this.#exchange?.plan ?? null;
  }

  /** The program's scalar inputs for a request. */
  scalars({ batch, index, lr, part = 0 }: Omit<StepRequest, 'images' | 'noise'>): ScalarValues {
    const { train } = this.#deal;
    const every = train.accumulate;
    const flags = { more: Number(part > 0), last: Number(part === every - 1) };
    return { ...batchScalars(train, batch, index * every + part, index), count: index + 1, lr, ...flags };
  }

  /**
   * Submits one batch, with its update if it is the last of one, and waits for its losses. Losses are of the step's own rows; the
   * gradients are of all processes.
   * @throws UsageError for noise that is given to a step that draws its own, or not given to one that does not.
   */
  async run(request: StepRequest): Promise<StepResult> {
    const { part = 0 } = request;
    if ((request.noise !== undefined) !== this.#givenNoise) {
      const [built, found] = this.#givenNoise ? ['takes its noise', 'none was'] : ['draws its noise', 'noise was'];
      throw new UsageError(`the step ${built} and ${found} given`, { hint: 'create it with givenNoise to match' });
    }
    const every = this.#deal.train.accumulate;
    writeBatch(this.#engine, this.#buffers.inputs, request);
    if (this.#exchange && part === every - 1) await this.#exchange.run(this.scalars(request));
    else this.program.run(this.scalars(request));
    const [sorted, norm] = await this.program.read(this.tensors.perSample!, this.tensors.gradNorm!);
    const perSample = Float32Array.from(request.batch.position, (at) => sorted![at]!);
    return { perSample, loss: perSample.reduce((s, x) => s + x, 0) / perSample.length, gradNorm: norm![0]! / every };
  }

  /** Frees the program, its inputs and the gradients; the state stays. */
  dispose(): void {
    this.#exchange?.dispose();
    this.program.dispose();
    free(this.#engine, this.#buffers);
  }
}

/** What goes through all processes in an update; null where there is but one. */
function exchangeOf(
  engine: Engine,
  program: Program,
  { gradients, sums }: Buffers,
  { params, ema }: TrainState,
  { communicator, division, bucketBytes, overlap }: StepOptions,
): Exchange | null {
  if (!communicator || communicator.size === 1) return null;
  const made = division && { division, sets: [params, ...(division.average ? [] : [ema])].map(({ parts }) => parts) };
  try {
    return new Exchange(engine, program, (sums ?? gradients).parts, communicator, { made, bucketBytes, overlap });
  } catch (error) {
    program.dispose();
    throw error;
  }
}

function free(engine: Engine, { inputs, gradients, sums }: Buffers): void {
  gradients.release();
  sums?.release();
  freeInputs(engine, inputs);
}

function recordStep(
  ctx: Context,
  { train, shares }: Deal,
  networks: Networks,
  at: Buffers & { state: TrainState; givenNoise: boolean; division: Division | null },
): Record<string, Tensor> {
  const { raw: student } = networks;
  const { inputs, gradients } = at;
  const drawn = at.givenNoise
    ? null
    : { seed: train.seed, stream: NOISE_STREAM, indices: inputs.pictures ?? undefined };
  const { xt, target } = recordTargets(ctx, { train, shares }, networks, inputs, drawn);

  const tape = createTape();
  for (const { name } of allSpecs(student.weights.layout)) {
    tape.watch(student.weights.get(name), gradients.get(name));
  }
  ctx.tape = tape;
  const prediction = recordPrediction(ctx, train, student, inputs, xt, {
    mlp: mlpWithDropout(student.config.dropout, {
      seed: train.seed,
      step: scalarInput('index'),
      indices: inputs.places ?? undefined,
    }),
    recompute: train.recompute === 'blocks',
  });
  const { loss, perSample } = mse(ctx, prediction, target);
  ctx.scope('backward', () => tape.backward(ctx, [[loss, inputs.one]]));
  ctx.tape = null;

  if (at.sums) accumulate(ctx, gradients, at.sums);
  const gradNorm = update(ctx, train, at.state, at.sums ?? gradients, at.division);
  return { xt, target, prediction, perSample, gradNorm };
}

/** A flat tensor that has no elements unless the flag is 1. */
const sized = (t: Tensor, flag: 'more' | 'last'): Tensor => reshaped(t, [times(scalarInput(flag, 1), maxSize(t))]);

/** Adds the gradients to the sums, which start anew where `more` is 0. */
function accumulate(ctx: Context, gradients: Weights, sums: Weights): void {
  sums.parts.forEach((sum, p) => {
    ctx.scope('accumulate', () => {
      const gradient = gradients.parts[p]!;
      // By way of a planned tensor: WebGPU lets no dispatch bind the sums to read and again to write.
      copyInto(ctx, addGradients(ctx, gradient, gradient, sized(sum, 'more'), null), sum);
    });
  });
}

/**
 * AdamW on the mean of `accumulate` gradients whose sum is given, after the last of them; of what is divided, on this process' share. The
 * norm of the sum, unclipped.
 */
function update(
  ctx: Context,
  train: TrainConfig,
  state: TrainState,
  total: Weights,
  division: Division | null,
): Tensor {
  const due = (t: Tensor) => (train.accumulate > 1 ? sized(t, 'last') : t);
  const norm = ctx.scope('norm', () => globalNorm(ctx, total.parts.map(due)));
  const count = scalarInput('count');
  const options = {
    lr: scalarInput('lr'),
    count,
    beta1: train.beta1,
    beta2: train.beta2,
    decay: train.weightDecay,
    emaDecay: train.emaWarmup ? map(count, 'ema', (n) => warmDecay(train.emaDecay, n)) : train.emaDecay,
    gradientScale: 1 / train.accumulate,
    clip: train.clip > 0 ? { norm, most: train.clip } : undefined,
  };
  state.params.parts.forEach((part, p) => {
    const share = division && division.buffers[p]!.shares[division.rank]!;
    if (share && share.end === share.first) return;
    // Of sets that are divided, the buffer is the share.
    const own = (set: Weights) => {
      const t = set.parts[p]!;
      return due(share && set.layout === state.params.layout ? range(t, share.first, share.end) : t);
    };
    const tensors = {
      params: own(state.params),
      gradient: own(total),
      m: own(state.m),
      v: own(state.v),
      ema: own(state.ema),
    };
    ctx.scope(`adamw/${part.label}`, () => adamw(ctx, tensors, options));
  });
  return norm;
}
