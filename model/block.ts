/** One transformer block with adaLN-Zero modulation (Peebles & Xie 2023, fig. 3), as the reference computes it. */
import type { Context } from '../engine/context.ts';
import type { Scalar } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { attention } from '../kernels/attention/attention.ts';
import { chunk } from '../kernels/chunk.ts';
import { gatedLinear, gatedResidual, linear } from '../kernels/matmul/linear.ts';
import { gatedMlp } from '../kernels/matmul/mlp.ts';
import { layernorm } from '../kernels/norm/layernorm.ts';
import { dropout } from '../kernels/random/dropout.ts';
import { dense } from './condition.ts';
import type { ModelConfig } from './config.ts';
import type { Weights } from './weights/weights.ts';

/** Dropout's randomness; absent at inference. */
export interface Training {
  readonly seed: number;
  readonly step: Scalar;
  /** Of a part of a batch: the place of each row [B] in the whole. Without it a row's position is its place. */
  readonly indices?: Tensor;
}

/** What a block must know of its network. */
export type BlockConfig = Pick<ModelConfig, 'width' | 'heads' | 'dropout'>;

/** Factor on the logits of attention: the reference divides them by the head size, not by its square root. */
export const attentionScale = ({ heads, width }: Pick<BlockConfig, 'heads' | 'width'>): number => heads / width;

type Six = [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];

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
    // The reference makes keys before queries, which fixes the layers' numbers.
    const k = ctx.scope('keys', () => linear(ctx, h, layer('Dense_1')));
    const q = ctx.scope('queries', () => linear(ctx, h, layer('Dense_2')));
    const v = linear(ctx, h, layer('Dense_3'));
    const o = attention(ctx, q, k, v, { heads: config.heads, scale: attentionScale(config) });
    return gatedLinear(ctx, o, layer('Dense_4'), x, gate1);
  });
  return ctx.scope('mlp', () => {
    const h = layernorm(ctx, attended, shift2, scale2);
    const layers = { hidden: layer('MlpBlock_0/Dense_0'), output: layer('MlpBlock_0/Dense_1') };
    if (!training || config.dropout === 0) return gatedMlp(ctx, h, layers, attended, gate2);
    const { seed, step, indices } = training;
    const random = (n: number) => ({ seed, step, indices, stream: DROPOUT_STREAM + 2 * i + n });
    const hidden = linear(ctx, h, layers.hidden, 'gelu');
    const branch = linear(ctx, dropout(ctx, hidden, config.dropout, random(0)), layers.output);
    return gatedResidual(ctx, dropout(ctx, branch, config.dropout, random(1)), attended, gate2);
  });
}

/** Streams of dropout's masks: two per block from here on. */
const DROPOUT_STREAM = 0x64726f70;
