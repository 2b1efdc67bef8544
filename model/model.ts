/** Puts a described model with its parameters on the GPU. */
import type { Engine } from '../engine/engine.ts';
import { type ModelConfig, tokenCount } from './config.ts';
import type { Model } from './dit.ts';
import type { ParamSet } from './params.ts';
import { positionEmbedding } from './position.ts';
import { createWeights } from './weights.ts';

/** Uploads `params`; the model's buffers live until they are released. */
export function uploadModel(engine: Engine, config: ModelConfig, params: ParamSet, label = 'weights'): Model {
  return {
    config,
    weights: createWeights(engine, params.layout, label, { values: params }),
    positions: uploadPositions(engine, config),
  };
}

/** The position table [T, D] of a model. */
export function uploadPositions(engine: Engine, config: ModelConfig) {
  const side = config.imageSize / config.patch;
  const data = positionEmbedding(side, config.width);
  return engine.tensor('positions', [tokenCount(config), config.width], { kind: 'weights', data });
}
