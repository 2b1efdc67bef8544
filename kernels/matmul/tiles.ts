/** The variants of the matrix product: one kernel for each way to compute a tile, and what its constants mean in rows and columns. */
import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import type { Constants } from '../../engine/wgsl.ts';
import type { Variant } from '../family.ts';
import half from '../half.wgsl';
import lanes from '../lanes.wgsl';
import mirror from '../mirror.wgsl';
import fetch from './matmul.fetch.wgsl';
import packed from './matmul.packed.wgsl';
import registerSource from './matmul.register.wgsl';
import rowsSource from './matmul.rows.wgsl';
import subgroupSource from './matmul.subgroup.wgsl';
import tileSource from './matmul.tile.wgsl';
import common from './matmul.wgsl';

/** How a and b are stored: N as the product reads them, T transposed. */
export type Layout = 'NN' | 'NT' | 'TN';

/** A tile for each workgroup. */
export interface ProductVariant extends Variant {
  readonly kernel: Kernel;
  readonly constants: Constants;
  /** Rows and columns of the result that one workgroup makes. */
  readonly tileM: number;
  readonly tileN: number;
  /**
   * Which tile comes after a tile: the one below, so that its columns of B are read once and stay in the cache, or the one beside it,
   * which keeps its rows of A.
   */
  readonly next: 'below' | 'beside';
  /** Whether rows go on in the third dimension of the grid, where so many workgroups fit no dimension. Sums are then not split. */
  readonly folds?: boolean;
  /** The longest sum of a weight gradient that one workgroup makes where the result has so many tiles; 0: sums are not split. */
  readonly slice: (tiles: number) => number;
  /** What makes a result of so few rows or tiles, with the same bits. */
  readonly smaller?: { readonly variant: ProductVariant; readonly suits: (rows: number, tiles: number) => boolean };
}

/** The source with the entry point comes first, as `enable` must. */
/* @__NO_SIDE_EFFECTS__ */
export const kernelOf = (name: string, ...source: string[]): Kernel =>
  defineKernel(`matmul.${name}`, ...source, common, fetch, packed, half, mirror);

const registerKernel = kernelOf('register', registerSource);
const subgroupKernel = kernelOf('subgroup', subgroupSource, lanes);
const tileKernel = kernelOf('tile', tileSource);
const rowsKernel = kernelOf('rows', rowsSource);

/** Of variants whose sums are never split. */
export const unsplit = () => 0;

/** wgX x wgY invocations that make 8 rows by 4 nv columns each. */
export const registerTile = (wgX: number, wgY: number, nv: 1 | 2 | 4): ProductVariant => ({
  id: `register-${8 * wgY}x${4 * wgX * nv}`,
  kernel: registerKernel,
  constants: { WG_X: wgX, WG_Y: wgY, NV: nv },
  tileM: 8 * wgY,
  tileN: 4 * wgX * nv,
  next: 'below',
  slice: unsplit,
});

/** A subgroup makes lanes * height rows by 4 * lanes * width columns; height is a multiple of four where a is transposed. */
export const subgroupTile = (lanes: 4 | 8, height: 1 | 2 | 4 | 8, width: number, fours: 1 | 2 = 1): ProductVariant => ({
  id: `${lanes === 4 ? 'quad' : 'subgroup'}-${lanes * height}x${4 * lanes * width}`,
  kernel: subgroupKernel,
  constants: {
    LANES: lanes,
    HEIGHT: height,
    WIDTH: width,
    QUARTERS: Math.ceil(height / 4),
    FOURS: fours,
  },
  tileM: lanes * height,
  tileN: 4 * lanes * width,
  next: 'below',
  slice: unsplit,
});

/** `tall`, whose rows would mostly be for nothing where there are few: half of a tile or less takes `low` ones, if these add in the same order. */
export const tallTile = (tall: ProductVariant, low: ProductVariant): ProductVariant => ({
  ...tall,
  id: `${tall.id}-or-${low.tileM}`,
  smaller: { variant: low, suits: (rows) => 2 * rows <= tall.tileM },
});

/** Up to `rows` rows by 4 * lanes columns, each sum dealt out to `parts` lines of invocations. */
export const rowsTile = (rows: 4 | 8, lanes: number, parts: number): ProductVariant => ({
  id: `rows-${rows}x${4 * lanes}-${parts}`,
  kernel: rowsKernel,
  constants: { ROWS: rows, LANES: lanes, PARTS: parts },
  tileM: rows,
  tileN: 4 * lanes,
  next: 'beside',
  folds: true,
  slice: unsplit,
});

