/** Puts a described model with its parameters on the GPU: all of it, or only the blocks that are to run. */
import type { Engine } from '../engine/engine.ts';
import { blocksThatRun, type ModelConfig, tokenCount } from './config.ts';
import type { Model } from './dit.ts';
import { groupIndices, type ParamSet } from './params.ts';
import { positionEmbedding } from './position.ts';
import type { Precision } from './quantize.ts';
import type { GroupSource } from './source.ts';
import { Weights } from './weights.ts';

export { type GroupSource, memorySource } from './source.ts';

/** Uploads all `params`; the model's buffers live until they are released. A packed `precision` is for inference. */
export function uploadModel(
  engine: Engine,
  config: ModelConfig,
  params: ParamSet,
  label = 'weights',
  precision: Precision = 'f32',
): Model {
  return {
    config,
    weights: new Weights(engine, params.layout, label, { values: params, precision }),
    positions: uploadPositions(engine, config),
  };
}

/** The position table [T, D] of a model. */
export function uploadPositions(engine: Engine, config: ModelConfig) {
  const side = config.imageSize / config.patch;
  const data = positionEmbedding(side, config.width);
  return engine.tensor('positions', [tokenCount(config), config.width], { kind: 'weights', data });
}

/** A model of which only the embedders, the head and the blocks in use are on the GPU. */
export class ResidentModel implements Model {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly positions: Model['positions'];
  readonly #source: GroupSource;
  readonly #engine: Engine;
  readonly #dry: boolean;

  /**
   * `precision`: how the weights are stored on the GPU, whatever the source gives. Default f32. `dry`: allocates without reading
   * or writing values, for estimates (sampling/budget.ts).
   */
  constructor(
    engine: Engine,
    config: ModelConfig,
    source: GroupSource,
    options: { precision?: Precision; dry?: boolean } = {},
  ) {
    this.config = config;
    this.#engine = engine;
    this.#source = source;
    this.#dry = options.dry ?? false;
    this.weights = new Weights(engine, source.layout, 'weights', { empty: true, precision: options.precision });
    this.positions = uploadPositions(engine, config);
  }

  /** Blocks that `length` runs. @throws ConfigError for a length that is not allowed. */
  blocksFor(length: number): number {
    return this.config.lengths ? blocksThatRun(this.config, length) : this.config.depth;
  }

  /** Groups of the layout that `length` blocks need; without those of the condition where modulations are computed ahead. */
  groupsFor(length: number, ahead = false): number[] {
    const at = groupIndices(this.config);
    const blocks = Array.from({ length: this.blocksFor(length) }, (_, i) =>
      ahead ? [at.block(i)] : [at.modulation(i), at.block(i)],
    );
    return [at.patches, ...(ahead ? [] : [at.condition, at.headModulation]), ...blocks.flat(), at.head];
  }

  /** Makes these groups resident, and frees all others unless `keep`. */
  async require(
    groups: readonly number[],
    options: { keep?: boolean; signal?: AbortSignal; onGroup?: (name: string) => void } = {},
  ): Promise<void> {
    const wanted = new Set(groups);
    if (!options.keep) {
      for (let g = 0; g < this.weights.groups.length; g++) if (!wanted.has(g)) this.weights.evict(g);
    }
    for (const g of wanted) {
      if (this.weights.isResident(g)) continue;
      this.weights.place(g, await this.#read(g, options.signal));
      options.onGroup?.(this.weights.layout.groups[g]!.name);
    }
  }

  /** Runs `body` with one more group resident, which is freed afterwards if it was not there before. */
  async withGroup(group: number, signal: AbortSignal | undefined, body: () => Promise<void>): Promise<void> {
    if (this.weights.isResident(group)) return body();
    this.weights.place(group, await this.#read(group, signal));
    try {
      await body();
    } finally {
      this.weights.evict(group);
    }
  }

  /** Puts `to` into the buffer of `from`. */
  async exchange(from: number, to: number, signal?: AbortSignal): Promise<void> {
    this.weights.replace(from, to, await this.#read(to, signal));
  }

  async #read(group: number, signal?: AbortSignal): Promise<Float32Array | undefined> {
    return this.#dry ? undefined : this.#source.read(group, signal);
  }

  dispose(): void {
    this.weights.release();
    this.#engine.release(this.positions);
  }
}
