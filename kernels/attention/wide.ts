/** Attention of one picture with one head of any width, as autoencoders have it: the weights lie whole in memory, tokens x tokens. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { lastDim, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import type { Product } from '../matmul/matmul.ts';
import { matmul } from '../matmul/sliced.ts';
import { softmax } from '../softmax.ts';

/**
 * softmax(scale * q k^T) v with one head. q, k, v, result: [1, T, C], f32, whole tensors. Takes 8 T^2 bytes meanwhile, and keeps
 * 4 T^2 of them for a gradient.
 * @throws UsageError for shapes that differ or hold more than one picture.
 */
export function wideAttention(ctx: Context, q: Tensor, k: Tensor, v: Tensor, scale: number): Tensor {
  const [batch, tokens = 0] = q.shape;
  if (batch !== 1 || [q, k, v].some((t) => shapeText(t) !== shapeText(q) || t.view || t.dtype !== 'f32')) {
    throw new UsageError(`wide attention over ${[q, k, v].map(shapeText).join(', ')}: one picture, all alike`);
  }
  const scores = ctx.empty('attention.scores', [1, tokens, tokens]);
  headProduct(ctx, q, k, scores, { transposeB: true });
  const weights = softmax(ctx, scores, scale);
  const out = ctx.empty('attention', q.shape);
  headProduct(ctx, weights, v, out);
  const saved = { q, k, v, weights, scale } satisfies WideAttentionSaved;
  ctx.tape?.add({ name: 'wideAttention', inputs: [q, k, v], outputs: [out], saved });
  return out;
}

/** What the backward needs. */
export interface WideAttentionSaved {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** [1, T, T]. */
  readonly weights: Tensor;
  readonly scale: number;
}

/** A product of matrices [1, T, T] or [1, T, C], of which one factor may be transposed. */
export function headProduct(
  ctx: Context,
  a: Tensor,
  b: Tensor,
  c: Tensor,
  transposed: Pick<Product, 'transposeA' | 'transposeB'> = {},
): void {
  const matrix: Tensor = { ...b, shape: [b.shape[1]!, lastDim(b)] as Shape };
  matmul(ctx, { M: c.shape[1]!, N: lastDim(c), K: lastDim(a), a, b: matrix, c, ...transposed });
}

export const wideAttentionContract = contract<{ tokens: number; width: number }>({
  name: 'wideAttention',
  cases: [
    { tokens: 1, width: 4 },
    { tokens: 35, width: 24 },
    { tokens: 20, width: 160 },
  ],
  inputs({ tokens, width }) {
    const shape: [number, ...number[]] = [1, tokens, width];
    return { q: { shape }, k: { shape }, v: { shape } };
  },
  run: (ctx, { q, k, v }, { width }) => ({ y: wideAttention(ctx, q!, k!, v!, 1 / Math.sqrt(width)) }),
  reference({ q, k, v }, { tokens, width }) {
    const y = new Float64Array(tokens * width);
    const row = (x: Float64Array, t: number) => x.subarray(t * width, (t + 1) * width);
    for (let i = 0; i < tokens; i++) {
      const logits = Array.from({ length: tokens }, (_, j) => {
        const key = row(k!, j);
        return row(q!, i).reduce((sum, value, c) => sum + value * key[c]!, 0) / Math.sqrt(width);
      });
      const top = Math.max(...logits);
      const weights = logits.map((l) => Math.exp(l - top));
      const sum = weights.reduce((a, b) => a + b);
      weights.forEach((weight, j) => {
        for (let c = 0; c < width; c++) y[i * width + c]! += (weight / sum) * v![j * width + c]!;
      });
    }
    return { y };
  },
  differentiable: ['q', 'k', 'v'],
  reduction: ({ tokens, width }) => tokens + width,
  bench: {
    cases: [{ tokens: 256, width: 512 }],
    // As attention's.
    cost: ({ tokens, width }) => ({
      ...{ flops: 4 * tokens ** 2 * width, bytes: 16 * tokens * width },
      backward: { flops: 10 * tokens ** 2 * width, bytes: 32 * tokens * width },
    }),
  },
});
