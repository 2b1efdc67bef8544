/** Deterministic sums: columns of a matrix, sums of squares, the norm of many tensors, the count of non-finite elements. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, maxOf, type Scalar, times } from '../engine/scalar.ts';
import { lastDim, maxSize, rowLayout, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import columnsSource from './columns.wgsl';
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
