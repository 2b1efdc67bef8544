/** What sums must compute: references, cases and their cost. */
import { contract } from './contract.ts';
import { columnSum, countNonFinite, globalNorm, sumSquares } from './reduce.ts';

export const columnSumContract = contract<{ rows: number; width: number }>({
  name: 'columnSum',
  cases: [
    { rows: 1, width: 1 },
    { rows: 64, width: 70 },
    { rows: 65, width: 3 },
    { rows: 4500, width: 13 },
    { rows: 2100, width: 12 },
  ],
  inputs: ({ rows, width }) => ({ x: { shape: [rows, width] } }),
  run: (ctx, { x }) => ({ sum: columnSum(ctx, x!) }),
  reference({ x }, { rows, width }) {
    const sum = new Float64Array(width);
    for (let r = 0; r < rows; r++) for (let c = 0; c < width; c++) sum[c]! += x![r * width + c]!;
    return { sum };
  },
  differentiable: [],
  reduction: ({ rows }) => rows,
  bench: {
    cases: [{ rows: 64 * 49, width: 384 }],
    cost: ({ rows, width }) => ({ flops: rows * width, bytes: 4 * (rows * width + width) }),
  },
});

const squareSum = (x: Float64Array) => x.reduce((s, v) => s + v * v, 0);

export const globalNormContract = contract<{ sizes: [number, number] }>({
  name: 'globalNorm',
  cases: [{ sizes: [1, 1] }, { sizes: [257, 70000] }],
  inputs: ({ sizes: [a, b] }) => ({ a: { shape: [a] }, b: { shape: [b] } }),
  run: (ctx, { a, b }) => ({ norm: globalNorm(ctx, [a!, b!]), squares: sumSquares(ctx, b!) }),
  reference: ({ a, b }) => ({
    norm: Float64Array.of(Math.sqrt(squareSum(a!) + squareSum(b!))),
    squares: Float64Array.of(squareSum(b!)),
  }),
  differentiable: [],
  reduction: ({ sizes: [a, b] }) => a + b,
  bench: {
    cases: [{ sizes: [1, 4_000_000] }],
    // The norm of both, then the squares of b.
    cost: ({ sizes: [a, b] }) => ({ flops: 2 * (a + 2 * b), bytes: 4 * (a + 2 * b + 2) }),
  },
});

const SPECIAL = [1, Number.NaN, -0, Number.POSITIVE_INFINITY, 3.4e38, Number.NEGATIVE_INFINITY, 1e-45];

export const countNonFiniteContract = contract<{ size: number }>({
  name: 'countNonFinite',
  cases: [{ size: 1 }, { size: 256 }, { size: 1000 }],
  inputs: ({ size }) => ({ x: { shape: [size], fill: (i) => SPECIAL[i % SPECIAL.length]! } }),
  run: (ctx, { x }) => ({ count: countNonFinite(ctx, x!) }),
  reference: ({ x }) => ({ count: Float64Array.of(x!.filter((v) => !Number.isFinite(v)).length) }),
  differentiable: [],
  reduction: () => 1,
});
