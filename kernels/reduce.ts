/** Deterministic sums: columns of a matrix, sums of squares, the norm of many tensors, the count of non-finite elements. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, maxOf, type Scalar, times } from '../engine/scalar.ts';
import { lastDim, maxSize, rowLayout, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import columnsSource from './columns.wgsl';
import { contract } from './contract.ts';
import { choose } from './family.ts';
import lib from './lib.wgsl';
import source from './reduce.wgsl';
import { alone, tokenSums } from './token-sums.ts';
import tokenSumSource from './token-sums.wgsl';

const kernel = defineKernel('reduce', lib, source);
const columnsKernel = defineKernel('columns', tokenSumSource, columnsSource, lib);
/**
 * How sums over everything are made: the invocations of a workgroup, how many of them share a sum, and the most that each adds. On a GPU
 * an invocation that adds 256 numbers in turn waits for memory 256 times (100 us on an H200, whatever the size); a CPU's has no
 * company to wait in, and pays for barriers.
 */
const TEAMS = { gpu: { WG: 256, TEAM: 256, terms: 16 }, cpu: { WG: 64, TEAM: 1, terms: 256 } } as const;
const teamOf = ({ engine }: Context) => TEAMS[engine.adapterClass === 'gpu' ? 'gpu' : 'cpu'];

/** Rows of a column that one invocation adds at least before there are two levels; in a team, whose others wait meanwhile, fewer. */
const ROWS_EACH = { alone: 64, team: 32 };

/**
 * Sums over all but the last dimension: x [..., C] -> [C], into `into` if it is given. No rows sum to zero.
 * Where there are many rows in two levels, of about as many terms each. Not differentiable.
 */
export function columnSum(ctx: Context, x: Tensor, into?: Tensor): Tensor {
  const width = lastDim(x);
  const rows = x.shape.slice(1, -1).reduce<Scalar>((n, d) => times(n, d as number), x.shape[0]);
  const y = into ?? ctx.empty('columnSum', [width]);
  if (maxSize(y) !== width) throw new UsageError(`column sums of ${shapeText(x)} do not fit ${shapeText(y)}`);
  const { offset, stride } = rowLayout(x);
  const vec = [width, offset, stride].every((n) => n % 4 === 0);
  const most = maxOf(rows);
  const variant = most <= ROWS_EACH.alone ? alone(vec) : choose(ctx.engine, tokenSums, { vec, width, tokens: 0 });
  const { constants, channels, team } = variant;
  const level = (from: Tensor, count: Scalar, to: Tensor, chunks: Scalar, terms: number) =>
    ctx.dispatch({
      kernel: columnsKernel,
      entry: 'columns',
      constants: { ...constants, TERMS: terms },
      tensors: { x: from, y: to },
      params: { rows: count, width, ...rowLayout(from) },
      grid: ceilDiv(times(chunks, width), channels),
    });
  // A multiple of 16, so that few specialisations are compiled.
  const whole = (terms: number) => Math.ceil(terms / 16) * 16;
  const terms = Math.max(team > 1 ? ROWS_EACH.team : ROWS_EACH.alone, whole(Math.sqrt(most) / team));
  if (most <= terms * team) {
    level(x, rows, y, 1, terms);
    return y;
  }
  const chunks = ceilDiv(rows, terms * team);
  const partial = ctx.empty('columnSum.parts', [chunks, width]);
  level(x, rows, partial, chunks, terms);
  level(partial, chunks, y, 1, whole(maxOf(chunks) / team));
  return y;
}

type Entry = 'squares' | 'sum' | 'non_finite' | 'sum_bits';

/** Sums made of `count` elements by one level. A few elements make their one sum even if there are none. */
function resultsOf(ctx: Context, count: Scalar): Scalar {
  const { TEAM, terms } = teamOf(ctx);
  return maxOf(count) <= TEAM * terms ? 1 : ceilDiv(count, TEAM * terms);
}

/** One level: `results` sums of x, stored in y from `first` on. */
function level(ctx: Context, entry: Entry, x: Tensor, y: Tensor, results: Scalar, first = 0): void {
  if (x.view) throw new UsageError(`cannot reduce '${x.label}': it is a view of some columns`);
  const { WG, TEAM } = teamOf(ctx);
  const [from, to] = entry === 'squares' || entry === 'sum' ? (['x', 'y'] as const) : (['x_bits', 'y_bits'] as const);
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, TEAM },
    tensors: { [from]: x, [to]: y },
    params: { count: sizeOf(x), results, first },
    grid: ceilDiv(times(results, TEAM), WG),
  });
}

/** Reduces all of x to one element: `first` is the entry of the first level, `rest` that of the others. */
function reduce(ctx: Context, x: Tensor, first: Entry, rest: 'sum' | 'sum_bits'): Tensor {
  let current = x;
  let entry = first;
  do {
    const results = resultsOf(ctx, sizeOf(current));
    const next = ctx.empty(first, [results], rest === 'sum' ? 'f32' : 'u32');
    level(ctx, entry, current, next, results);
    current = next;
    entry = rest;
  } while (current.shape[0] !== 1);
  return current;
}

/** Sum of squares of all elements: [1]. */
export const sumSquares = (ctx: Context, x: Tensor): Tensor => reduce(ctx, x, 'squares', 'sum');

/** How many elements are infinite or NaN: [1] of u32. */
export const countNonFinite = (ctx: Context, x: Tensor): Tensor => reduce(ctx, x, 'non_finite', 'sum_bits');

/** Euclidean norm of all elements of all tensors together: [1]. */
export function globalNorm(ctx: Context, tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) throw new UsageError('the norm of no tensors was asked for');
  // All first levels side by side: as many sums as for the most elements, zeros where there are fewer.
  const counts = tensors.map((t) => Math.max(1, maxOf(resultsOf(ctx, maxSize(t)))));
  const parts = ctx.empty('norm.parts', [counts.reduce((a, b) => a + b)]);
  let first = 0;
  for (const [i, t] of tensors.entries()) {
    level(ctx, 'squares', t, parts, counts[i]!, first);
    first += counts[i]!;
  }
  const norm = ctx.empty('norm', [1]);
  const total = reduce(ctx, parts, 'sum', 'sum');
  ctx.dispatch({ kernel, entry: 'root', tensors: { x: total, y: norm }, grid: 1 });
  return norm;
}

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
