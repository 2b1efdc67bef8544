/** Reviewed tile choices per class of adapter, from measurements in bench/results and docs/architecture.md. */
import type { Engine } from '../engine/engine.ts';
import type { Constants } from '../engine/wgsl.ts';

export interface MatmulTiles {
  readonly constants: Constants;
  /** Rows and columns of the result that one workgroup makes. */
  readonly tileM: number;
  readonly tileN: number;
  /** Sums longer than this are split over workgroups (weight gradients). */
  readonly splitK: number;
}

const registerTile = (wgX: number, wgY: number, nv: number): MatmulTiles => ({
  constants: { STRATEGY: 0, WG_X: wgX, WG_Y: wgY, NV: nv },
  tileM: 8 * wgY,
  tileN: 4 * wgX * nv,
  splitK: Number.POSITIVE_INFINITY,
});

/** Whether values are better passed between lanes than loaded again: on llvmpipe a load costs about a hundred multiplications. */
export const prefersSubgroups = (engine: Engine): boolean =>
  engine.adapterClass === 'lavapipe' && engine.device.features.has('subgroups');

/** `vec`: all row lengths are multiples of four, so that buffers can be read as vectors. */
export function matmulTiles(engine: Engine, vec: boolean): MatmulTiles {
  if (engine.adapterClass === 'gpu') return { constants: { STRATEGY: 1 }, tileM: 64, tileN: 64, splitK: 1024 };
  if (vec && prefersSubgroups(engine)) {
    return { constants: { STRATEGY: 2 }, tileM: 32, tileN: 32, splitK: Number.POSITIVE_INFINITY };
  }
  return registerTile(4, 1, 2);
}
