/** What is chosen in the studio: in the address and back, what a model can draw of it, and how pictures come step by step. */
import { expect, it } from 'vitest';
import { changedHash, paramsOf } from '../../studio/address.ts';
import { attentionRow } from '../../studio/look-attention.ts';
import { fittedLook, lookChanges, lookOf } from '../../studio/look-state.ts';
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

const ten = { classes: 10, ignoreDt: false };

it('a model draws its own number of blocks that is nearest, and classes that it has', () => {
  expect(fitted(START, [4, 8, 12], ten).blocks).toBe(12);
  expect(fitted({ ...START, blocks: 7, label: 9 }, [4, 8, 12], ten)).toMatchObject({ blocks: 8, label: 9 });
  expect(fitted({ ...START, blocks: 99, label: 10 }, [4, 8, 12], ten)).toMatchObject({
    blocks: 12,
    label: null,
  });
  const fine = { ...START, steps: 64 };
  const finest = { ...ten, finest: 32 };
  expect([ten, finest, { ...finest, ignoreDt: true }].map((of) => fitted(fine, [4], of).steps)).toEqual([64, 32, 64]);
  const chosen = { ...START, label: 3, guidance: 2 };
  expect(fitted(chosen, [4], ten)).toMatchObject({ label: 3, guidance: 2 });
  expect(fitted(chosen, [4], { ...ten, unconditional: true })).toMatchObject({ label: null, guidance: 0 });
});

it('few steps come first, for a third more work at most', () => {
  expect([1, 2, 4, 8, 16, 128].map(ladder)).toEqual([[1], [2], [1, 4], [2, 8], [1, 4, 16], [2, 8, 32, 128]]);
});

it('where to look stands in the address, counted from 1', () => {
  const look = { step: 1, block: 3, head: 0, patch: 48, shown: 'velocity' } as const;
  const hash = changedHash('#T=4', lookChanges(look));
  expect(hash).toBe('#T=4&step=2&block=4&head=1&patch=49&show=velocity');
  expect(lookOf(paramsOf(hash))).toEqual(look);
  expect(lookOf(paramsOf('#step=0&block=x&head=-1&show=1'))).toEqual({
    ...{ step: null, block: null, head: null, patch: null, shown: 'picture' },
  });
});

it('a look is one that there is: else the step and the patch in the middle, the last block, all heads', () => {
  const middle = { step: 2, block: 7, head: null, patch: 24, shown: 'picture' };
  const of = { steps: 4, blocks: 8, heads: 4, patches: 49 };
  expect(fittedLook(lookOf(paramsOf('')), of)).toEqual(middle);
  expect(fittedLook(lookOf(paramsOf('#step=5&block=9&head=5&patch=50')), of)).toEqual(middle);
  expect(fittedLook(lookOf(paramsOf('#step=4&head=4')), of)).toMatchObject({ step: 3, head: 3 });
  expect(fittedLook(lookOf(paramsOf('')), { ...of, steps: 1 }).step).toBe(0);
});

it("a patch's attention is one head's row, or the mean of all", () => {
  // Two heads of four tokens: head h's row i is 10 h + i, four times.
  const weights = Float32Array.from({ length: 32 }, (_, at) => 10 * Math.floor(at / 16) + Math.floor((at % 16) / 4));
  const attention = { heads: 2, side: 2, weights };
  expect([...attentionRow(attention, 3, 1)]).toEqual([13, 13, 13, 13]);
  expect([...attentionRow(attention, 2, null)]).toEqual([7, 7, 7, 7]);
});
