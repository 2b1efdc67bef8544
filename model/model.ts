/** Puts a described model with its parameters on the GPU: all of it, or only the blocks that are to run. */
import type { Engine } from '../engine/engine.ts';
import { blocksThatRun, type ModelConfig, tokenCount } from './config.ts';
import type { Model } from './dit.ts';
import type { ParamLayout, ParamSet } from './params.ts';
import { positionEmbedding } from './position.ts';
import { Weights } from './weights.ts';

/** Uploads all `params`; the model's buffers live until they are released. */
export function uploadModel(engine: Engine, config: ModelConfig, params: ParamSet, label = 'weights'): Model {
  return {
    config,
    weights: new Weights(engine, params.layout, label, { values: params }),
    positions: uploadPositions(engine, config),
  };
}

/** The position table [T, D] of a model. */
export function uploadPositions(engine: Engine, config: ModelConfig) {
  const side = config.imageSize / config.patch;
  const data = positionEmbedding(side, config.width);
  return engine.tensor('positions', [tokenCount(config), config.width], { kind: 'weights', data });
}

/** Where the values of a group of parameters come from: memory, a file by offset, a URL by range. */
export interface GroupSource {
  readonly layout: ParamLayout;
  /** Values of one group of the layout, padding included. */
  read(group: number, signal?: AbortSignal): Promise<Float32Array>;
}

/** Parameters that are already in host memory. */
export const memorySource = (params: ParamSet): GroupSource => ({
  layout: params.layout,
  read: async (group) => params.groups[group]!,
});

/** A model of which only the embedders, the head and the blocks in use are on the GPU. */
export class ResidentModel implements Model {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly positions: Model['positions'];
  readonly #source: GroupSource;
  readonly #engine: Engine;

  constructor(engine: Engine, config: ModelConfig, source: GroupSource) {
    this.config = config;
    this.#engine = engine;
    this.#source = source;
    this.weights = new Weights(engine, source.layout, 'weights', { empty: true });
    this.positions = uploadPositions(engine, config);
  }

  /** Groups of the layout that `length` blocks need (embed, blocks, head). @throws ConfigError for a length that is not allowed. */
  groupsFor(length: number): number[] {
    const blocks = this.config.lengths ? blocksThatRun(this.config, length) : this.config.depth;
    const head = this.weights.groups.length - 1;
    return [0, ...Array.from({ length: blocks }, (_, i) => i + 1), head];
  }

  /** Makes resident what `length` blocks need, and frees the rest unless `keep`. */
  async require(length: number, options: { keep?: boolean; signal?: AbortSignal; onGroup?: (name: string) => void } = {}): Promise<void> {
    const wanted = new Set(this.groupsFor(length));
    if (!options.keep) {
      for (let g = 0; g < this.weights.groups.length; g++) if (!wanted.has(g)) this.weights.evict(g);
    }
    for (const g of wanted) {
      if (this.weights.isResident(g)) continue;
      this.weights.place(g, await this.#source.read(g, options.signal));
      options.onGroup?.(this.weights.layout.groups[g]!.name);
    }
  }

  dispose(): void {
    this.weights.release();
    this.#engine.release(this.positions);
  }
}

