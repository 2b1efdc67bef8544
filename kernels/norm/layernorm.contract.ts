/** What layer norm must compute: reference, cases and their cost. */
import { chunk } from '../chunk.ts';
import { contract } from '../contract.ts';
import { EPS, layernorm } from './layernorm.ts';

export const layernormContract = contract<{ batch: number; tokens: number; width: number }>({
  name: 'layernorm',
  cases: [
    { batch: 1, tokens: 1, width: 4 },
    { batch: 2, tokens: 17, width: 60 },
    { batch: 3, tokens: 5, width: 97 },
    { batch: 1, tokens: 3, width: 22 },
  ],
  inputs: ({ batch, tokens, width }) => ({
    x: { shape: [batch, tokens, width] },
    modulation: { shape: [batch, 2 * width] },
  }),
  run(ctx, { x, modulation }) {
    const [shift, scale] = chunk(ctx, modulation!, 2);
    return { y: layernorm(ctx, x!, shift!, scale!) };
  },
  reference({ x, modulation }, { batch, tokens, width }) {
    const y = new Float64Array(batch * tokens * width);
    for (let r = 0; r < batch * tokens; r++) {
      const b = Math.floor(r / tokens);
      const row = x!.subarray(r * width, (r + 1) * width);
      const mean = row.reduce((s, v) => s + v, 0) / width;
      const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
      for (let c = 0; c < width; c++) {
        const xhat = (row[c]! - mean) / Math.sqrt(variance + EPS);
        y[r * width + c] = xhat * (1 + modulation![(2 * b + 1) * width + c]!) + modulation![2 * b * width + c]!;
      }
    }
    return { y };
  },
  differentiable: ['x', 'modulation'],
  reduction: ({ tokens, width }) => Math.max(tokens, width),
  bench: {
    cases: [{ batch: 64, tokens: 49, width: 96 }],
    block: ({ batch, tokens, width }) => [{ batch, tokens, width }],
    // Per element, forward: the sum; difference, its square, their sum; the product with 1 / deviation; scale and shift. Backward: with
    // xhat (2), dshift (1) and dscale (2); g = dy (1 + scale) (1), the means of g and g xhat (3), and (g - mean - xhat mean) / deviation (4).
    cost({ batch, tokens, width }) {
      const [values, modulation] = [batch * tokens * width, 2 * batch * width];
      return {
        flops: 7 * values,
        bytes: 4 * (2 * values + modulation),
        backward: { flops: 13 * values, bytes: 4 * (3 * values + 1.5 * modulation) },
      };
    },
  },
});
