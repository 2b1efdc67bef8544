/** How reports write their numbers. */
import { expect, it } from 'vitest';
import { rate } from '../../bench/markdown.ts';

it('rates have three digits and no exponent, also where they round up to a thousand', () => {
  expect([0.1234, 1.234, 12.34, 99.96, 123.4, 999.4, 999.7, 1234].map(rate)).toEqual([
    ...['0.123', '1.23', '12.3', '100', '123', '999', '1000', '1234'],
  ]);
  expect(rate(null)).toBe('');
});
