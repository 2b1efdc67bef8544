/** The ways to compute attention (attention.rows.wgsl, attention.arrays.wgsl), and which suits a device's kind. */

import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import type { Runner } from '../../engine/tuning.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { type Family, hasSubgroups, type Variant } from '../family.ts';
import half from '../half.wgsl';
import mirror from '../mirror.wgsl';
import arraysSource from './attention.arrays.wgsl';
import rowsSource from './attention.rows.wgsl';
import tileSource from './attention.tile.wgsl';
import shared from './attention.wgsl';

const SUBGROUPS = 'enable subgroups;';
/** One for each way to divide the work; attention.backward.ts has the gradients of each. */
export const rowsKernel = defineKernel('attention', shared, half, mirror, tileSource, rowsSource);
export const sharingKernel = defineKernel('attention', SUBGROUPS, shared, half, mirror, tileSource, rowsSource);
export const arraysKernel = defineKernel('attention.arrays', shared, half, mirror, arraysSource);
export const subgroupKernel = defineKernel('attention.subgroup', SUBGROUPS, shared, half, mirror, arraysSource);

/** What the choice depends on. */
export type AttentionShape = {
  readonly tokens: number;
  readonly heads: number;
  /** Features of one head. */
  readonly head: number;
  /** How q, k, v and the result are stored. */
  readonly activations: 'f32' | 'f16';
};

/** A kernel, and how it and its gradients divide the work. */
export interface AttentionVariant extends Variant {
  readonly kernel: Kernel;
  readonly constants: Constants;
  /** Rows (queries, keys in the gradients of keys and values) that one workgroup owns. */
  readonly rows: number;
}

/** Values of four features that a head takes. */
export const vectors = (head: number): number => Math.ceil(head / 4);

/** The lanes of a subgroup load for each other, each with `each` rows. */
export const sharing = (lanes: 4 | 8, each: number): AttentionVariant => ({
  id: `${lanes === 4 ? 'quad' : 'subgroup'}-${each}`,
  kernel: subgroupKernel,
  constants: { LANES: lanes, SHARE: true, EACH: each },
  rows: lanes * each,
});

/** Each lane loads for itself. Runs everywhere. */
export const alone = (each: number): AttentionVariant => ({
  id: `arrays-${each}`,
  kernel: arraysKernel,
  constants: { LANES: 8, SHARE: false, EACH: each },
  rows: 8 * each,
});

/** How a workgroup with a tile in its memory is divided. */
interface Tile {
  /** Rows of the workgroup, and of the tile that it walks along. */
  readonly rows: number;
  readonly walked: number;
  /** Invocations that share a row, and rows of each. */
  readonly split: number;
  readonly each: number;
  /** Whether they add their parts by shuffles: where subgroups are large enough. */
  readonly shuffled: boolean;
}

/** A tile in workgroup memory; null where the device's limits forbid it. */
export function tiled({ device }: Runner, { head }: AttentionShape, tile: Tile): AttentionVariant | null {
  const { rows, walked, split, each } = tile;
  const wg = (rows / each) * split;
  const part = Math.ceil(vectors(head) / split);
  const shuffle = split > 1 && tile.shuffled && hasSubgroups(device, split);
  const block = shuffle || split === 1 ? 2 : 1;
  const exchange = split > 1 && !shuffle ? 2 * each * block * wg : 0;
  const bytes = 16 * (2 * walked * part * split + exchange);
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = device.limits;
  if (bytes > maxComputeWorkgroupStorageSize) return null;
  if (wg > Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX)) return null;
  return {
    id: `tiled-${rows}x${walked}-${split}x${each}${exchange > 0 ? '-memory' : ''}`,
    kernel: shuffle ? sharingKernel : rowsKernel,
    constants: {
      ...{ WG: wg, EACH: each, SPLIT: split, PART: part, ROWS: walked, BLOCK: block, SHUFFLE: shuffle },
    },
    rows,
  };
}

/** The tile for GPUs that nobody has tuned for: 16 to 20 features of a row, two rows, in an invocation. */
export function reviewedTile(engine: Runner, shape: AttentionShape, shuffled = true): AttentionVariant {
  const length = vectors(shape.head);
  const split = length <= 4 ? 1 : length <= 8 ? 2 : length <= 20 ? 4 : 8;
  const most = shape.tokens <= 32 ? 32 : 64;
  for (const rows of [most, 32]) {
    for (const each of [2, 1]) {
      for (const walked of [16, 8]) {
        const tile = tiled(engine, shape, { rows, walked, split, each, shuffled });
        if (tile) return tile;
      }
    }
  }
  return alone(4);
}

/** Attention, forward and backward. */
export const attentions: Family<AttentionShape, AttentionVariant> = {
  name: 'attention',
  reviewed(engine, shape) {
    if (engine.adapterClass === 'gpu') return reviewedTile(engine, shape);
    const { tokens, head } = shape;
    // No more rows a lane than there are: those past the last are computed for nothing.
    const rows = (lanes: number, most: number): number =>
      [1, 2, 4].find((few) => lanes * few >= tokens && few < most) ?? most;
    // Subgroups of llvmpipe are the processor's vectors, of four lanes where there is no AVX. Larger heads would fill the cache with so
    // many queries' vectors.
    if (engine.adapterClass === 'lavapipe' && hasSubgroups(engine.device, 8))
      return sharing(8, rows(8, head <= 64 ? 4 : 2));
    return hasSubgroups(engine.device, 4) ? sharing(4, rows(4, head <= 80 ? 8 : 4)) : alone(rows(8, 4));
  },
};
