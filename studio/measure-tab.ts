/** The tab *Measure*. */
import type { Tab } from './tab.ts';

export function mountTab(): Tab {
  return { show() {} };
}
