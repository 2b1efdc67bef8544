/** One transformer block with adaLN-Zero modulation (Peebles & Xie 2023, fig. 3), as the reference computes it. */
import type { Context } from '../engine/context.ts';
import type { Tensor } from '../engine/tensor.ts';
import { attention } from '../kernels/attention/attention.ts';
import { chunk } from '../kernels/chunk.ts';
import { gatedLinear, type LinearWeights, linear } from '../kernels/matmul/linear.ts';
import { gatedMlp } from '../kernels/matmul/mlp.ts';
import { projections } from '../kernels/matmul/projections.ts';
import { layernorm } from '../kernels/norm/layernorm.ts';
import { dense, denseRow } from './condition.ts';
import type { ModelConfig } from './config.ts';
import type { Weights } from './weights/weights.ts';

/** What is otherwise in training; absent at inference. */
export interface Training {
  /** In the place of block i's `gatedMlp` (kernels/matmul/mlp.ts): the one with dropout. */
  mlp?(
    ctx: Context,
    i: number,
    x: Tensor,
    layers: { readonly hidden: LinearWeights; readonly output: LinearWeights },
    residual: Tensor,
    gate: Tensor,
  ): Tensor;
}

/** What a block must know of its network. */
export type BlockConfig = Pick<ModelConfig, 'width' | 'heads'>;

/** Factor on the logits of attention: the reference divides them by the head size, not by its square root. */
export const attentionScale = ({ heads, width }: BlockConfig): number => heads / width;

type Six = [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];

/** As one product, unless somebody wants gradients of each or sees each. The reference makes keys first, which fixes the layers' numbers. */
function keysQueriesValues(ctx: Context, weights: Weights, block: string, h: Tensor): [Tensor, Tensor, Tensor] {
  const [keys, queries, values] = [`${block}/Dense_1`, `${block}/Dense_2`, `${block}/Dense_3`] as const;
  const row = ctx.tape || ctx.observer ? null : denseRow(weights, [keys, queries, values]);
  if (row) return projections(ctx, h, row);
  const k = ctx.scope('keys', () => linear(ctx, h, dense(weights, keys)));
  const q = ctx.scope('queries', () => linear(ctx, h, dense(weights, queries)));
  return [k, q, linear(ctx, h, dense(weights, values))];
}

/** Block i of x [B, T, D] with its modulation [B, 6D]; [B, T, D], residual connections included. */
export function block(
  ctx: Context,
  { config, weights }: { config: BlockConfig; weights: Weights },
  i: number,
  x: Tensor,
  modulation: Tensor,
  training?: Training,
): Tensor {
  const layer = (name: string) => dense(weights, `DiTBlock_${i}/${name}`);
  const [shift1, scale1, gate1, shift2, scale2, gate2] = chunk(ctx, modulation, 6) as Six;
  const attended = ctx.scope('attention', () => {
    const h = layernorm(ctx, x, shift1, scale1);
    const [k, q, v] = keysQueriesValues(ctx, weights, `DiTBlock_${i}`, h);
    const o = attention(ctx, q, k, v, { heads: config.heads, scale: attentionScale(config) });
    return gatedLinear(ctx, o, layer('Dense_4'), x, gate1);
  });
  return ctx.scope('mlp', () => {
    const h = layernorm(ctx, attended, shift2, scale2);
    const layers = { hidden: layer('MlpBlock_0/Dense_0'), output: layer('MlpBlock_0/Dense_1') };
    if (training?.mlp) return training.mlp(ctx, i, h, layers, attended, gate2);
    return gatedMlp(ctx, h, layers, attended, gate2);
  });
}
