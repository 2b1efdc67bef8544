/** Ends a transfer that has stalled, whether nothing comes at all or a byte now and then. */
import { ConfigError } from '../../engine/errors.ts';

/** Bytes per second below which a transfer counts as stalled: a tenth of a slow mobile connection. */
const SLOWEST = 1024;
/** Turns of a timer in one period. Time is counted in these, so that a thread that was busy, or a computer that slept, is no stall. */
const TURNS = 4;
/** Longest period in seconds: what timers can be set to. */
const LONGEST = 1e6;

/** What a transfer is given. */
export interface Watch {
  /** Aborted when the transfer has stalled, or when the caller's signal is. */
  readonly signal: AbortSignal;
  /** To be told of every piece that has arrived. */
  arrived(bytes: number): void;
}

/** @throws ConfigError for a period that is none. */
export function checkStallSeconds(seconds: number): number {
  if (seconds > 0 && seconds <= LONGEST) return seconds;
  throw new ConfigError(`stallSeconds is ${seconds}; it must be above 0 and at most ${LONGEST}`);
}

/**
 * Runs a transfer, and aborts it once `seconds` pass in which less than 1 KiB per second arrives on average; at the latest
 * after another quarter of them. Then it throws an Error that says so; `transfer` must end when its signal is aborted.
 */
export async function watched<T>(
  seconds: number,
  signal: AbortSignal | undefined,
  transfer: (watch: Watch) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const enough = Math.ceil(seconds * SLOWEST);
  let bytes = 0;
  let turns = 0;
  let stalled = false;
  const timer = setInterval(
    () => {
      stalled = ++turns > TURNS;
      if (stalled) controller.abort();
    },
    (seconds * 1000) / TURNS,
  );
  const stop = () => controller.abort(signal?.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener('abort', stop);
  const arrived = (count: number) => {
    bytes += count;
    if (bytes < enough) return;
    bytes = 0;
    turns = 0;
  };
  try {
    return await transfer({ signal: controller.signal, arrived });
  } catch (cause) {
    if (!stalled) throw cause;
    throw new Error(`the server stalled: less than ${SLOWEST} bytes per second came in ${seconds} s`, { cause });
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', stop);
  }
}
