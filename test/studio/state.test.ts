/** What is chosen in the studio: in the address and back, what a model can draw of it, and how pictures come step by step. */
import { expect, it } from 'vitest';
import { changedHash, paramsOf } from '../../studio/address.ts';
import { changesOf, fitted, ladder, START, type State, stateOf } from '../../studio/state.ts';

const hashOf = (state: State, before = '') => changedHash(before, changesOf(state));
const parseHash = (hash: string) => stateOf(paramsOf(hash));

it('a state stands in the hash, and comes back', () => {
  const state = { steps: 16, blocks: 8, label: 0, guidance: 2.5, seed: 77 };
  expect(hashOf(state)).toBe('#T=16&L=8&class=0&guidance=2.5&seed=77');
  expect(parseHash(hashOf(state))).toEqual(state);
  expect(hashOf(START)).toBe('#T=4');
  expect(parseHash('')).toEqual(START);
});

it('what the address says of other tabs stays', () => {
  expect(hashOf(START, '#tab=look&T=8&L=4&step=2&class=3')).toBe('#tab=look&T=4&step=2');
  expect(parseHash('#tab=look&T=8&step=2')).toEqual({ ...START, steps: 8 });
});

it.each([
  '#T=3',
  '#T=256',
  '#T=',
  '#L=0',
  '#L=x',
  '#class=-1',
  '#guidance=-1',
  '#guidance=21',
  '#guidance=NaN',
  '#seed=1.5',
  '#seed=4294967296',
  '#nonsense',
])('%s says nothing', (hash) => {
  expect(parseHash(hash)).toEqual(START);
});

it('a model draws its own number of blocks that is nearest, and classes that it has', () => {
  expect(fitted(START, [4, 8, 12], 10).blocks).toBe(12);
  expect(fitted({ ...START, blocks: 7, label: 9 }, [4, 8, 12], 10)).toMatchObject({ blocks: 8, label: 9 });
  expect(fitted({ ...START, blocks: 99, label: 10 }, [4, 8, 12], 10)).toMatchObject({ blocks: 12, label: null });
});

it('few steps come first, for a third more work at most', () => {
  expect([1, 2, 4, 8, 16, 128].map(ladder)).toEqual([[1], [2], [1, 4], [2, 8], [1, 4, 16], [2, 8, 32, 128]]);
});
