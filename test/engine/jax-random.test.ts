/** JAX's random numbers against what JAX drew from PRNGKey(42) in both of its modes, bit for bit. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { UsageError } from '../../engine/errors.ts';
import { jaxBernoulli, jaxIntegers, jaxNormal, jaxPermutation, jaxUniform } from '../../engine/jax-random.ts';
import { foldIn, prngKey, randomBits, splitKey, threefry2x32 } from '../../engine/threefry.ts';
import { FIXTURES } from '../support/golden.ts';

type Recorded = Record<string, number[] & number[][]>;
const recording = JSON.parse(await readFile(join(FIXTURES, 'prng.json'), 'utf8')) as Record<string, Recorded>;
const key = prngKey(42);
const bitsOf = (values: Float32Array<ArrayBuffer>) => [...new Uint32Array(values.buffer)];

test("threefry2x32 of Random123's known answers", () => {
  expect(threefry2x32([0, 0], 0, 0)).toEqual([0x6b200159, 0x99ba4efe]);
  expect(threefry2x32([0xffffffff, 0xffffffff], 0xffffffff, 0xffffffff)).toEqual([0x1cb996fc, 0xbb002be7]);
  expect(threefry2x32([0x13198a2e, 0x03707344], 0x243f6a88, 0x85a308d3)).toEqual([0xc4923a9c, 0x483df7a0]);
});

describe.each([true, false])('partitionable: %s', (partitionable) => {
  const of = recording[`partitionable_${partitionable}`]!;
  const mode = { partitionable };

  it('derives keys', () => {
    expect(key).toEqual(of.key);
    expect([0, 1, 2].map((data) => foldIn(key, data))).toEqual(of.fold_in_0_1_2);
    expect(foldIn(foldIn(key, 0), 0)).toEqual(of.fold_in_fold_in_0_0);
    for (const count of [2, 3, 5, 6]) expect(splitKey(key, count, mode)).toEqual(of[`split_${count}`]);
  });

  it('draws words, also of an odd number and of a part', () => {
    expect([...randomBits(key, { count: 8 }, mode)]).toEqual(of.bits_u32_8);
    expect([...randomBits(key, { count: 7 }, mode)]).toEqual(of.bits_u32_7_odd);
    expect([...randomBits(key, { count: 6 }, mode)]).toEqual(of.bits_u32_2x3!.flat());
    expect([...randomBits(key, { first: 2, count: 4, total: 7 }, mode)]).toEqual(of.bits_u32_7_odd!.slice(2, 6));
  });

  it('draws uniforms and normals to the bit', () => {
    expect(bitsOf(jaxUniform(key, { count: 6 }, mode))).toEqual(of.uniform_2x3_bits);
    expect([...jaxUniform(key, { count: 5 }, { min: -1, max: 1, ...mode })]).toEqual(of['uniform_minval-1_5']);
    expect(bitsOf(jaxNormal(key, { count: 6 }, mode))).toEqual(of.normal_2x3_bits);
    expect([...jaxNormal(key, { count: 5 }, mode)]).toEqual(of.normal_5);
  });

  it('draws integers, coins and permutations', () => {
    for (const max of [7, 128, 1000, 3]) {
      expect([...jaxIntegers(key, { count: 8 }, { min: 0, max, ...mode })]).toEqual(of[`randint_0_${max}_shape8`]);
    }
    expect([...jaxBernoulli(key, 0.1, { count: 16 }, mode)]).toEqual(of['bernoulli_0.1_shape16']);
    expect([...jaxPermutation(key, 16, mode)]).toEqual(of.permutation_16);
  });
});

test('normals have the moments of normals, far out too', () => {
  const values = jaxNormal(key, { count: 200_000 });
  const mean = (f: (x: number) => number) => values.reduce((sum, x) => sum + f(x), 0) / values.length;
  expect(Math.abs(mean((x) => x))).toBeLessThan(0.01);
  expect(Math.abs(mean((x) => x * x) - 1)).toBeLessThan(0.02);
  expect(Math.abs(mean((x) => x ** 4) - 3)).toBeLessThan(0.15);
  expect(values.every(Number.isFinite)).toBe(true);
  // P(|x| > 3) is 0.0027.
  expect(mean((x) => (Math.abs(x) > 3 ? 1 : 0))).toBeGreaterThan(0.0022);
  expect(mean((x) => (Math.abs(x) > 3 ? 1 : 0))).toBeLessThan(0.0032);
});

test('a permutation holds every number once', () => {
  expect([...jaxPermutation(prngKey(7), 3000)].sort((a, b) => a - b)).toEqual(
    Array.from({ length: 3000 }, (_, i) => i),
  );
  expect([...jaxPermutation(key, 0)]).toEqual([]);
});

test('integers of negative bounds lie within them', () => {
  const drawn = jaxIntegers(key, { count: 500 }, { min: -2, max: 3 });
  expect(new Set(drawn)).toEqual(new Set([-2, -1, 0, 1, 2]));
});

test('wrong arguments are refused', () => {
  expect(() => prngKey(-1)).toThrow('the seed is -1; it must be an integer in [0, 2^32)');
  expect(() => foldIn(key, 2 ** 32)).toThrow(UsageError);
  expect(() => splitKey(key, 1.5)).toThrow('a key cannot be split into 1.5 keys');
  expect(() => randomBits(key, { count: 4, total: 3 })).toThrow('elements 0 to 4 of 3 cannot be drawn');
  expect(() => jaxIntegers(key, { count: 1 }, { min: 3, max: 3 })).toThrow('at least 3 and less than 3');
  expect(() => jaxBernoulli(key, 1.5, { count: 1 })).toThrow('a probability lies in [0, 1], not 1.5');
});
