/**
 * The classifier: a small network of our own that says what class a picture is of, and whose features pictures are compared by.
 * Patches become tokens, as in the transformer; a few of its blocks run, with a learned modulation in the condition's place; then
 * all tokens together become the features, and those, by one dense layer more, a score for each class.
 */
import type { Context } from '../engine/context.ts';
import { ConfigError } from '../engine/errors.ts';
import type { Tensor } from '../engine/tensor.ts';
import { addEach } from '../kernels/add.ts';
import { chunk } from '../kernels/chunk.ts';
import { gatherRows } from '../kernels/gather.ts';
import { linear } from '../kernels/matmul/linear.ts';
import { layernorm } from '../kernels/norm/layernorm.ts';
import { patchify } from '../kernels/patches.ts';
import { block } from './block.ts';
import { dense } from './condition.ts';
import { type ModelConfig, parseModelConfig } from './config.ts';
import {
  blockDrafts,
  initialValues,
  layoutOf,
  linear as linearDrafts,
  type ParamLayout,
  type ParamSet,
  patchDrafts,
  placed,
  zero,
} from './params.ts';
import type { Weights } from './weights/weights.ts';

const SHARED = ['imageSize', 'channels', 'patch', 'width', 'heads', 'depth', 'mlpRatio', 'classes'] as const;

/** A classifier's description: plain data, its fields as in `ModelConfig` but for one. */
export interface ClassifierConfig extends Pick<ModelConfig, (typeof SHARED)[number]> {
  /** Numbers that a picture becomes before the scores. */
  readonly features: number;
  /** What features are divided by when they are handed out, so that their mean square is about one. Default 1. */
  readonly scale: number;
}

/** Sizes that are not the data's. */
export const CLASSIFIER_DEFAULTS = { width: 48, heads: 3, depth: 1, mlpRatio: 3, features: 64, scale: 1 } as const;

/** Most features: the time of a Fréchet distance grows with the cube of their number. */
const MOST_FEATURES = 4096;

/** Fewest tokens of a side that a patch is to leave: about as many as the smallest network has. */
const TOKENS = 7;

/** The patch that a picture of this size is cut into by default: the largest that leaves seven by seven tokens or more. */
export function defaultPatch(imageSize: number): number {
  for (let patch = Math.max(1, Math.floor(imageSize / TOKENS)); patch > 1; patch--)
    if (imageSize % patch === 0) return patch;
  return 1;
}

/** Checks a description and fills in what may be left out (`CLASSIFIER_DEFAULTS`, and the patch). @throws ConfigError */
export function parseClassifierConfig(json: unknown): ClassifierConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError(`a classifier's description must be an object; found ${JSON.stringify(json)}`);
  }
  const { features, scale, ...given } = { ...CLASSIFIER_DEFAULTS, ...json } as Record<string, unknown>;
  const stranger = Object.keys(given).find((name) => !(SHARED as readonly string[]).includes(name));
  if (stranger !== undefined) {
    throw new ConfigError(`${stranger} is no field of a classifier's description`, {
      hint: `fields: ${[...SHARED, 'features', 'scale'].join(', ')}`,
    });
  }
  const { imageSize } = given;
  const cut = Number.isInteger(imageSize) ? { patch: defaultPatch(imageSize as number) } : {};
  const body = parseModelConfig({ ...cut, ...given });
  if (!(Number.isInteger(features) && (features as number) >= 1 && (features as number) <= MOST_FEATURES)) {
    throw new ConfigError(`a classifier's features must be an integer from 1 to ${MOST_FEATURES}, not ${features}`);
  }
  if (!(typeof scale === 'number' && Number.isFinite(scale) && scale > 0)) {
    throw new ConfigError(`a classifier's scale must be a positive number, not ${scale}`);
  }
  const { channels, patch, width, heads, depth, mlpRatio, classes } = body;
  return {
    ...{ imageSize: body.imageSize, channels, patch, width, heads, depth, mlpRatio, classes },
    features: features as number,
    scale,
  };
}

const HEAD = 'Classifier_0';

