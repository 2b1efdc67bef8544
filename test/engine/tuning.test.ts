/** Shapes as keys: found whatever the order of their fields. */
import { expect, it } from 'vitest';
import { shapeKey } from '../../engine/tuning.ts';

it('shapes with the same fields in another order are one', () => {
  expect(shapeKey('product', { n: 4, layout: 'NN' })).toBe(shapeKey('product', { layout: 'NN', n: 4 }));
  expect(shapeKey('product', { n: 4 })).not.toBe(shapeKey('product', { n: '4' }));
  expect(shapeKey('product', { n: 4 })).not.toBe(shapeKey('attention', { n: 4 }));
});
