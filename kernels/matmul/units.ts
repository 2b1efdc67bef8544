/** Matrix products by the units for that of a GPU: kernels of subgroups that multiply halves and add in f32. */
import type { MatrixUnit } from '../../engine/device.ts';
import unitsSource from './matmul.units.wgsl';
import { kernelOf, type ProductVariant, unsplit } from './tiles.ts';

const unitsKernel = kernelOf('units', unitsSource);

/** Four subgroups of `lanes`, which make 2 x 2 units each. `pinned`: the size of subgroups has to be asked for. */
export function unitsTile({ M, N, K }: MatrixUnit, lanes: number, pinned: boolean): ProductVariant {
  return {
    id: `units-${M}x${N}x${K}-2x2`,
    kernel: unitsKernel,
    constants: { UNIT_M: M, UNIT_N: N, UNIT_K: K, LANES: lanes, PINNED: pinned },
    tileM: 4 * M,
    tileN: 4 * N,
    next: 'beside',
    slice: unsplit,
  };
}

/** Bytes of workgroup memory that `unitsTile` takes: both operands as f16, two steps deep, and one result of each subgroup. */
export const unitsBytes = ({ M, N, K }: MatrixUnit): number => 2 * 2 * K * (4 * M + 4 * N) + 4 * 4 * M * N;
