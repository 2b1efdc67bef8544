/** The row of tabs: which is chosen stands in the address, arrow keys go from one to the next, and each loads its code when it is first shown. */
import type { AddressBar } from './address-bar.ts';
import { byId } from './dom.ts';
import type { Tab, TabContext, TabModule, TabName } from './tab.ts';

/** In the order of index.html, which has a tab `tab-NAME` and a panel `NAME` for each. */
const LOADERS: Readonly<Record<TabName, () => Promise<TabModule>>> = {
  sample: () => import('./sample-tab.ts'),
  look: () => import('./look-tab.ts'),
  train: () => import('./train-tab.ts'),
  measure: () => import('./measure-tab.ts'),
};
const NAMES = Object.keys(LOADERS) as TabName[];

/** The tab that the address names; the first where it names none. */
const tabOf = (params: URLSearchParams): TabName => {
  const name = params.get('tab');
  return NAMES.find((known) => known === name) ?? NAMES[0]!;
};

/** What the page gives to its tabs. */
export interface TabsOptions extends Omit<TabContext, 'open'>, Pick<AddressBar, 'push'> {
  /** Told when a tab's code is being loaded, and where that has failed. */
  onLoading(hasFailed: boolean): void;
}

/** Shows the tab that the address names, now and whenever it names another. */
export function startTabs({ onLoading, push, ...given }: TabsOptions): void {
  const mounted = new Map<TabName, Tab>();
  let shown: TabName | null = null;
  const context: TabContext = { ...given, open };
  const buttonOf = (name: TabName) => byId(`tab-${name}`, 'button');

  async function show(name: TabName): Promise<void> {
    if (shown !== null && shown !== name) mounted.get(shown)?.hide?.();
    shown = name;
    for (const other of NAMES) {
      const button = buttonOf(other);
      button.ariaSelected = `${other === name}`;
      button.tabIndex = other === name ? 0 : -1;
      byId(other, 'section').hidden = other !== name;
    }
    document.title = `odelt studio: ${buttonOf(name).textContent}`;
    onLoading(false);
    try {
      const { mountTab } = await LOADERS[name]();
      if (shown !== name) return;
      const tab = mounted.get(name) ?? mountTab(byId(name, 'section'), context);
      mounted.set(name, tab);
      tab.show();
    } catch {
      if (shown === name) onLoading(true);
    }
  }

  function open(name: TabName): void {
    if (name === shown) return;
    push({ tab: name === NAMES[0] ? null : name });
    void show(name);
  }

  const toOther: Readonly<Record<string, (i: number) => number>> = {
    ArrowRight: (i) => (i + 1) % NAMES.length,
    ArrowLeft: (i) => (i + NAMES.length - 1) % NAMES.length,
    Home: () => 0,
    End: () => NAMES.length - 1,
  };
  for (const [i, name] of NAMES.entries()) {
    const button = buttonOf(name);
    button.addEventListener('click', () => open(name));
    button.addEventListener('keydown', (event) => {
      const other = NAMES[toOther[event.key]?.(i) ?? -1];
      if (!other) return;
      event.preventDefault();
      buttonOf(other).focus();
      open(other);
    });
  }
  // Of links and of steps in the history alike; pushState tells of neither.
  window.addEventListener('popstate', () => void show(tabOf(given.params())));
  acceptDrops((dropped) => shown && mounted.get(shown)?.drop?.(dropped));
  void show(tabOf(given.params()));
}

/** Tells of files that are dropped anywhere on the page. */
function acceptDrops(onDrop: (dropped: DataTransfer) => void): void {
  const over = (is: boolean) => document.body.classList.toggle('dropping', is);
  window.addEventListener('dragover', (event) => {
    event.preventDefault();
    over(true);
  });
  window.addEventListener('dragleave', () => over(false));
  window.addEventListener('drop', (event) => {
    event.preventDefault();
    over(false);
    if (event.dataTransfer) onDrop(event.dataTransfer);
  });
}
