/** Puts a described model with its parameters on the GPU: all of it, or only the blocks that are to run. */
import { unlessAborted } from '../../engine/abort.ts';
import type { Engine } from '../../engine/engine.ts';
import { blocksThatRun, type ModelConfig } from '../config.ts';
import { type Activations, checkActivations, type Model } from '../dit.ts';
import { groupIndices, type ParamSet } from '../params.ts';
import { positionEmbedding } from '../position.ts';
import type { GroupValues, Precision } from './quantize.ts';
import type { GroupSource } from './source.ts';
import { Weights } from './weights.ts';

/** How numbers are stored on the GPU. Anything but f32 is for inference. Default f32. */
export interface Storing {
  readonly precision?: Precision;
  readonly activations?: Activations;
}

/**
 * Uploads all `params`; the model's buffers live until they are released.
 * @throws ConfigError as checkActivations, and as Weights; nothing is allocated then.
 */
export function uploadModel(engine: Engine, config: ModelConfig, params: ParamSet, options: Storing = {}): Model {
  const { precision, activations = 'f32' } = options;
  checkActivations(config, activations);
  return engine.memory.allOrNothing(() => ({
    config,
    weights: new Weights(engine, params.layout, 'weights', { values: params, precision }),
    positions: uploadPositions(engine, config),
    activations,
  }));
}

/** The position table [T, D] of a model. */
export function uploadPositions(engine: Engine, { imageSize, patch, width }: Tokens) {
  const side = imageSize / patch;
  return engine.tensor('positions', [side ** 2, width], { kind: 'weights', data: positionEmbedding(side, width) });
}

type Tokens = Pick<ModelConfig, 'imageSize' | 'patch' | 'width'>;

/** Blocks that `length` runs. @throws ConfigError for a length that is not allowed. */
const blocksFor = (config: ModelConfig, length: number): number =>
  config.lengths ? blocksThatRun(config, length) : config.depth;

/** Groups of the layout that `length` blocks need; without those of the condition where modulations are computed ahead. */
export function groupsFor(config: ModelConfig, length: number, ahead = false): number[] {
  const at = groupIndices(config);
  const blocks = Array.from({ length: blocksFor(config, length) }, (_, i) =>
    ahead ? [at.block(i)] : [at.modulation(i), at.block(i)],
  );
  return [at.patches, ...(ahead ? [] : [at.condition, at.headModulation]), ...blocks.flat(), at.head];
}

/**
 * A model of which only the embedders, the head and the blocks in use are on the GPU. Several samplers may share one: they wait for each
 * other, as the weights that one frees another may need. Those that are to draw at the same time want a model each.
 */
export class ResidentModel implements Model {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly positions: Model['positions'];
  readonly activations: Activations;
  readonly #source: GroupSource;
  readonly #engine: Engine;
  readonly #dry: boolean;
  /** Ends with the last of those who asked for the model. */
  #last: Promise<void> = Promise.resolve();

  /**
   * `precision`: how the weights are stored on the GPU, whatever the source gives. Default f32. `dry`: allocates without reading
   * or writing values, for estimates (sampling/budget.ts).
   */
  constructor(engine: Engine, config: ModelConfig, source: GroupSource, options: Storing & { dry?: boolean } = {}) {
    this.config = config;
    this.activations = options.activations ?? 'f32';
    checkActivations(config, this.activations);
    this.#engine = engine;
    this.#source = source;
    this.#dry = options.dry ?? false;
    this.weights = new Weights(engine, source.layout, 'weights', { empty: true, precision: options.precision });
    this.positions = uploadPositions(engine, config);
  }

  /** Blocks that `length` runs. @throws ConfigError for a length that is not allowed. */
  blocksFor(length: number): number {
    return blocksFor(this.config, length);
  }

  /** See `groupsFor`. */
  groupsFor(length: number, ahead = false): number[] {
    return groupsFor(this.config, length, ahead);
  }

  /**
   * Runs `body` while nobody else has the model: those who ask for it by `alone` wait for each other, in order. Not to be asked for
   * within `body`.
   * @throws InterruptedError where `signal` ends the waiting, and whatever `body` throws.
   */
  alone<T>(body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const turn = unlessAborted(this.#last, signal, 'waiting for the model was interrupted').then(body);
    // Who comes next waits for those before, too: this one may have given up waiting.
    this.#last = Promise.allSettled([this.#last, turn]).then(() => {});
    return turn;
  }

  /**
   * Makes these groups resident, one after another, and frees all others unless `keep`. Where it throws, those that were
   * done stay resident.
   * @throws OutOfMemoryError, NonFiniteError (see Weights.place), and whatever the source throws.
   */
  async require(groups: readonly number[], options: { keep?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const wanted = new Set(groups);
    if (!options.keep) {
      for (let g = 0; g < this.weights.layout.groups.length; g++) if (!wanted.has(g)) this.weights.evict(g);
    }
    for (const g of wanted) {
      if (!this.weights.isResident(g)) await this.#place(g, options.signal);
    }
  }

  /** Runs `body` with one more group resident, which is freed afterwards if it was not there before. @throws as `require`. */
  async withGroup(group: number, signal: AbortSignal | undefined, body: () => Promise<void>): Promise<void> {
    if (this.weights.isResident(group)) return body();
    await this.#place(group, signal);
    try {
      await body();
    } finally {
      this.weights.evict(group);
    }
  }

  /** Puts `to` into the buffer of `from`. Where it throws, `to` is not resident, nor is `from` once its buffer was taken. */
  async exchange(from: number, to: number, signal?: AbortSignal): Promise<void> {
    const values = await this.#read(to, signal);
    await this.#wholly(to, () => this.weights.replace(from, to, values));
  }

  async #place(group: number, signal?: AbortSignal): Promise<void> {
    const values = await this.#read(group, signal);
    await this.#wholly(group, () => this.weights.place(group, values));
  }

  /** Makes a group resident by `put`, or leaves it without a buffer and throws. */
  async #wholly(group: number, put: () => void): Promise<void> {
    try {
      put();
      await this.#engine.allocated();
    } catch (error) {
      this.weights.evict(group);
      throw error;
    }
  }

  async #read(group: number, signal?: AbortSignal): Promise<GroupValues | undefined> {
    return this.#dry ? undefined : this.#source.read(group, signal);
  }

  /** Frees everything of the model on the GPU; its source is the caller's to close. */
  dispose(): void {
    this.weights.release();
    this.#engine.release(this.positions);
  }
}
