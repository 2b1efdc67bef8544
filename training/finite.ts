/** Whether weights and moments are finite. */
import { NonFiniteError } from '../engine/errors.ts';
import { turns } from '../engine/turns.ts';
import { paramEntries } from '../model/params.ts';
import type { TrainSets } from './state.ts';

/** All bits of a float32's exponent, which NaN and infinities alone have. */
const EXPONENT = 0x7f800000;

/** What to do about a run that has diverged. */
export const DIVERGED = 'continue from the last checkpoint with a lower --lr or with --clip 1';

/** Where the first NaN or infinity is, -1 where there is none; by the bits, which takes a twentieth of the time of `Number.isFinite`. */
export function firstNonFinite({ buffer, byteOffset, length }: Float32Array): number {
  const bits = new Uint32Array(buffer, byteOffset, length);
  for (let i = 0; i < length; i++) if ((bits[i]! & EXPONENT) === EXPONENT) return i;
  return -1;
}

/**
 * A state that holds a NaN or infinity must not replace a good checkpoint: losses show it one update later than weights. Of large models that
 * takes seconds, in which the process must still tell others that it is there. @throws NonFiniteError
 */
export async function checkFinite(sets: TrainSets, step: number): Promise<void> {
  const turn = turns();
  for (const [part, set] of Object.entries(sets)) {
    for (const { spec, values } of paramEntries(set)) {
      await turn();
      if (firstNonFinite(values) < 0) continue;
      throw new NonFiniteError(`step ${step}: ${part}/${spec.name} is no longer finite; nothing was saved`, {
        hint: DIVERGED,
      });
    }
  }
}
