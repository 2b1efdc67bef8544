/** All ways to work on rows on a device, for tuning to choose among. */
import type { Runner } from '../../engine/tuning.ts';
import type { Candidates } from '../family.ts';
import { invocation, kept, type NormShape, type NormVariant, norms, workgroup } from './variants.ts';

/** Of layer norms. */
export const normCandidates: Candidates<NormShape, NormVariant> = {
  family: norms,
  candidates(engine, shape) {
    const subgroups = engine.device.features.has('subgroups') ? [subgroup(engine, shape)] : [];
    return [invocation(shape), workgroup(shape, 32), workgroup(shape, 128), ...subgroups];
  },
};

/** A subgroup for a row; on CPU drivers one takes many rows, as starting a workgroup costs more than a row's work. */
function subgroup(engine: Runner, shape: NormShape): NormVariant {
  const narrowest = engine.device.adapterInfo.subgroupMinSize ?? 4;
  const [size, rows] = engine.adapterClass === 'gpu' ? [64, Math.max(1, 64 / narrowest)] : [narrowest, 16];
  const constants = { TEAM: 2, VEC: shape.vec, WG: size, ROWS: rows, KEEP: kept(shape, narrowest) };
  return { id: 'subgroup', constants, rows };
}
