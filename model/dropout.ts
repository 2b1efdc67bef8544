/** The MLP of a block with dropout: only training needs it, so pages that sample do not load its kernels. */
import type { Scalar } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { gatedResidual } from '../kernels/matmul/gate.ts';
import { linear } from '../kernels/matmul/linear.ts';
import { dropout } from '../kernels/random/dropout.ts';
import type { Training } from './block.ts';

/** Where masks come from. */
export interface DropoutSource {
  readonly seed: number;
  readonly step: Scalar;
  /** Of a part of a batch: the place of each row [B] in the whole. Without it a row's position is its place. */
  readonly indices?: Tensor;
}

/** Streams of dropout's masks: two per block from here on. */
const DROPOUT_STREAM = 0x64726f70;

/** `mlp` of a training mode: dropout after the hidden layer and after the output layer, at `rate`; none at 0. */
export function mlpWithDropout(rate: number, source: DropoutSource): Training['mlp'] {
  if (rate === 0) return undefined;
  return (ctx, i, x, layers, residual, gate) => {
    const random = (n: number) => ({ ...source, stream: DROPOUT_STREAM + 2 * i + n });
    const hidden = linear(ctx, x, layers.hidden, 'gelu');
    const branch = linear(ctx, dropout(ctx, hidden, rate, random(0)), layers.output);
    return gatedResidual(ctx, dropout(ctx, branch, rate, random(1)), residual, gate);
  };
}
