/** The ways to compute a matrix product, and which suits a device's kind; candidates.ts has more. */
import type { Runner } from '../../engine/tuning.ts';
import { type Family, lanesOf } from '../family.ts';
import {
  fittingTile,
  gpuTile,
  type Layout,
  type ProductVariant,
  registerTile,
  rowsTile,
  subgroupTile,
  tallTile,
} from './tiles.ts';

/** What the choice depends on. */
export type ProductShape = {
  readonly layout: Layout;
  /** All row lengths are multiples of four, so that buffers can be read as vectors. */
  readonly vec: boolean;
  /** How b is stored. */
  readonly weights: 'f32' | 'f16' | 'i8';
  /** How a is stored. */
  readonly activations: 'f32' | 'f16';
  /** Whether each sample has one row of the result, as a modulation has, or many. */
  readonly rows: 'one' | 'many';
  /** Columns of the result. */
  readonly n: number;
  /** Length of the sums, where it is known when they are recorded; in weight gradients, which sum over all samples, rows of the result. */
  readonly k: number;
};

/** Products of two matrices. */
export const products: Family<ProductShape, ProductVariant> = {
  name: 'product',
  reviewed(engine, shape) {
    if (engine.adapterClass === 'gpu') return rowsTiles(shape, 'gpu')[0] ?? reviewedTile(shape);
    return shape.vec ? reviewedSubgroup(engine, shape) : REGISTER;
  },
};

/** Runs everywhere. */
export const REGISTER = registerTile(4, 1, 2);

/** Rows per lane and vectors per lane. */
export const SUBGROUPS = {
  8: [
    subgroupTile(8, 4, 1),
    subgroupTile(8, 4, 2),
    subgroupTile(8, 8, 2),
    subgroupTile(8, 1, 1),
    subgroupTile(8, 2, 1),
  ],
  4: [
    subgroupTile(4, 4, 2),
    subgroupTile(4, 4, 4),
    subgroupTile(4, 8, 4, 2),
    subgroupTile(4, 1, 4),
    subgroupTile(4, 2, 4),
  ],
} as const;

/** For products with a row for each sample, few or many: a tile of the above, or a low one that adds in the same order. */
export const LOWERED = {
  8: [tallTile(SUBGROUPS[8][0], subgroupTile(8, 1, 1))],
  4: [
    tallTile(SUBGROUPS[4][0], subgroupTile(4, 2, 2)),
    tallTile(SUBGROUPS[4][1], subgroupTile(4, 2, 4)),
    tallTile(SUBGROUPS[4][2], subgroupTile(4, 2, 4, 2)),
  ],
} as const;

export const fewRows = ({ rows, layout }: ProductShape): boolean => rows === 'one' && layout !== 'TN';

/** Measured: docs/architecture.md. */
function reviewedSubgroup(engine: Runner, shape: ProductShape): ProductVariant {
  const tiles = fewRows(shape) ? LOWERED : SUBGROUPS;
  switch (lanesOf(engine)) {
    case 8:
      return tiles[8][0];
    case 4:
      // The largest takes three times as long to compile: for wide layers alone.
      return tiles[4][shape.n < 48 ? 0 : shape.n < 512 ? 1 : 2];
    default:
      return REGISTER;
  }
}

/**
 * The first is the reviewed one of GPUs: 32 columns to a workgroup, so that even 768 columns give 24 workgroups and a modulation's
 * 4,608 give 144; B is read in runs of 128 bytes, a cache line.
 */
const ROWS = {
  gpu: [rowsTile(4, 8, 32), rowsTile(8, 8, 16), rowsTile(4, 16, 16)],
  cpu: [rowsTile(4, 8, 1), rowsTile(8, 8, 1)],
} as const;

/** For products of which each sample has one row. */
export const rowsTiles = ({ layout, vec, rows }: ProductShape, kind: keyof typeof ROWS): readonly ProductVariant[] =>
  vec && layout === 'NN' && rows === 'one' ? ROWS[kind] : [];

/**
 * Without tuning: the tile that fits the result's size. Weight gradients, whose size the batch does not change, are cut into slices
 * instead, and load ahead: 5 to 12 % on an H200 at all sizes tried.
 */
function reviewedTile({ layout, n }: ProductShape): ProductVariant {
  const staging = { shared: 'v4', buffers: layout === 'TN' ? 2 : 1 } as const;
  if (n <= 32) return gpuTile(layout, { tile: [64, 32, 16], each: [4, 4], ...staging })!;
  return layout === 'TN' ? gpuTile(layout, { tile: [64, 64, 16], each: [8, 4], ...staging })! : fittingTile(layout);
}
