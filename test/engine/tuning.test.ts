/** Choices as data: found whatever the order of a shape's fields, in one order for equal ones. */
import { expect, it } from 'vitest';
import { shapeKey, tuningOf } from '../../engine/tuning.ts';

it('shapes with the same fields in another order are one', () => {
  expect(shapeKey('product', { n: 4, layout: 'NN' })).toBe(shapeKey('product', { layout: 'NN', n: 4 }));
  expect(shapeKey('product', { n: 4 })).not.toBe(shapeKey('product', { n: '4' }));
  expect(shapeKey('product', { n: 4 })).not.toBe(shapeKey('attention', { n: 4 }));
});

it('tuningOf makes the choices given, the last of two for one shape, and none for others', () => {
  const a = { family: 'product', shape: { layout: 'NN', n: 4 }, variant: 'staged' };
  const b = { family: 'product', shape: { n: 4, layout: 'NN' }, variant: 'register' };
  const c = { family: 'attention', shape: { n: 4 }, variant: 'staged' };
  const tuning = tuningOf([a, c, b]);
  expect(tuning.choice('product', { n: 4, layout: 'NN' })).toBe('register');
  expect(tuning.choice('attention', { n: 4 })).toBe('staged');
  expect(tuning.choice('attention', { n: 5 })).toBeUndefined();
  expect(tuning.choices).toEqual([c, b]);
  expect(tuningOf([b, c]).choices).toEqual(tuning.choices);
});
