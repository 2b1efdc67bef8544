/** Which exports of a module are contracts, and what is said of modules that have none that can be timed. */
import { describe, expect, it } from 'vitest';
import { contractsOf } from '../../bench/own-contracts.ts';
import { contract } from '../../kernels/contract.ts';

const own = (name: string, cost: object | null = { flops: 1, bytes: 8 }) =>
  contract<{ size: number }>({
    name,
    cases: [{ size: 1 }],
    inputs: ({ size }) => ({ x: { shape: [size] } }),
    run: (_ctx, { x }) => ({ y: x! }),
    reference: ({ x }) => ({ y: x! }),
    differentiable: [],
    reduction: () => 1,
    ...(cost && { bench: { cases: [{ size: 2 }], cost: () => cost as { flops: number; bytes: number } } }),
  });

describe('contractsOf', () => {
  it('finds them by themselves, in arrays and twice, among other exports', () => {
    const [a, b] = [own('a'), own('b')];
    const exports = { a, default: [a, b], square: () => 1, text: 'x', nothing: null, untimed: own('c', null) };
    expect(contractsOf(exports, 'm')).toEqual([a, b]);
  });

  it.each([
    ['no contract', { f: () => 1 }, 'm exports no contract; it exports f'],
    ['nothing', {}, 'm exports no contract; it exports nothing'],
    ['two of one name', { a: own('a'), b: own('a') }, "m exports two contracts that are named 'a'"],
    ['none to time', { a: own('a', null) }, "m: no cases to time in 'a'"],
    ['a cost without bytes', { a: own('a', { flops: 1 }) }, 'm: the cost of a {"size":2} has bytes of undefined'],
    [
      'a wrong cost of the backward',
      { a: own('a', { flops: 1, bytes: 1, backward: { flops: Number.NaN, bytes: 1 } }) },
      'm: the cost of a {"size":2} has flops of NaN',
    ],
  ])('refuses a module with %s', (_what, exports, message) => {
    expect(() => contractsOf(exports, 'm')).toThrow(expect.objectContaining({ code: 'config', message }));
  });
});
