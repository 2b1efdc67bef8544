/**
 * The loss on pictures that are not trained on: the objective's own, forward only, with the same pictures, noise, times, labels and
 * numbers of blocks every time, so that it changes with the weights alone. Of the weights as they are and of their average; the
 * targets are the training's in both cases.
 */
import type { Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { Arena } from '../engine/memory/arena.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { mse } from '../kernels/mse.ts';
import type { ModelConfig } from '../model/config.ts';
import { drawStep } from './batch.ts';
import { batchScalars, networksOf, recordPrediction, recordTargets } from './batch-loss.ts';
import type { BatchOptions } from './batches.ts';
import type { TrainConfig } from './config.ts';
import { isPaired, type TrainingData } from './data/dataset.ts';
import type { Deal } from './deal.ts';
import { assembleDealt, gathered, readDealt } from './dealt.ts';
import { type Losses, type Part, splitLosses } from './losses.ts';
import { checkFits } from './model-for-data.ts';
import type { TrainState } from './state.ts';
import { type StepInputs, writeBatch } from './step-inputs.ts';

/** What is held out, and how often the loss on it is computed. */
export interface ValidationOptions {
  readonly data: TrainingData;
  /** Updates between validations; there is one after the last update, too. */
  readonly every: number;
  /** Pictures of one validation, rounded down to whole batches, at least one. Default 256, or all if there are fewer. */
  readonly pictures?: number;
}

/** What a validation found. */
export interface ValidationLosses {
  /** At most as many as there are: where those are fewer than a batch, some of them are in it more often than others. */
  readonly pictures: number;
  /** Of the weights as they are, and of their moving average. */
  readonly raw: Losses;
  readonly average: Losses;
}

/** Pictures of one validation where nobody says. */
const VALIDATION_PICTURES = 256;

/** Not the run's: runs of different seeds can be compared. */
const SEED = 0x76616c69;
const NOISE_STREAM = 0x766e6f69;

/** @throws ConfigError for data that do not fit the model and the training, and for numbers that are none. */
export function checkValidation(
  model: ModelConfig,
  train: { readonly data: TrainingData },
  { data, every, pictures = VALIDATION_PICTURES }: ValidationOptions,
): void {
  for (const [name, n] of Object.entries({ every, pictures })) {
    if (!(Number.isInteger(n) && n >= 1))
      throw new ConfigError(`validation.${name} is ${n}; it must be a positive integer`);
  }
  checkFits(model, data);
  if (isPaired(data) === isPaired(train.data)) return;
  const words = (paired: boolean) => (paired ? 'has noise for each picture' : 'has none');
  throw new ConfigError(
    `'${train.data.name}' ${words(isPaired(train.data))}, '${data.name}' of the validation ${words(isPaired(data))}`,
    { hint: 'validate on data of the same kind as those that are trained on' },
  );
}

/** What a validation shares with the training step, whose rows it has. */
interface Shared {
  readonly inputs: StepInputs;
  readonly arena: Arena;
  readonly deal: Deal;
  readonly communicator: Communicator;
  readonly onBadPicture?: BatchOptions['onBadPicture'];
  readonly signal?: AbortSignal;
}

interface Forward {
  readonly program: Program;
  readonly perSample: Tensor;
}

export class Validation {
  readonly #engine: Engine;
  readonly #model: ModelConfig;
  readonly #train: TrainConfig;
  readonly #options: ValidationOptions;
  readonly #shared: Shared;
  readonly #programs: readonly Forward[];

  private constructor(
    engine: Engine,
    model: ModelConfig,
    train: TrainConfig,
    options: ValidationOptions,
    shared: Shared,
    programs: readonly Forward[],
  ) {
    this.#engine = engine;
    this.#model = model;
    this.#train = train;
    this.#options = options;
    this.#shared = shared;
    this.#programs = programs;
  }

  /** Records and compiles. Uses the training step's inputs and activations, between updates. @throws as Program.compile */
  static async create(
    engine: Engine,
    model: ModelConfig,
    train: TrainConfig,
    state: TrainState,
    shared: Shared,
    options: ValidationOptions,
  ): Promise<Validation> {
    const { inputs, deal } = shared;
    const networks = networksOf(model, train, state, inputs);
    const drawn = isPaired(options.data)
      ? null
      : { seed: SEED, stream: NOISE_STREAM, indices: inputs.pictures ?? undefined };
    const programs: Forward[] = [];
    try {
      for (const which of ['raw', 'average'] as const) {
        const { recording, result: perSample } = record(engine, `validation/${which}`, (ctx, keep) => {
          const { xt, target } = recordTargets(ctx, deal, networks, inputs, drawn);
          const losses = mse(ctx, recordPrediction(ctx, deal.train, networks[which], inputs, xt), target);
          keep(losses.perSample);
          return losses.perSample;
        });
        programs.push({ program: await Program.compile(engine, recording, shared), perSample });
      }
    } catch (error) {
      for (const { program } of programs) program.dispose();
      throw error;
    }
    return new Validation(engine, model, train, options, shared, programs);
  }

  /**
   * The losses after `update` updates, of all processes' rows and the same for all of them; null where `signal` of one aborts meanwhile.
   * @throws what the data set's reader throws, on all processes; ClusterError
   */
  async losses(update: number, signal?: AbortSignal): Promise<ValidationLosses | null> {
    const [model, train, { data, pictures = VALIDATION_PICTURES }] = [this.#model, this.#train, this.#options];
    const { deal, inputs, communicator, onBadPicture } = this.#shared;
    const rows = deal.rows.length;
    const size = model.imageSize ** 2 * model.channels;
    const images = new Float32Array(rows * size);
    const noise = isPaired(data) ? new Float32Array(images.length) : undefined;
    const labels = new Uint32Array(rows);
    const read = deal.pictures.length;
    const count = Math.max(1, Math.floor(Math.min(pictures, data.count) / train.batch));
    const found: [Part[], Part[]] = [[], []];
    const batches = readDealt(communicator, data, deal, { seed: SEED, onBadPicture });
    try {
      for (let index = 0; index < count; index++) {
        await batches.next(images.subarray(0, read * size), labels.subarray(0, read), noise?.subarray(0, read * size));
        const draws = drawStep(model, { ...train, seed: SEED }, index, update - 1);
        const { batch, places, whole } = assembleDealt(model, deal, labels, draws);
        writeBatch(this.#engine, inputs, { images, noise, batch, places });
        for (const [which, { program, perSample }] of this.#programs.entries()) {
          program.run(batchScalars(deal.train, batch, index, update - 1));
          const [sorted] = await program.read(perSample);
          const own = Float32Array.from(batch.position, (at) => sorted![at]!);
          const { stop, ...result } = await gathered(communicator, deal, own, signal?.aborted ?? false);
          if (stop) return null;
          found[which as 0 | 1].push({ batch: whole, draws, result });
        }
      }
    } finally {
      await batches.close();
    }
    const [raw, average] = found.map((parts) => splitLosses(model, train, parts)) as [Losses, Losses];
    return { pictures: Math.min(count * train.batch, data.count), raw, average };
  }

  /** Frees the programs; what they share stays. */
  dispose(): void {
    for (const { program } of this.#programs) program.dispose();
  }
}
