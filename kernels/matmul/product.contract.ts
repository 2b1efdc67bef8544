/** The contract of bare matrix products, in every layout: what their variants are checked and timed with. */
import { maxOf } from '../../engine/scalar.ts';
import { contract } from '../contract.ts';
import { matmul } from './sliced.ts';

/** C [m, n] = op(A) op(B) with sums of k terms; `samples` is how many the m rows belong to (rows of one sample: m / samples). */
export interface ProductCase {
  layout: 'NN' | 'NT' | 'TN';
  samples: number;
  m: number;
  n: number;
  k: number;
}

const shapeA = ({ layout, samples, m, k }: ProductCase): [number, ...number[]] =>
  layout === 'TN' ? [k, m] : samples === m ? [m, k] : [samples, m / samples, k];

export const productContract = contract<ProductCase>({
  name: 'product',
  cases: [
    { layout: 'NN', samples: 1, m: 1, n: 1, k: 1 },
    { layout: 'NN', samples: 3, m: 3, n: 68, k: 36 },
    { layout: 'NT', samples: 2, m: 66, n: 12, k: 20 },
    { layout: 'TN', samples: 1, m: 36, n: 68, k: 130 },
    { layout: 'TN', samples: 1, m: 5, n: 7, k: 33 },
  ],
  inputs: (c) => ({
    a: { shape: shapeA(c) },
    b: { shape: c.layout === 'NT' ? [c.n, c.k] : [c.k, c.n] },
  }),
  run(ctx, { a, b }, { layout, m, n, k }) {
    const y = ctx.empty('product', [m, n]);
    const transposed = { transposeA: layout === 'TN', transposeB: layout === 'NT' };
    matmul(ctx, { M: m, N: n, K: k, a: a!, b: b!, c: y, ...transposed });
    return { y };
  },
  reference({ a, b }, { layout, m, n, k }) {
    const y = new Float64Array(m * n);
    const [rowA, stepA] = layout === 'TN' ? [1, m] : [k, 1];
    const [stepB, columnB] = layout === 'NT' ? [1, k] : [n, 1];
    // Columns innermost: along the rows of b, as those of large cases fit no cache.
    for (let r = 0; r < m; r++) {
      for (let i = 0; i < k; i++) {
        const x = a![r * rowA + i * stepA]!;
        for (let c = 0; c < n; c++) y[r * n + c]! += x * b![i * stepB + c * columnB]!;
      }
    }
    return { y };
  },
  differentiable: [],
  reduction: ({ k }) => maxOf(k),
  bench: {
    // Networks' products are timed as the dense layers that they are part of; tuning brings its own cases.
    cases: [],
    square: (side) => [{ layout: 'NN', samples: 1, m: side, n: side, k: side }],
    cost: ({ m, n, k }) => ({ flops: 2 * m * n * k, bytes: 4 * (m * k + k * n + m * n) }),
    /** Some rows of the result: rows of a or, where that is transposed, its columns. */
    part(c, { a, b }, pick) {
      const rows = pick(12, c.m);
      const chosen = Float64Array.from({ length: rows.length * c.k }, (_, i) =>
        c.layout === 'TN'
          ? a![Math.floor(i / rows.length) * c.m + rows[i % rows.length]!]!
          : a![rows[Math.floor(i / c.k)]! * c.k + (i % c.k)]!,
      );
      return {
        case: { ...c, samples: 1, m: rows.length },
        inputs: { a: chosen, b: b! },
        places: { y: (i) => rows[Math.floor(i / c.n)]! * c.n + (i % c.n) },
      };
    },
  },
});
