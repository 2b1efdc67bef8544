/** All ways to work on rows on a device, for tuning to choose among. */
import type { Runner } from '../../engine/tuning.ts';
import type { Candidates } from '../family.ts';
import { invocation, kept, type NormShape, type NormVariant, norms, workgroup } from './variants.ts';

/** Of layer norms. */
export const normCandidates: Candidates<NormShape, NormVariant> = {
  family: norms,
  candidates: (engine, shape) => [
    ...[invocation(shape), workgroup(shape, 32), workgroup(shape, 128)],
    ...subgroup(engine, shape),
  ],
};

/** Where there is a choice: all that is known have it, or the nearest to it. */
const WIDTH = 32;

/**
 * A subgroup for a row; on CPU drivers one takes many rows, as starting a workgroup costs more than a row's work. None where nothing says
 * how wide subgroups are, or they may be of several widths and none can be asked for: the same operation in two pipelines could give other bits.
 */
function subgroup(engine: Runner, shape: NormShape): NormVariant[] {
  const { features, adapterInfo } = engine.device;
  const has = (feature: string) => (features as ReadonlySet<string>).has(feature);
  const { subgroupMinSize: min, subgroupMaxSize: max } = adapterInfo;
  if (!has('subgroups') || !min || !max || (min !== max && !has('subgroup-size-control'))) return [];
  const lanes = Math.min(Math.max(WIDTH, min), max);
  const [size, rows] = engine.adapterClass === 'gpu' ? [Math.max(64, lanes), Math.max(1, 64 / lanes)] : [lanes, 16];
  const PINNED = min === max ? 0 : lanes;
  const constants = { TEAM: 2, VEC: shape.vec, WG: size, ROWS: rows, KEEP: kept(shape, lanes), PINNED };
  return [{ id: 'subgroup', constants, rows }];
}
