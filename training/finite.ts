/** Whether weights and moments are finite. */
import { NonFiniteError } from '../engine/errors.ts';
import { turns } from '../engine/turns.ts';
import { firstNonFinite } from '../formats/finite.ts';
import { paramEntries } from '../model/params.ts';
import type { TrainSets } from './state.ts';

/** What to do about a run that has diverged. */
export const DIVERGED = 'continue from the last checkpoint with a lower --lr or with --clip 1';

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
