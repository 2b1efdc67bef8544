/** Work that a caller's AbortSignal ends: the error says why, as the signal does. */
import { InterruptedError } from './errors.ts';

/** @throws InterruptedError where `signal` is aborted, for the signal's reason; `what` says which work was interrupted, and how far it came. */
export function throwIfAborted(signal: AbortSignal | undefined, what?: string): void {
  if (signal?.aborted) throw new InterruptedError(what, { cause: signal.reason });
}

/** The promise's outcome, or the error of `throwIfAborted` as soon as the signal is aborted. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined, what: string): Promise<T> {
  if (signal === undefined) return promise;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(new InterruptedError(what, { cause: signal.reason }));
  });
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop);
  return Promise.race([aborted, promise]).finally(() => signal.removeEventListener('abort', stop));
}
