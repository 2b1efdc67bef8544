/** The ways to compute a convolution, and which suits a device's kind. */

import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { type Family, lanesOf, type Variant } from '../family.ts';
import half from '../half.wgsl';
import lanes from '../lanes.wgsl';
import mirror from '../mirror.wgsl';
import registerSource from './conv.register.wgsl';
import subgroupSource from './conv.subgroup.wgsl';
import tileSource from './conv.tile.wgsl';
import common from './conv.wgsl';
import taps from './taps.wgsl';

/** What the choice depends on. */
export type ConvolutionShape = {
  /** Channels of x and of the result. */
  readonly channels: number;
  readonly columns: number;
  /** Taps across and down. */
  readonly side: number;
  /** How the weights are stored. */
  readonly weights: 'f32' | 'f16';
};

/** A tile for each workgroup. */
export interface ConvolutionVariant extends Variant {
  readonly kernel: Kernel;
  readonly constants: Constants;
  /** Pixels and channels of the result that one workgroup makes. */
  readonly tileM: number;
  readonly tileN: number;
}

/** The source with the entry point comes first, as `enable` must. */
/* @__NO_SIDE_EFFECTS__ */
const kernelOf = (name: string, ...source: string[]): Kernel =>
  defineKernel(`conv.${name}`, ...source, common, taps, half, mirror);

const registerKernel = kernelOf('register', registerSource);
const subgroupKernel = kernelOf('subgroup', subgroupSource, lanes);
const tileKernel = kernelOf('tile', tileSource);

/** wgX x wgY invocations that make 8 pixels by 4 nv columns each. */
const registerTile = (wgX: number, wgY: number, nv: 1 | 2): ConvolutionVariant => ({
  id: `register-${8 * wgY}x${4 * wgX * nv}`,
  kernel: registerKernel,
  constants: { WG_X: wgX, WG_Y: wgY, NV: nv },
  tileM: 8 * wgY,
  tileN: 4 * wgX * nv,
});

/** A subgroup makes lanes * height pixels by 4 * lanes * width columns. */
const subgroupTile = (lanes: 4 | 8, height: number, width: number): ConvolutionVariant => ({
  id: `${lanes === 4 ? 'quad' : 'subgroup'}-${lanes * height}x${4 * lanes * width}`,
  kernel: subgroupKernel,
  constants: { LANES: lanes, HEIGHT: height, WIDTH: width },
  tileM: lanes * height,
  tileN: 4 * lanes * width,
});

/** m pixels by n columns, `each` pixels by four columns an invocation, `depth` channels at once; within 16 KiB of workgroup memory. */
function gpuTile(m: number, n: number, each: number, depth = 16): ConvolutionVariant {
  const invocations = (m / each) * (n / 4);
  return {
    id: `tile-${m}x${n}x${depth}-${each}x4`,
    kernel: tileKernel,
    constants: {
      ...{ TILE_M: m, TILE_N: n, DEPTH: depth, EACH: each },
      LOADS_X: Math.ceil((m * depth) / 4 / invocations),
      LOADS_W: Math.ceil((depth * n) / 4 / invocations),
    },
    tileM: m,
    tileN: n,
  };
}

export const REGISTER = registerTile(4, 1, 2);
/** For pictures' own channels: no column is made in vain. */
export const NARROW = registerTile(1, 4, 1);
export const TILES = [gpuTile(64, 64, 8), gpuTile(64, 32, 8), gpuTile(128, 64, 8), gpuTile(64, 64, 4)] as const;
export const SUBGROUPS = { 8: [subgroupTile(8, 4, 1)], 4: [subgroupTile(4, 4, 2), subgroupTile(4, 4, 4)] } as const;

/** Convolutions, forward. */
export const convolutions: Family<ConvolutionShape, ConvolutionVariant> = {
  name: 'convolution',
  reviewed(engine, { columns }) {
    if (columns <= 4) return NARROW;
    if (engine.adapterClass === 'gpu') return columns <= 32 ? TILES[1] : TILES[0];
    const lanes = lanesOf(engine);
    if (lanes === null) return REGISTER;
    return lanes === 8 ? SUBGROUPS[8][0] : SUBGROUPS[4][columns < 48 ? 0 : 1];
  },
};
