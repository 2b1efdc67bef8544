/** Turns of the event loop: long sums give them away now and then. */

/** Lets signals, timers and messages be heard, which promises alone do not. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));
