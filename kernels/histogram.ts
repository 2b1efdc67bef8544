/** How often values of each size occur: counts by bins that are four to a power of two, exact whatever the order of counting. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { maxSize, shapeText, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './histogram.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('histogram', lib, source);
const WG = 256;
const EACH = 64;
const TERMS = 32;
const BITS = 2;
/** Sizes below 2^-24 count as zero, those from 2^8 on go to the outermost bins. */
const LOWEST = -24;
const HIGHEST = 8;
const HALF = (HIGHEST - LOWEST) << BITS;
const constants = { WG, EACH, BITS, LOWEST: LOWEST + 127, HALF, TERMS };

/** Bins of a histogram: those of negative numbers, that of zero, those of positive numbers. */
export const HISTOGRAM_BINS = 2 * HALF + 1;

/** Edge k of the positive bins, smallest first. */
const edge = (k: number): number => (1 + (k % 2 ** BITS) / 2 ** BITS) * 2 ** (LOWEST + Math.floor(k / 2 ** BITS));

/** Edges of the bins, ascending: [HISTOGRAM_BINS + 1]. Bin i lies between edges i and i + 1; the first and the last are open. */
export const histogramEdges = (): number[] => {
  const positive = Array.from({ length: HALF + 1 }, (_, k) => edge(k));
  return [...positive.map((x) => -x).reverse(), ...positive];
};

/**
 * How many elements of x fall into each bin: [HISTOGRAM_BINS] of u32. An edge belongs to the bin on its side away from zero; infinities and
 * NaNs are counted in the outermost bins. Not differentiable. @throws UsageError for a view, and for a symbolic number of rows.
 */
export function histogram(ctx: Context, x: Tensor): Tensor {
  if (x.view || typeof x.shape[0] !== 'number') throw new UsageError(`cannot count '${x.label}' ${shapeText(x)}`);
  let rows = Math.ceil(maxSize(x) / (WG * EACH));
  let counts = ctx.empty('histogram.parts', [rows, HISTOGRAM_BINS], 'u32');
  const bind = (from: Tensor, to: Tensor, entry: string, count: number, grid: number) =>
    ctx.dispatch({ kernel, entry, constants, tensors: { words: from, counts: to }, params: { count }, grid });
  bind(x, counts, 'count', maxSize(x), rows);
  while (rows > 1) {
    const fewer = Math.ceil(rows / TERMS);
    const merged = ctx.empty('histogram', [fewer, HISTOGRAM_BINS], 'u32');
    bind(counts, merged, 'merge', rows, Math.ceil((fewer * HISTOGRAM_BINS) / WG));
    [counts, rows] = [merged, fewer];
  }
  return counts;
}

/** Zeros, edges and what is next to them, extremes, then normals of many sizes. */
const SPECIAL = [0, -0, 1, -1, 1.25, 1.2499999, -1.2499999, 2 ** -24, 2 ** -25, -(2 ** -24), 255.99, 256, -1e30, 1e-40];

export const histogramContract = contract<{ size: number }>({
  name: 'histogram',
  // One workgroup, one that is not full, and more rows than one level adds.
  cases: [{ size: 1 }, { size: 1000 }, { size: WG * EACH + 1 }, { size: WG * EACH * (TERMS + 1) + 77 }],
  inputs: ({ size }) => ({
    x: { shape: [size], fill: (i, normal) => SPECIAL[i] ?? normal() * 2 ** ((i % 40) - 30) },
  }),
  run: (ctx, { x }) => ({ counts: histogram(ctx, x!) }),
  reference({ x }) {
    const edges = histogramEdges();
    const counts = new Float64Array(HISTOGRAM_BINS);
    for (const value of x!) {
      const size = Math.abs(value);
      let k = -1;
      while (k + 1 < HALF && size >= edges[HALF + 1 + k + 1]!) k++;
      counts[k < 0 ? HALF : value < 0 ? HALF - 1 - k : HALF + 1 + k]!++;
    }
    return { counts };
  },
  differentiable: [],
  reduction: () => 1,
  bench: {
    cases: [{ size: 4_000_000 }],
    cost: ({ size }) => ({ flops: 0, bytes: 4 * (size + HISTOGRAM_BINS) }),
  },
});
