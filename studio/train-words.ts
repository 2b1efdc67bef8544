/** What went wrong in training, in plain words: what a page can do about it, where the library speaks of commands. */
import { DataError, NonFiniteError, OutOfMemoryError } from '../engine/errors.ts';

/** The error as the tab *Train* tells it. @param kept updates that can be gone on from; null: none. */
export function plainly(error: unknown, kept: number | null): unknown {
  const from = kept === null ? 'Train again' : `Go on from update ${kept}`;
  if (error instanceof NonFiniteError) {
    return new NonFiniteError('The loss is no longer a number: the updates were too large.', {
      cause: error,
      hint: `${from}, with a lower learning rate.`,
    });
  }
  if (error instanceof OutOfMemoryError) {
    return new OutOfMemoryError('There is too little GPU memory for this run.', {
      cause: error,
      hint: 'Take fewer samples per update, smaller pictures or the small model; or close other programs.',
    });
  }
  if (error instanceof DataError && /no file lies in a folder/.test(error.message)) {
    return new DataError('There are no pictures in what was chosen.', {
      cause: error,
      hint: 'Choose a folder of pictures, or one with a sub-folder for each class.',
    });
  }
  return error;
}
