/** Loops over the updates of a trainer, which share its inputs on the GPU. */
import { UsageError } from '../engine/errors.ts';

/** `loop`, to be gone through by one at a time. Its generators throw UsageError while another has not ended. */
export function oneLoop<T>(loop: () => AsyncGenerator<T>): () => AsyncGenerator<T> {
  let running = false;
  return async function* () {
    if (running)
      throw new UsageError('this trainer is running already', { hint: 'end the loop over its events first' });
    running = true;
    try {
      yield* loop();
    } finally {
      running = false;
    }
  };
}
