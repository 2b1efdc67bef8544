/** What the browser shows as the address: changes are put there a while later, all at once, as browsers refuse more than a few each second. */
import { type Changes, changedHash, paramsOf } from './address.ts';

/** What is used of a window. */
export interface Addressed {
  readonly location: Pick<Location, 'hash'>;
  readonly history: Pick<History, 'replaceState' | 'pushState'>;
  addEventListener(type: 'popstate' | 'pagehide', listener: () => void): void;
}

export interface AddressBar {
  /** What the address says, or will say soon. */
  params(): URLSearchParams;
  /** Changes it, without a step in the browser's history. */
  write(changes: Changes): void;
  /** Changes it at once, by a step in the history. */
  push(changes: Changes): void;
}

/** Milliseconds for which changes are gathered. */
const SOON = 200;

export function createAddressBar(page: Addressed): AddressBar {
  let waiting: Changes = {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  const rest = () => {
    stop();
    waiting = {};
  };
  const hash = () => changedHash(page.location.hash, waiting);
  /** Too often for this browser, and it throws: what was chosen counts all the same, and stands there with the next change. */
  const put = (how: 'replaceState' | 'pushState') => {
    stop();
    try {
      page.history[how](null, '', hash());
      rest();
    } catch {}
  };
  const flush = () => {
    if (Object.keys(waiting).length > 0) put('replaceState');
  };
  // Whoever has gone elsewhere meanwhile has the say.
  page.addEventListener('popstate', rest);
  page.addEventListener('pagehide', flush);
  return {
    params: () => paramsOf(hash()),
    write(changes) {
      waiting = { ...waiting, ...changes };
      timer ??= setTimeout(flush, SOON);
    },
    push(changes) {
      flush();
      waiting = { ...waiting, ...changes };
      put('pushState');
    },
  };
}
