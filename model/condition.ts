/**
 * What a transformer is conditioned on (time, step size, label, number of blocks) and the adaLN modulations that follow from it: 6D
 * numbers per block and 2D for the head. They depend on nothing else, so sampling may compute them ahead.
 */
import type { Context } from '../engine/context.ts';
import type { Scalar } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { add } from '../kernels/add.ts';
import { silu } from '../kernels/elementwise.ts';
import { gatherRows } from '../kernels/gather.ts';
import { type LinearWeights, linear } from '../kernels/matmul/linear.ts';
import type { Projections } from '../kernels/matmul/projections.ts';
import { sinusoid } from '../kernels/sinusoid.ts';
import type { ModelConfig } from './config.ts';
import type { Weights } from './weights/weights.ts';

export interface Conditions {
  /** [B], in [0, 1]; 0 is noise. */
  readonly t: Tensor;
  /** [B], log2 of the number of steps; zeros for a model with ignoreDt. */
  readonly step: Tensor;
  /** [B] u32; `classes` is "no class". */
  readonly labels: Tensor;
}

/** Activated condition vectors [B, D]: SiLU(c) for the head, SiLU(c + length embedding) for the blocks. */
export interface Embedded {
  readonly head: Tensor;
  readonly blocks: Tensor;
}

/** Modulation of block i for the leading `rows` samples [rows, 6D], and of the head [B, 2D]. */
export interface Modulations {
  block(i: number, rows: Scalar): Tensor;
  head(): Tensor;
}

/** The weights of one dense layer by its Flax path. */
export const dense = (weights: Weights, path: string): LinearWeights => ({
  kernel: weights.blocks(`${path}/kernel`),
  bias: weights.get(`${path}/bias`),
});

/** Three dense layers by their Flax paths, as one product takes them; null where their weights do not lie side by side. */
export function denseRow(weights: Weights, paths: readonly [string, string, string]): Projections | null {
  const [kernels, biases] = ['kernel', 'bias'].map((what) =>
    weights.spaced([`${paths[0]}/${what}`, `${paths[1]}/${what}`, `${paths[2]}/${what}`]),
  );
  return kernels && biases ? { kernels, biases } : null;
}

/** What is conditioned: a network's weights, and how it takes the time. */
interface Conditioned {
  readonly config: ModelConfig;
  readonly weights: Weights;
}

/** c = time + step + label embedding; the blocks see c + length embedding where there are `lengths` [B] u32. */
export function embedConditions(
  ctx: Context,
  { config, weights }: Conditioned,
  { t, step, labels }: Conditions,
  lengths?: Tensor,
): Embedded {
  return ctx.scope('condition', () => {
    const embedder = (name: string, values: Tensor, scale?: number) => {
      const hidden = linear(ctx, sinusoid(ctx, values, scale), dense(weights, `${name}/Dense_0`), 'silu');
      return linear(ctx, hidden, dense(weights, `${name}/Dense_1`));
    };
    const row = (name: string, of: Tensor) => gatherRows(ctx, weights.get(`${name}/Embed_0/embedding`), of);
    const time = ctx.scope('time', () => embedder('TimestepEmbedder_0', t, config.timeScale));
    const size = ctx.scope('step', () => embedder('TimestepEmbedder_1', step));
    const label = ctx.scope('label', () => row('LabelEmbedder_0', labels));
    const c = ctx.scope('sum', () => add(ctx, add(ctx, time, size), label));
    const head = silu(ctx, c);
    if (!lengths) return { head, blocks: head };
    const length = ctx.scope('length', () => row('BlockEmbedder_0', lengths));
    return { head, blocks: silu(ctx, add(ctx, c, length)) };
  });
}

export const blockModulation = (ctx: Context, weights: Weights, block: number, embedded: Tensor): Tensor =>
  linear(ctx, embedded, dense(weights, `DiTBlock_${block}/Dense_0`));

export const headModulation = (ctx: Context, weights: Weights, embedded: Tensor): Tensor =>
  linear(ctx, embedded, dense(weights, 'FinalLayer_0/Dense_0'));

/** Modulations computed where they are used. */
export function modulationsOf(ctx: Context, model: Conditioned, conditions: Conditions, lengths?: Tensor): Modulations {
  const embedded = embedConditions(ctx, model, conditions, lengths);
  const { weights } = model;
  return {
    block: (i, rows) => blockModulation(ctx, weights, i, ctx.prefix(embedded.blocks, rows)),
    head: () => headModulation(ctx, weights, embedded.head),
  };
}
