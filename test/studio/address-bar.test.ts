/** The address: changes are gathered and lost neither to a refusal of the browser nor to a change of tab, but to a step in the history. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createAddressBar } from '../../studio/address-bar.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function page(hash = '') {
  const listeners = new Map<string, () => void>();
  const calls: string[] = [];
  const location = { hash };
  let refuses = false;
  const change = (name: string) => (_: unknown, __: string, to?: string | URL | null) => {
    if (refuses) throw new DOMException('more than 100 times per 10 seconds', 'SecurityError');
    calls.push(`${name} ${to}`);
    location.hash = `${to}`;
  };
  const bar = createAddressBar({
    location,
    history: { replaceState: change('replace'), pushState: change('push') },
    addEventListener: (type, listener) => void listeners.set(type, listener),
  });
  const refuse = (is: boolean) => {
    refuses = is;
  };
  return { bar, calls, location, refuse, tell: (type: string) => listeners.get(type)!() };
}

it('many changes are one, which counts at once and stands there soon', () => {
  const { bar, calls } = page('#tab=look');
  for (let seed = 0; seed < 150; seed++) bar.write({ seed: `${seed}`, T: '2' });
  bar.write({ T: null });
  expect([calls, `${bar.params()}`]).toEqual([[], 'tab=look&seed=149']);
  vi.advanceTimersByTime(1000);
  expect(calls).toEqual(['replace #tab=look&seed=149']);
});

it('what the browser refuses is written with the next change', () => {
  const { bar, calls, refuse } = page();
  refuse(true);
  bar.write({ L: '4' });
  vi.advanceTimersByTime(1000);
  expect([calls, `${bar.params()}`]).toEqual([[], 'L=4']);
  refuse(false);
  bar.write({ T: '8' });
  vi.advanceTimersByTime(1000);
  expect(calls).toEqual(['replace #L=4&T=8']);
});

it('a step in the history has what waits before it, and nothing of what waits after one that the user takes', () => {
  const { bar, calls, location, tell } = page();
  bar.write({ L: '4' });
  bar.push({ tab: 'look' });
  expect(calls).toEqual(['replace #L=4', 'push #L=4&tab=look']);
  bar.write({ L: '8' });
  location.hash = '#L=2';
  tell('popstate');
  vi.advanceTimersByTime(1000);
  expect([calls.length, `${bar.params()}`]).toEqual([2, 'L=2']);
});

it('what waits is written where the page is left', () => {
  const { bar, calls, tell } = page();
  bar.write({ L: '4' });
  tell('pagehide');
  vi.advanceTimersByTime(1000);
  expect(calls).toEqual(['replace #L=4']);
});
