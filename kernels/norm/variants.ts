/** The ways to work on rows (layernorm.wgsl's TEAM) and on sums over tokens (token-sums.wgsl): which there are, and which suits a kind. */
import type { Engine } from '../../engine/engine.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { type Family, prefersSubgroups, type Variant } from '../family.ts';

/** What the choice of a layer norm depends on. */
export type NormShape = {
  /** Elements of a row. */
  readonly width: number;
  /** The width and the columns of the modulation are multiples of four, so that buffers can be read as vectors. */
  readonly vec: boolean;
  /** How x and y are stored. */
  readonly activations: 'f32' | 'f16';
};

/** A way to work on rows. */
export interface NormVariant extends Variant {
  readonly constants: Constants;
  /** Rows of one workgroup. */
  readonly rows: number;
}

/** Values, of up to four elements, that a lane keeps: 48 registers, twice that in the backward pass. */
const MOST_KEPT = 12;

/** Values of a row for each of `lanes`, if a lane can keep them; else 0. */
function kept({ width, vec, activations }: NormShape, lanes: number): number {
  const values = Math.ceil(width / (vec ? 4 : activations === 'f16' ? 2 : 1) / lanes);
  return values <= MOST_KEPT ? values : 0;
}

const invocation = ({ vec }: NormShape): NormVariant => ({
  id: 'invocation',
  constants: { TEAM: 0, VEC: vec, WG: 64, LANES: 1, ROWS: 64, KEEP: 0 },
  rows: 64,
});

/** `lanes` invocations for a row, in workgroups of at least 64. */
function workgroup(shape: NormShape, lanes: number): NormVariant {
  const size = Math.max(64, lanes);
  const rows = size / lanes;
  const KEEP = kept(shape, lanes);
  return {
    id: `workgroup-${lanes}`,
    constants: { TEAM: 1, VEC: shape.vec, WG: size, LANES: lanes, ROWS: rows, KEEP },
    rows,
  };
}

/** A subgroup for a row; on CPU drivers one takes many rows, as starting a workgroup costs more than a row's work. */
function subgroup(engine: Engine, shape: NormShape): NormVariant {
  const narrowest = engine.device.adapterInfo.subgroupMinSize ?? 4;
  const [size, rows] = engine.adapterClass === 'gpu' ? [64, Math.max(1, 64 / narrowest)] : [narrowest, 16];
  const constants = { TEAM: 2, VEC: shape.vec, WG: size, ROWS: rows, KEEP: kept(shape, narrowest) };
  return { id: 'subgroup', constants, rows };
}

/** Layer norm, forward and towards x. */
export const norms: Family<NormShape, NormVariant> = {
  name: 'norm',
  candidates(engine, shape) {
    const subgroups = engine.device.features.has('subgroups') ? [subgroup(engine, shape)] : [];
    return [invocation(shape), workgroup(shape, 32), workgroup(shape, 128), ...subgroups];
  },
  reviewed(engine, shape) {
    if (engine.adapterClass === 'gpu') return workgroup(shape, shape.width <= 128 * MOST_KEPT ? 32 : 128);
    return prefersSubgroups(engine) ? subgroup(engine, shape) : invocation(shape);
  },
};

/** What the choice of a sum over tokens depends on. */
export type TokenSumShape = {
  /** Channels are a multiple of four, and so is what else counts columns. */
  readonly vec: boolean;
  readonly width: number;
  readonly tokens: number;
};

/** A team of invocations for the tokens of a channel, or of four channels where they go by vectors. */
export interface TokenSumVariant extends Variant {
  readonly constants: Constants;
  /** Channels of one workgroup. */
  readonly channels: number;
}

const team = (columns: number, size: number, vec: boolean): TokenSumVariant => ({
  id: `${vec ? 'vec-' : ''}${columns}x${size}`,
  constants: { COLUMNS: columns, TEAM: size, VEC: vec },
  channels: columns * (vec ? 4 : 1),
});

/** Sums over tokens for each channel of a sample: the gradients of modulations. */
export const tokenSums: Family<TokenSumShape, TokenSumVariant> = {
  name: 'token-sum',
  candidates: (_engine, { vec }) => [
    ...[team(64, 1, false), team(32, 8, false), team(16, 16, false)],
    ...(vec ? [team(16, 1, true), team(16, 16, true)] : []),
  ],
  // One invocation per channel leaves most of a GPU idle: a sample of DiT-B has 768 channels.
  reviewed: (engine, { vec }) => (engine.adapterClass === 'gpu' ? team(32, 8, false) : team(vec ? 16 : 64, 1, vec)),
};
