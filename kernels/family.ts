/**
 * Families: operations that can be computed in several ways. The way is chosen here, once: by the tuning that the engine carries,
 * measured on its adapter, else by what is known of adapters of its kind. A shape class never holds the number of samples, so
 * that a sample's numbers do not depend on the batch it is in.
 */
import type { Engine } from '../engine/engine.ts';
import type { Runner, ShapeClass } from '../engine/tuning.ts';

/** One way to compute an operation; a family adds what its kernels need to know. */
export interface Variant {
  /** Its name in tuning tables: unique in the family, and kept from version to version while it means the same. */
  readonly id: string;
}

/** An operation that several kernels compute. `S` is what its choice may depend on. */
export interface Family<S extends ShapeClass = ShapeClass, V extends Variant = Variant> {
  /** Its name in tuning tables. */
  readonly name: string;
  /** The variant that is taken without tuning: known to be good on adapters of this kind, or portable. */
  reviewed(engine: Runner, shape: S): V;
}

/** All that tuning may choose among. Apart from the family, so that pages without tuning do not load it. */
export interface Candidates<S extends ShapeClass = ShapeClass, V extends Variant = Variant> {
  readonly family: Family<S, V>;
  /** All variants that this engine's device can run for the shape, the reviewed one among them, a few dozen at most. */
  candidates(engine: Runner, shape: S): readonly V[];
}

/** The variant to use. @throws UsageError where the engine's tuning names one that there is not, or not on this device. */
export const choose = <S extends ShapeClass, V extends Variant>(engine: Engine, f: Family<S, V>, shape: S): V =>
  (engine.tuning?.variant(engine, f.name, shape) as V | undefined) ?? f.reviewed(engine, shape);

/**
 * When copies into mirrors pay: with so many multiply-adds, 150 us of them, as the host takes 40 us to ask for copies; and where each
 * element is used so often, as a tile of 32 lines loads it once, which takes as long as to copy it.
 */
const PAYS = { multiplyAdds: 2 ** 21, uses: 64 } as const;

/**
 * Whether a kernel of so many multiply-adds had better read through a mirror (engine/mirrors.ts) a tensor each of whose elements it uses
 * `uses` times: llvmpipe loads from buffers by a branch for each lane. The bits are the same, so both numbers may depend on the batch.
 */
export const prefersMirrors = (
  { adapterClass, mirrors }: Engine,
  multiplyAdds: number,
  uses: number = PAYS.uses,
): boolean =>
  adapterClass === 'lavapipe' &&
  (mirrors === 'always' || (mirrors && multiplyAdds >= PAYS.multiplyAdds && uses >= PAYS.uses));

/** Whether every subgroup has that many lanes. */
export const hasSubgroups = (device: GPUDevice, lanes: number): boolean =>
  device.features.has('subgroups') && (device.adapterInfo.subgroupMinSize ?? 0) >= lanes;

/** Lanes of a subgroup on the CPU drivers that are known, where this one has them. */
export function lanesOf({ adapterClass, device }: Runner): 4 | 8 | null {
  const lanes = adapterClass === 'lavapipe' ? 8 : adapterClass === 'swiftshader' ? 4 : null;
  return lanes !== null && hasSubgroups(device, lanes) ? lanes : null;
}
