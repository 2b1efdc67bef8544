/** Tuning from choices: in one order for equal ones, the variants that a family has, and an error for those that it has not. */
import { expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { tuningBy, tuningOf } from '../../kernels/candidates.ts';
import type { Candidates } from '../../kernels/family.ts';

const engine = {} as Engine;
const familyOf = (name: string): Candidates => {
  const variants = [{ id: 'register' }, { id: 'staged' }];
  return { family: { name, reviewed: () => variants[0]! }, candidates: () => variants };
};
const families = ['product', 'attention'].map(familyOf);

it('tuningOf makes the choices given, the last of two for one shape, and none for others', () => {
  const a = { family: 'product', shape: { layout: 'NN', n: 4 }, variant: 'staged' };
  const b = { family: 'product', shape: { n: 4, layout: 'NN' }, variant: 'register' };
  const c = { family: 'attention', shape: { n: 4 }, variant: 'staged' };
  const tuning = tuningOf([a, c, b], families);
  expect(tuning.variant(engine, 'product', { n: 4, layout: 'NN' })).toEqual({ id: 'register' });
  expect(tuning.variant(engine, 'attention', { n: 4 })).toEqual({ id: 'staged' });
  expect(tuning.variant(engine, 'attention', { n: 5 })).toBeUndefined();
  expect(tuning.choices).toEqual([c, b]);
  expect(tuningOf([b, c]).choices).toEqual(tuning.choices);
});

it('tuningBy asks its rule, leaves families alone that it does not know, and cannot be written down', () => {
  const rule = vi.fn((family: string) => (family === 'attention' ? undefined : 'staged'));
  const tuning = tuningBy(rule, families);
  expect(tuning.variant(engine, 'product', { n: 4 })).toEqual({ id: 'staged' });
  expect(tuning.variant(engine, 'attention', { n: 4 })).toBeUndefined();
  expect(tuning.variant(engine, 'norm', { width: 8 })).toBeUndefined();
  expect(rule.mock.calls).toEqual([
    ['product', { n: 4 }],
    ['attention', { n: 4 }],
    ['norm', { width: 8 }],
  ]);
  expect(tuning.choices).toBeUndefined();
});

it('a variant that is none of the family is an error that names those there are', () => {
  const tuning = tuningBy(() => 'warp', families);
  expect(() => tuning.variant(engine, 'product', { n: 4 })).toThrow(
    /^tuning asks for 'warp' for product \{"n":4\}, which is none of its variants/,
  );
  const hint = expect.stringContaining('there are register, staged; tune again');
  expect(() => tuning.variant(engine, 'product', { n: 4 })).toThrow(expect.objectContaining({ hint }));
});
