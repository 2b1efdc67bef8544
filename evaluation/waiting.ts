/** Figures of many pictures, or of wide features, take minutes and hours: in pieces, between which others get their turn. */
import { throwIfAborted } from '../engine/abort.ts';
import { nextTurn } from '../engine/turns.ts';

/** How far a figure is. */
export interface FigureWork {
  /** What is under way and by what it is counted, such as 'interval, resampled set'. */
  readonly what: string;
  readonly done: number;
  readonly of: number;
}

/** Who waits for a figure. */
export interface Waiting {
  /** Looked at between pieces of work, some ten times a second. */
  readonly signal?: AbortSignal;
  /** Told how far a figure is, ten times a second at most. */
  readonly onWork?: (work: FigureWork) => void;
}

/** What work awaits between its pieces, of which so many are done. @throws InterruptedError */
export type Pause = (done: number) => Promise<void>;

/** Milliseconds after which others get their turn. */
const TURN = 100;

/** "interval, resampled set 4/200". */
export const describeWork = ({ what, done, of }: FigureWork): string => `${what} ${done}/${of}`;

/** The pauses of work in `of` pieces: they do nothing until it has kept others waiting, which then have their turn and are told. */
export function pausing(what: string, of: number, { signal, onWork }: Waiting = {}): Pause {
  let since = performance.now();
  return async (done) => {
    if (performance.now() - since < TURN) return;
    const work = { what, done, of };
    onWork?.(work);
    await nextTurn();
    throwIfAborted(signal, `figures were interrupted: ${describeWork(work)}`);
    since = performance.now();
  };
}
