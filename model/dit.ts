/** The network: a diffusion transformer (DiT) with, if configured, the length wiring of ODE_t(ODE_l). */
import { type Context, checkpoint } from '../engine/context.ts';
import { ConfigError, UsageError } from '../engine/errors.ts';
import type { Scalar } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { add, addEach, copyInto } from '../kernels/add.ts';
import { chunk } from '../kernels/chunk.ts';
import { velocityToward } from '../kernels/flow.ts';
import { linear } from '../kernels/matmul/linear.ts';
import { layernorm } from '../kernels/norm/layernorm.ts';
import { patchify, unpatchify } from '../kernels/patches.ts';
import { block, type Training } from './block.ts';
import { type Conditions, dense, type Modulations, modulationsOf } from './condition.ts';
import { allowedLengths, blocksThatRun, type ModelConfig, tokenCount } from './config.ts';
import type { Weights } from './weights/weights.ts';

/** Where a velocity is asked for, one row per sample. */
export interface Point {
  /** [B, H, W, C]. */
  readonly x: Tensor;
  /** [B], in [0, 1]; 0 is noise. */
  readonly t: Tensor;
}

/** What the network is evaluated at, one row per sample. */
export interface VelocityInputs extends Conditions, Point {}

/** Bytes of the largest tensor that one evaluation of one sample makes. */
export function largestActivation(config: ModelConfig, activations: Activations = 'f32'): number {
  const { width, mlpRatio, imageSize, channels } = config;
  const hidden = tokenCount(config) * mlpRatio * width * (activations === 'f16' ? 2 : 4);
  return Math.max(hidden, 6 * width * 4, imageSize ** 2 * channels * 4);
}

/** How much of the network runs. Without it: all blocks in sequence, no length wiring (conventional DiT). */
export interface Depth {
  /** [B] u32: number of blocks of each sample, descending; feeds the length embedding. */
  readonly lengths: Tensor;
  /** Samples that still run in each group of blocks: those whose length exceeds the group's last block. */
  readonly rows: readonly Scalar[];
}

/** A network on the GPU, as `velocity` takes it. */
export interface Model {
  readonly config: ModelConfig;
  readonly weights: Weights;
  /** [T, D], model/position.ts. */
  readonly positions: Tensor;
  /** How the tokens' features are stored between operations; f16 is for inference. Default f32. */
  readonly activations?: Activations;
}

/** How the tokens' features may be stored between operations; f16 is for inference. */
export const ACTIVATIONS = ['f32', 'f16'] as const;
/** One of `ACTIVATIONS`. */
export type Activations = (typeof ACTIVATIONS)[number];

/** Why a model's activations cannot be stored as f16, if they cannot: a row of features that is not whole vectors of four. */
export function unfitForHalves(config: ModelConfig): string | undefined {
  const { width, heads, mlpRatio, patch, channels } = config;
  const sizes = {
    width,
    'head size': width / heads,
    'MLP width': mlpRatio * width,
    'patch size': patch ** 2 * channels,
  };
  const odd = Object.entries(sizes).find(([, size]) => size % 4 !== 0);
  return odd && `activations in f16 need sizes that are multiples of four; the ${odd[0]} is ${odd[1]}`;
}

/** @throws ConfigError where f16 is asked for and does not fit the model. */
export function checkActivations(config: ModelConfig, activations: Activations): void {
  const reason = activations === 'f16' && unfitForHalves(config);
  if (reason) throw new ConfigError(reason, { hint: 'use activations in f32' });
}

/** Present while training. */
export interface TrainingMode extends Training {
  /** Blocks run again in the backward pass instead of keeping their activations. */
  readonly recompute?: boolean;
}

/** Groups of blocks that change the output at some allowed length, as [first, last] block. */
export function groupsOf(config: ModelConfig): { first: number; last: number }[] {
  if (!config.lengths) return [];
  const { group } = config.lengths;
  const longest = Math.max(...allowedLengths(config).map((length) => blocksThatRun(config, length)));
  return Array.from({ length: longest / group }, (_, g) => ({ first: g * group, last: (g + 1) * group - 1 }));
}

/** How many of `lengths` run each group: the rows of `Depth`, for samples sorted by descending length. */
export const rowsPerGroup = (config: ModelConfig, lengths: readonly number[]): number[] =>
  groupsOf(config).map(({ last }) => lengths.filter((b) => last < b).length);

/**
 * The velocity [B, H, W, C] at (x, t), as the reference computes it (paper sec. 3).
 * @throws UsageError when `depth` does not fit the configuration.
 */
export function velocity(
  ctx: Context,
  model: Model,
  inputs: VelocityInputs,
  depth?: Depth,
  training?: TrainingMode,
): Tensor {
  const modulations = modulationsOf(ctx, model, inputs, depth?.lengths);
  return modulatedVelocity(ctx, model, inputs, modulations, depth?.rows, { training });
}

