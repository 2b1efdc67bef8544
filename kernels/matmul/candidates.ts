/** All ways to compute a matrix product on a device, for tuning to choose among. */
import type { Runner } from '../../engine/tuning.ts';
import { type Candidates, lanesOf } from '../family.ts';
import { fittingTile, type GpuTile, gpuTile, type ProductVariant, registerTile } from './tiles.ts';
import { unitsBytes, unitsTile } from './units.ts';
import { fewRows, LOWERED, type ProductShape, products, REGISTER, rowsTiles, SUBGROUPS } from './variants.ts';

/** Of matrix products. */
export const productCandidates: Candidates<ProductShape, ProductVariant> = {
  family: products,
  candidates(engine, shape) {
    if (engine.adapterClass === 'gpu') {
      // The likeliest first, as a budget may end before the last. Of rows that are no vectors a tile stages nothing faster.
      const plain = shape.vec ? [] : [REGISTER];
      return [...unitTiles(engine, shape), ...rowsTiles(shape, 'gpu'), ...gpuTiles(shape), ...plain];
    }
    const registers = [REGISTER, registerTile(4, 1, 1), registerTile(8, 2, 2)];
    return [...registers, ...subgroupTiles(engine, shape), ...rowsTiles(shape, 'cpu')];
  },
};

function subgroupTiles(engine: Runner, shape: ProductShape): readonly ProductVariant[] {
  const lanes = lanesOf(engine);
  if (lanes === null || !shape.vec) return [];
  const tiles = SUBGROUPS[lanes].filter(({ tileM }) => shape.layout !== 'TN' || tileM % (4 * lanes) === 0);
  return fewRows(shape) ? [...LOWERED[lanes], ...tiles] : tiles;
}

/**
 * Tiles for tuning to choose among: the first fit results that would leave a GPU idle with larger ones, the last reuse the most. Deeper
 * steps or two buffers help where there are too few workgroups to wait in turn; vectors in workgroup memory lose 9 to 36 % on one GPU
 * and win by as much on another (docs/architecture.md, on a GPU).
 */
const TILES: readonly GpuTile[] = [
  { tile: [32, 32, 16], each: [4, 4], shared: 'v4', buffers: 1 },
  { tile: [32, 32, 32], each: [4, 4], shared: 'v4', buffers: 1 },
  { tile: [64, 32, 16], each: [4, 4], shared: 'v4', buffers: 1 },
  { tile: [64, 32, 16], each: [4, 4], shared: 'v4', buffers: 2 },
  { tile: [64, 32, 16], each: [4, 4], shared: 'v1', buffers: 1 },
  { tile: [64, 32, 32], each: [4, 4], shared: 'v4', buffers: 1 },
  { tile: [64, 64, 16], each: [4, 4], shared: 'v4', buffers: 1 },
  { tile: [64, 64, 16], each: [8, 4], shared: 'v4', buffers: 1 },
  { tile: [64, 64, 16], each: [8, 4], shared: 'v4', buffers: 2 },
  { tile: [64, 64, 16], each: [8, 4], shared: 'v1', buffers: 1 },
  { tile: [64, 64, 16], each: [8, 8], shared: 'v4', buffers: 2 },
  { tile: [128, 64, 16], each: [8, 8], shared: 'v4', buffers: 1 },
  { tile: [128, 64, 16], each: [8, 8], shared: 'v1', buffers: 1 },
  { tile: [128, 128, 16], each: [8, 8], shared: 'v4', buffers: 1 },
];

function gpuTiles({ layout, n }: ProductShape): ProductVariant[] {
  const suited = TILES.filter(({ tile: [, width] }) => width === 32 || width < 2 * n);
  const all = suited.map((tile) => gpuTile(layout, tile)).filter((tile) => tile !== null);
  return [...all, ...(layout === 'TN' ? [] : [fittingTile(layout)])];
}

/** Products of halves by matrix units, where the device has them for f16 with sums in f32. */
function unitTiles(engine: Runner, { layout, weights, activations }: ProductShape): ProductVariant[] {
  const { features, limits, adapterInfo } = engine.device;
  const has = (feature: string) => (features as ReadonlySet<string>).has(feature);
  if (layout !== 'NN' || weights !== 'f16' || activations !== 'f16') return [];
  if (!has('chromium-experimental-subgroup-matrix') || !has('shader-f16') || !has('subgroups')) return [];
  const { subgroupMinSize: min, subgroupMaxSize: max } = adapterInfo;
  if (!max || (min !== max && !has('subgroup-size-control')) || 4 * max > limits.maxComputeInvocationsPerWorkgroup)
    return [];
  return engine.matrixUnits
    .filter((u) => u.componentType === 'f16' && u.resultComponentType === 'f32')
    .filter((u) => u.N % 4 === 0 && u.K % 2 === 0 && unitsBytes(u) <= limits.maxComputeWorkgroupStorageSize)
    .map((u) => unitsTile(u, max, min !== max));
}
