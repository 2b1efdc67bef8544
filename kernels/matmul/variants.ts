/** The ways to compute a matrix product (matmul.wgsl's STRATEGY): which there are on a device, and which suits its kind. */
import type { Engine } from '../../engine/engine.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { type Family, prefersSubgroups, type Variant } from '../family.ts';

/** What the choice depends on. */
export type ProductShape = {
  /** How a and b are stored: N as the product reads them, T transposed. */
  readonly layout: 'NN' | 'NT' | 'TN';
  /** All row lengths are multiples of four, so that buffers can be read as vectors. */
  readonly vec: boolean;
  /** How b is stored. */
  readonly weights: 'f32' | 'f16' | 'i8';
  /** How a and c are stored. */
  readonly activations: 'f32' | 'f16';
  /** Whether each sample has one row of the result, as a modulation has, or many. */
  readonly rows: 'one' | 'many';
  /** Columns of the result. */
  readonly n: number;
  /** Length of the sums, where it is known when they are recorded; in weight gradients, which sum over all samples, rows of the result. */
  readonly k: number;
};

/** A tile for each workgroup. */
export interface ProductVariant extends Variant {
  readonly constants: Constants;
  /** Rows and columns of the result that one workgroup makes. */
  readonly tileM: number;
  readonly tileN: number;
  /** Sums longer than this are split over workgroups (weight gradients). */
  readonly splitK: number;
}

const whole = Number.POSITIVE_INFINITY;

const registerTile = (wgX: number, wgY: number, nv: number): ProductVariant => ({
  id: `register-${8 * wgY}x${4 * wgX * nv}`,
  constants: { STRATEGY: 0, WG_X: wgX, WG_Y: wgY, NV: nv },
  tileM: 8 * wgY,
  tileN: 4 * wgX * nv,
  splitK: whole,
});

const REGISTER = registerTile(4, 1, 2);
const STAGED: ProductVariant = { id: 'staged-64x64', constants: { STRATEGY: 1 }, tileM: 64, tileN: 64, splitK: 1024 };
const SUBGROUP: ProductVariant = {
  ...{ id: 'subgroup-32x32', constants: { STRATEGY: 2 }, tileM: 32, tileN: 32 },
  splitK: whole,
};

/** Products of two matrices. */
export const products: Family<ProductShape, ProductVariant> = {
  name: 'product',
  candidates(engine, { vec }) {
    return [REGISTER, STAGED, ...(vec && eightLanes(engine) ? [SUBGROUP] : [])];
  },
  reviewed(engine, { vec }) {
    if (engine.adapterClass === 'gpu') return STAGED;
    return vec && prefersSubgroups(engine) ? SUBGROUP : REGISTER;
  },
};

/** Whether every subgroup has the lanes that the broadcasts of STRATEGY 2 need. */
const eightLanes = ({ device }: Engine): boolean =>
  device.features.has('subgroups') && (device.adapterInfo.subgroupMinSize ?? 0) >= 8;
