/** Long work on the host, in pieces: between them the event loop has turns for all else, such as signs of life to other processes. */

/** Milliseconds of work after which others have a turn. */
const LONGEST = 100;

/** Lets signals, timers and messages be heard, which promises alone do not. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** Returns what to await between pieces of work: it resolves at once until `longest` milliseconds have gone by since the last turn of others. */
export function turns(longest = LONGEST): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < longest) return;
    await nextTurn();
    since = performance.now();
  };
}
