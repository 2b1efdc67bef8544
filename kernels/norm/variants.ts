/** The ways to work on rows (layernorm.wgsl's TEAM), and which suits a device's kind. */
import type { Constants } from '../../engine/wgsl.ts';
import type { Family, Variant } from '../family.ts';

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
export function kept({ width, vec, activations }: NormShape, lanes: number): number {
  const values = Math.ceil(width / (vec ? 4 : activations === 'f16' ? 2 : 1) / lanes);
  return values <= MOST_KEPT ? values : 0;
}

/** Each invocation has a row of its own. */
export const invocation = ({ vec }: NormShape): NormVariant => ({
  id: 'invocation',
  constants: { TEAM: 0, VEC: vec, WG: 64, LANES: 1, ROWS: 64, KEEP: 0 },
  rows: 64,
});

/** `lanes` invocations for a row, in workgroups of at least 64. */
export function workgroup(shape: NormShape, lanes: number): NormVariant {
  const size = Math.max(64, lanes);
  const rows = size / lanes;
  const KEEP = kept(shape, lanes);
  return {
    id: `workgroup-${lanes}`,
    constants: { TEAM: 1, VEC: shape.vec, WG: size, LANES: lanes, ROWS: rows, KEEP },
    rows,
  };
}

/** Layer norm, forward and towards x. */
export const norms: Family<NormShape, NormVariant> = {
  name: 'norm',
  reviewed(engine, shape) {
    // Of the two that suit GPUs the one that every device runs. CPU drivers lose nothing by one invocation: each lane loads for itself.
    if (engine.adapterClass === 'gpu') return workgroup(shape, shape.width <= 128 * MOST_KEPT ? 32 : 128);
    return invocation(shape);
  },
};
