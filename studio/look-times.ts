/** Where the time of one evaluation goes, as a list of bars. */
import type { Breakdown } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { count, time } from './words.ts';

/** Kernels that take less than this share are put together. */
const LEAST = 0.02;

export function showTimes({ clock, wallSeconds, sumSeconds, kernels }: Breakdown, what: string): void {
  const large = kernels.filter(({ share }) => share >= LEAST);
  const small = kernels.filter(({ share }) => share < LEAST);
  const sum = (of: (kernel: (typeof small)[number]) => number) => small.reduce((n, kernel) => n + of(kernel), 0);
  const rest = { name: `${small.length} others`, ...{ share: sum((k) => k.share), seconds: sum((k) => k.seconds) } };
  const rows = [...large, ...(small.length > 0 ? [{ ...rest, dispatches: sum((k) => k.dispatches) }] : [])];
  const most = Math.max(...rows.map(({ share }) => share));
  byId('look-times', 'tbody').replaceChildren(
    ...rows.map(({ name, share, seconds, dispatches }) => {
      const bar = make('span');
      bar.style.setProperty('--share', `${share / most}`);
      const cells = [`${(100 * share).toFixed(1)} %`, time(1000 * seconds), `${dispatches}`];
      return make(
        'tr',
        {},
        make('th', { scope: 'row', textContent: name }),
        make('td', { className: 'look-bar wide' }, make('div', { className: 'bar' }, bar)),
        ...cells.map((textContent, i) => make('td', { textContent, className: i === 2 ? 'wide' : '' })),
      );
    }),
  );
  const by =
    clock === 'timestamps'
      ? 'by timestamps of the GPU'
      : 'by the clock of this machine, each kind of dispatch run alone: this browser gives no timestamps that are fine enough';
  byId('look-times-text', 'p').textContent = `${what}: ${time(1000 * wallSeconds)} from submission to end. Its ${count(
    kernels.reduce((n, { dispatches }) => n + dispatches, 0),
    'dispatch',
  ).replace(/dispatchs$/, 'dispatches')} add up to ${time(1000 * sumSeconds)}, measured ${by}.`;
  byId('look-times-table', 'table').hidden = false;
}