/** Every parameter of a classifier. Blocks have the transformer's names, their modulation a row of its own. */
export function classifierLayout(config: ClassifierConfig): ParamLayout {
  const { imageSize, patch, width, depth, features, classes } = config;
  const tokens = (imageSize / patch) ** 2;
  // Gates of nothing: a block begins as the identity.
  const modulation = (name: string, parts: number) => [{ name, shape: [1, parts * width], init: zero }];
  return layoutOf([
    placed('patches', patchDrafts(config)),
    ...Array.from({ length: depth }, (_, i) =>
      placed(`block${i}`, [...modulation(`DiTBlock_${i}/modulation`, 6), ...blockDrafts(i, config)]),
    ),
    placed('head', [
      ...modulation(`${HEAD}/modulation`, 2),
      ...linearDrafts(`${HEAD}/Dense_0`, tokens * width, features),
      ...linearDrafts(`${HEAD}/Dense_1`, features, classes, zero),
    ]),
  ]);
}

/** Initial parameters, by the transformer's rules; the last layer is zero. `seed` is an integer in [0, 2^32), else ConfigError. */
export const initClassifier = (config: ClassifierConfig, seed: number): ParamSet =>
  initialValues(classifierLayout(config), seed);

/** A classifier on the GPU. */
export interface ClassifierNetwork {
  readonly config: ClassifierConfig;
  readonly weights: Weights;
  /** [T, D], model/position.ts. */
  readonly positions: Tensor;
  /** [B] u32 of zeros: every sample has the same modulation, row 0. */
  readonly zeros: Tensor;
}

/** Features [B, F] of pictures [B, H, W, C] in [-1, 1]. */
export function classifierFeatures(ctx: Context, network: ClassifierNetwork, images: Tensor): Tensor {
  const { config, weights, positions, zeros } = network;
  const [rows] = images.shape;
  const modulation = (name: string) => gatherRows(ctx, weights.get(name), ctx.prefix(zeros, rows));
  const patches = patchify(ctx, images, config.patch);
  let x = addEach(ctx, linear(ctx, patches, dense(weights, 'PatchEmbed_0/Conv_0')), positions);
  const body = { config, weights };
  for (let i = 0; i < config.depth; i++) {
    x = ctx.scope(`block${i}`, () => block(ctx, body, i, x, modulation(`DiTBlock_${i}/modulation`)));
  }
  const [shift, scale] = chunk(ctx, modulation(`${HEAD}/modulation`), 2) as [Tensor, Tensor];
  const tokens = layernorm(ctx, x, shift, scale);
  const flat = ctx.reshape(tokens, [rows, (config.imageSize / config.patch) ** 2 * config.width]);
  return linear(ctx, flat, dense(weights, `${HEAD}/Dense_0`), 'gelu');
}

/** A score for each class [B, classes] from features [B, F]. */
export const classifierScores = (ctx: Context, { weights }: ClassifierNetwork, features: Tensor): Tensor =>
  linear(ctx, features, dense(weights, `${HEAD}/Dense_1`));

/** The last layer in host memory: kernel [F, classes], bias [classes]. */
export interface LastLayer {
  readonly kernel: Float32Array;
  readonly bias: Float32Array;
}

/** The names of the last layer's parameters. */
export const LAST_LAYER = { kernel: `${HEAD}/Dense_1/kernel`, bias: `${HEAD}/Dense_1/bias` } as const;

/** The class with the highest score of each row of features [rows, F], the first of equal ones: [rows]. In float64, on the host. */
export function bestClasses(features: Float32Array, { kernel, bias }: LastLayer): Uint16Array {
  const [classes, width] = [bias.length, kernel.length / bias.length];
  return Uint16Array.from({ length: features.length / width }, (_, row) => {
    let [best, most] = [0, Number.NEGATIVE_INFINITY];
    for (let c = 0; c < classes; c++) {
      let score = bias[c]!;
      for (let f = 0; f < width; f++) score += features[row * width + f]! * kernel[f * classes + c]!;
      if (score > most) [best, most] = [c, score];
    }
    return best;
  });
}
