/** The network: a diffusion transformer (DiT) with, if configured, the length wiring of ODE_t(ODE_l). */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import type { Scalar } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { attention } from '../kernels/attention.ts';
import { chunk } from '../kernels/chunk.ts';
import { dropout } from '../kernels/dropout.ts';
import { add, addEach, silu } from '../kernels/elementwise.ts';
import { gatherRows } from '../kernels/gather.ts';
import { layernorm } from '../kernels/layernorm.ts';
import { gatedLinear, gatedResidual, linear } from '../kernels/linear.ts';
import { patchify, unpatchify } from '../kernels/patches.ts';
import { sinusoid } from '../kernels/sinusoid.ts';
import { allowedLengths, blocksThatRun, type ModelConfig } from './config.ts';
import type { Weights } from './weights.ts';

export interface VelocityInputs {
  /** [B, H, W, C]. */
  readonly x: Tensor;
  /** [B], in [0, 1]; 0 is noise. */
  readonly t: Tensor;
  /** [B], log2 of the number of steps; zeros for a model with ignoreDt. */
  readonly step: Tensor;
  /** [B] u32; `classes` is "no class". */
  readonly labels: Tensor;
}

/** How much of the network runs. Without it: all blocks in sequence, no length wiring (conventional DiT). */
export interface Depth {
  /** [B] u32: number of blocks of each sample, descending; feeds the length embedding. */
  readonly lengths: Tensor;
  /** Samples that still run in each group of blocks: those whose length exceeds the group's last block. */
  readonly rows: readonly Scalar[];
}

/** Dropout's randomness; absent at inference. */
export interface Training {
  readonly seed: number;
  readonly step: Scalar;
}

export interface Model {
  readonly config: ModelConfig;
  readonly weights: Weights;
  /** [T, D], model/position.ts. */
  readonly positions: Tensor;
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
 * The velocity [B, H, W, C] at (x, t), as the reference computes it (paper sec. 3; parity/README, "What the model does").
 * @throws UsageError when `depth` does not fit the configuration.
 */
export function velocity(
  ctx: Context,
  model: Model,
  inputs: VelocityInputs,
  depth?: Depth,
  training?: Training,
): Tensor {
  const { config, weights } = model;
  if (depth && !config.lengths) throw new UsageError('a conventional model has no selectable number of blocks');
  const dense = (name: string) => ({ kernel: weights.get(`${name}/kernel`), bias: weights.get(`${name}/bias`) });

  const embedder = (name: string, values: Tensor) =>
    linear(ctx, linear(ctx, sinusoid(ctx, values), dense(`${name}/Dense_0`), 'silu'), dense(`${name}/Dense_1`));
  const condition = ctx.scope('condition', () => {
    const time = embedder('TimestepEmbedder_0', inputs.t);
    const step = embedder('TimestepEmbedder_1', inputs.step);
    const label = gatherRows(ctx, weights.get('LabelEmbedder_0/Embed_0/embedding'), inputs.labels);
    return add(ctx, add(ctx, time, step), label);
  });
  const blockCondition = ctx.scope('condition', () => {
    if (!depth) return silu(ctx, condition);
    const length = gatherRows(ctx, weights.get('BlockEmbedder_0/Embed_0/embedding'), depth.lengths);
    return silu(ctx, add(ctx, condition, length));
  });

  let x = ctx.scope('patches', () => {
    const embedded = linear(ctx, patchify(ctx, inputs.x, config.patch), dense('PatchEmbed_0/Conv_0'));
    return addEach(ctx, embedded, model.positions);
  });

  const block = (i: number, input: Tensor) =>
    ctx.scope(`block${i}`, () => {
      const name = `DiTBlock_${i}`;
      const modulation = linear(ctx, ctx.prefix(blockCondition, input.shape[0]), dense(`${name}/Dense_0`));
      const [shift1, scale1, gate1, shift2, scale2, gate2] = chunk(ctx, modulation, 6) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const attended = ctx.scope('attention', () => {
        const h = layernorm(ctx, input, shift1, scale1);
        const k = linear(ctx, h, dense(`${name}/Dense_1`));
        const q = linear(ctx, h, dense(`${name}/Dense_2`));
        const v = linear(ctx, h, dense(`${name}/Dense_3`));
        // The reference divides by the head size, not by its square root.
        const o = attention(ctx, q, k, v, { heads: config.heads, scale: config.heads / config.width });
        return gatedLinear(ctx, o, dense(`${name}/Dense_4`), input, gate1);
      });
      return ctx.scope('mlp', () => {
        const h = layernorm(ctx, attended, shift2, scale2);
        const hidden = linear(ctx, h, dense(`${name}/MlpBlock_0/Dense_0`), 'gelu');
        const output = dense(`${name}/MlpBlock_0/Dense_1`);
        if (!training || config.dropout === 0) return gatedLinear(ctx, hidden, output, attended, gate2);
        const random = (layer: number) => ({
          seed: training.seed,
          stream: DROPOUT_STREAM + 2 * i + layer,
          step: training.step,
        });
        const branch = linear(ctx, dropout(ctx, hidden, config.dropout, random(0)), output);
        return gatedResidual(ctx, dropout(ctx, branch, config.dropout, random(1)), attended, gate2);
      });
    });

  let body: Tensor;
  if (depth) {
    const groups = groupsOf(config).slice(0, depth.rows.length);
    if (groups.length === 0) throw new UsageError('no group of blocks is to run');
    let v: Tensor | null = null;
    for (const [g, { first, last }] of groups.entries()) {
      const rows = depth.rows[g]!;
      let y = ctx.prefix(x, rows);
      for (let i = first; i <= last; i++) {
        x = y;
        y = block(i, x);
      }
      v = v ? add(ctx, v, y) : y;
      const next = depth.rows[g + 1];
      if (next !== undefined) x = add(ctx, ctx.prefix(x, next), ctx.prefix(y, next));
    }
    body = v!;
  } else {
    for (let i = 0; i < config.depth; i++) x = block(i, x);
    body = x;
  }

  return ctx.scope('head', () => {
    const modulation = linear(ctx, silu(ctx, condition), dense('FinalLayer_0/Dense_0'));
    const [shift, scale] = chunk(ctx, modulation, 2) as [Tensor, Tensor];
    const patches = linear(ctx, layernorm(ctx, body, shift, scale), dense('FinalLayer_0/Dense_1'));
    return unpatchify(ctx, patches, config.patch);
  });
}

/** Streams of dropout's masks: two per block from here on. */
const DROPOUT_STREAM = 0x64726f70;