/**
 * Groups from `from` on, whose outputs have their sum in a tensor of its own [B, T, D]: 'kept' puts it there as they run; 'reused' adds
 * what is there instead of running them, an approximation where it comes from other features.
 */
export interface LateGroups {
  readonly how: 'kept' | 'reused';
  readonly from: number;
  readonly sum: Tensor;
}

/** The velocity at a point from modulations that are already known; `rows` as in Depth, of the groups that run; `late` where there are several. */
export function modulatedVelocity(
  ctx: Context,
  model: Model,
  point: Point,
  modulations: Modulations,
  rows?: readonly Scalar[],
  { training, late }: { training?: TrainingMode; late?: LateGroups } = {},
): Tensor {
  const run = (i: number, x: Tensor) => {
    const name = `block${i}`;
    // Kept even if the block is recomputed: it is small, and a third of the block's weights go into it.
    const modulation = ctx.scope(name, () => modulations.block(i, x.shape[0]));
    const body = () => ctx.scope(name, () => block(ctx, model, i, x, modulation, training));
    return training?.recompute ? checkpoint(ctx, body) : body();
  };
  const embedded = embedPatches(ctx, model, point.x);
  return decode(
    ctx,
    model,
    rows ? wired(ctx, model.config, embedded, rows, run, late) : conventional(model.config, embedded, run),
    modulations.head(),
    () => point,
  );
}

/** Tokens [B, T, D] of images [B, H, W, C], positions added; stored as the model's activations are. */
export function embedPatches(ctx: Context, model: Model, images: Tensor): Tensor {
  const { config, weights, positions, activations } = model;
  return ctx.scope('patches', () => {
    const patches = patchify(ctx, images, config.patch);
    const layer = dense(weights, 'PatchEmbed_0/Conv_0');
    const tokens = ctx.scope('embedded', () => linear(ctx, patches, layer, 'none', activations));
    return addEach(ctx, tokens, positions);
  });
}

/**
 * Of a model that predicts data, 1 - t counts as no less than this where the velocity toward the picture is made, in training and in
 * sampling: near the end, errors of the picture would be magnified without bound (JiT, arXiv 2511.13720).
 */
const LEAST_TIME_LEFT = 0.05;

/**
 * The final layer: features [B, T, D] and their modulation [B, 2D] to the velocity [B, H, W, C]. The one place where an output that
 * is the picture becomes a velocity; only then is the point asked for that the features were made at.
 */
export function decode(
  ctx: Context,
  { config, weights }: Model,
  features: Tensor,
  modulation: Tensor,
  point: () => Point,
): Tensor {
  return ctx.scope('head', () => {
    const [shift, scale] = chunk(ctx, modulation, 2) as [Tensor, Tensor];
    const normed = layernorm(ctx, features, shift, scale);
    const layer = dense(weights, 'FinalLayer_0/Dense_1');
    const patches = ctx.scope('patches', () => linear(ctx, normed, layer, 'none', 'f32'));
    const output = unpatchify(ctx, patches, config.patch);
    if (config.predicts !== 'data') return output;
    const { x, t } = point();
    return velocityToward(ctx, x, output, t, LEAST_TIME_LEFT);
  });
}

type RunBlock = (i: number, x: Tensor) => Tensor;

function conventional(config: ModelConfig, x: Tensor, run: RunBlock): Tensor {
  for (let i = 0; i < config.depth; i++) x = run(i, x);
  return x;
}

/** Depth as an ODE: each group's last block adds its output y to the state that entered it, and to v. */
function wired(
  ctx: Context,
  config: ModelConfig,
  x: Tensor,
  rows: readonly Scalar[],
  run: RunBlock,
  late?: LateGroups,
): Tensor {
  const groups = groupsOf(config).slice(0, rows.length);
  if (groups.length === 0)
    throw new UsageError('no group of blocks is to run: the model has no length wiring, or no rows were given');
  let v: Tensor | null = null;
  let sum: Tensor | null = null;
  for (const [g, { first, last }] of groups.entries()) {
    let y = ctx.prefix(x, rows[g]!);
    for (let i = first; i <= last; i++) {
      x = y;
      y = run(i, x);
    }
    v = v ? add(ctx, v, y) : y;
    if (late && g >= late.from) sum = sum ? add(ctx, sum, y) : y;
    const next = rows[g + 1];
    if (next !== undefined) x = add(ctx, ctx.prefix(x, next), ctx.prefix(y, next));
  }
  if (late?.how === 'kept') copyInto(ctx, sum!, late.sum);
  return late?.how === 'reused' ? add(ctx, v!, late.sum) : v!;
}
