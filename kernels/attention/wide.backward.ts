/** The backward of wide.ts: softmax's, between products with the transposed factors. */
import type { Derivative } from '../../engine/tape.ts';
import { softmaxBackward } from '../softmax.ts';
import { headProduct, type WideAttentionSaved } from './wide.ts';

export const wideAttentionBackward: Derivative<WideAttentionSaved> = (ctx, g, { q, k, v, weights, scale }) => {
  const dy = g.dy(0);
  if (g.needs(2)) headProduct(ctx, weights, dy, g.out(2), { transposeA: true });
  if (!g.needs(0) && !g.needs(1)) return;
  const dweights = ctx.empty('d(attention.weights)', weights.shape);
  headProduct(ctx, dy, v, dweights, { transposeB: true });
  const dscores = ctx.empty('d(attention.scores)', weights.shape);
  softmaxBackward(ctx, weights, dweights, scale, dscores);
  if (g.needs(0)) headProduct(ctx, dscores, k, g.out(0));
  if (g.needs(1)) headProduct(ctx, dscores, q, g.out(1), { transposeA: true });
};
