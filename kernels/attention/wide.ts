/** Attention of one picture with one head of any width, as autoencoders have it: the weights lie whole in memory, tokens x tokens. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { lastDim, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import type { Product } from '../matmul/matmul.ts';
import { matmul } from '../matmul/sliced.ts';
import { softmax, softmaxBackward } from '../softmax.ts';

/**
 * softmax(scale * q k^T) v with one head. q, k, v, result: [1, T, C], f32, whole tensors. Takes 8 T^2 bytes meanwhile, and keeps
 * 4 T^2 of them for a gradient.
 * @throws UsageError for shapes that differ or hold more than one picture.
 */
export function wideAttention(ctx: Context, q: Tensor, k: Tensor, v: Tensor, scale: number): Tensor {
  const [batch, tokens = 0] = q.shape;
  const width = lastDim(q);
  if (batch !== 1 || [q, k, v].some((t) => shapeText(t) !== shapeText(q) || t.view || t.dtype !== 'f32')) {
    throw new UsageError(`wide attention over ${[q, k, v].map(shapeText).join(', ')}: one picture, all alike`);
  }
  const square: Shape = [1, tokens, tokens];
  const product = (a: Tensor, b: Tensor, c: Tensor, transposed: Partial<Product> = {}) =>
    matmul(ctx, {
      M: tokens,
      N: lastDim(c),
      K: transposed.transposeB ? width : tokens,
      a,
      b: rows(b),
      c,
      ...transposed,
    });
  const scores = ctx.empty('attention.scores', square);
  product(q, k, scores, { transposeB: true });
  const weights = softmax(ctx, scores, scale);
  const out = ctx.empty('attention', q.shape);
  product(weights, v, out);
  ctx.tape?.add({
    name: 'wideAttention',
    inputs: [q, k, v],
    outputs: [out],
    backward(g) {
      const dout = g.dy(0);
      if (g.needs(2)) product(weights, dout, g.out(2), { transposeA: true });
      if (!g.needs(0) && !g.needs(1)) return;
      const dweights = ctx.empty('d(attention.weights)', square);
      product(dout, v, dweights, { transposeB: true });
      const dscores = ctx.empty('d(attention.scores)', square);
      softmaxBackward(ctx, weights, dweights, scale, dscores);
      if (g.needs(0)) product(dscores, k, g.out(0));
      if (g.needs(1)) product(dscores, q, g.out(1), { transposeA: true });
    },
  });
  return out;
}

/** As a matrix. */
const rows = (t: Tensor): Tensor => ({ ...t, shape: [t.shape[1]!, lastDim(t)] as Shape });

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
