/** What a tab is to the page that shows it, and the page to a tab. */
import type { OdeltWorker } from '../web/client.ts';
import type { Changes } from './address.ts';
import type { SharedModel } from './shared-model.ts';

export type TabName = 'sample' | 'look' | 'train' | 'measure';

/** What the page gives to a tab. */
export interface TabContext {
  /** What the address says now. */
  params(): URLSearchParams;
  /** Changes what the address says, soon and without a step in the browser's history; the tab itself is not told. */
  write(changes: Changes): void;
  /** The model that is sampled and looked into, on a worker of its own. */
  readonly shared: SharedModel;
  /** A new worker with a GPU device of its own, for work that nobody else should wait for. */
  startWorker(): OdeltWorker;
  /** The element that an SVG's text describes, where the library made the text. */
  drawing(svg: string): SVGElement;
  /** Brings a tab into view. */
  open(tab: TabName): void;
}

/** A tab that has been mounted. */
export interface Tab {
  /** It has come into view, or the address has changed while it was there. */
  show(): void;
  /** It has gone out of view; what it has begun may go on. */
  hide?(): void;
  /** Files have been dropped on the page while it was in view. */
  drop?(dropped: DataTransfer): void;
}

/** What a tab's module exports: called once, when the tab is first shown, with its panel in index.html. */
export interface TabModule {
  mountTab(root: HTMLElement, context: TabContext): Tab;
}