/** Workgroup memory that every device has, bytes. */
const SHARED_BYTES = 16384;

/** What a GPU's tile is made of. */
export interface GpuTile {
  /** Rows, columns, and how much of the sums is staged at once. */
  readonly tile: readonly [m: number, n: number, depth: number];
  /** Rows and columns of each invocation. */
  readonly each: readonly [rows: 4 | 8, columns: 4 | 8];
  /** How workgroup memory is declared: vec4f or f32. */
  readonly shared: 'v4' | 'v1';
  readonly buffers: 1 | 2;
}

/** Null where it takes more workgroup memory than every device has. */
export function gpuTile(
  layout: Layout,
  { tile: [m, n, depth], each, shared, buffers }: GpuTile,
): ProductVariant | null {
  const bytes = (pad: number) => 4 * buffers * depth * (m + n + 2 * pad);
  const pad = bytes(4) <= SHARED_BYTES ? 4 : 0;
  if (bytes(pad) > SHARED_BYTES) return null;
  const [rows, columns] = each;
  const invocations = (m / rows) * (n / columns);
  /** Units that an invocation stages: vectors where they lie along the tile's line, else blocks of 4 x 4. */
  const loads = (side: number, unit: 4 | 16) => Math.ceil((side * depth) / unit / invocations);
  return {
    id: `tile-${m}x${n}x${depth}-${rows}x${columns}-${shared}-${buffers}`,
    kernel: tileKernel,
    constants: {
      TILE_M: m,
      TILE_N: n,
      DEPTH: depth,
      GROUPS_M: rows / 4,
      GROUPS_N: columns / 4,
      SHARED_VEC: shared === 'v4',
      BUFFERS: buffers,
      LOADS_A: loads(m, layout === 'TN' ? 4 : 16),
      LOADS_B: loads(n, layout === 'NT' ? 16 : 4),
      PAD: pad,
    },
    tileM: m,
    tileN: n,
    next: 'beside',
    slice: gpuSlice,
  };
}

/** Workgroups that keep a GPU busy: it has 16 to 150 cores, each of which runs a few at once. */
const ENOUGH = 256;

/**
 * 8 x 8 results of an invocation load half as much from workgroup memory for each multiplication as 8 x 4, which are 32 registers of sums and
 * spill nowhere; the smallest makes twice as many workgroups, each of which waits for memory half as often.
 */
const LARGE = { tile: [128, 64, 16], each: [8, 8], shared: 'v4', buffers: 1 } as const;
const MEDIUM = { tile: [64, 64, 16], each: [8, 4], shared: 'v4', buffers: 1 } as const;
const SMALL = { tile: [64, 32, 32], each: [4, 4], shared: 'v4', buffers: 1 } as const;

/**
 * The largest of three tiles of which a result has enough: of an H200, 256 rows by 768 x 768 take 27 us by the small, 52 by the medium one;
 * 4,096 rows 160 us by the large, 190 by the medium one. Which it is depends on the batch, and may: tiles of GPUs all add products in
 * the order of k, each by one fused multiplication, so that the bits are the same by any of them.
 */
export function fittingTile(layout: Layout): ProductVariant {
  const [large, medium, small] = [LARGE, MEDIUM, SMALL].map((tile) => gpuTile(layout, tile)!);
  const suits = (_: number, tiles: number) => tiles < ENOUGH;
  const fitting = { ...medium!, smaller: { variant: small!, suits } };
  return { ...large!, id: 'tile-fitting', smaller: { variant: fitting, suits } };
}

/** The variant, or the smaller one that suits a result of that size. */
export function sized(variant: ProductVariant, M: number, N: number): ProductVariant {
  const tiles = Math.ceil(M / variant.tileM) * Math.ceil(N / variant.tileN);
  return variant.smaller?.suits(M, tiles) ? sized(variant.smaller.variant, M, N) : variant;
}

/**
 * A GPU has 16 to 150 cores, each of which runs a few workgroups at once. So the sums of a result of few tiles are cut into many slices
 * and those of a result of many are not, short of sums so long that the last workgroups would be waited for. This follows the result's
 * size alone, not the length of the sums, which is the batch.
 */
const gpuSlice = (tiles: number): number => {
  if (tiles >= ENOUGH) return 4096;
  if (tiles >= 64) return 1024;
  return tiles >= 16 ? 512 : 256;
};
