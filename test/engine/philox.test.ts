/** The CPU generator against Random123's published vectors, and the statistics and addressing of what is built on it. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import {
  below,
  integers,
  normals,
  permutation,
  philox,
  uniforms,
  type Words2,
  type Words4,
  words,
} from '../../engine/philox.ts';

const source = { seed: 7, stream: 3, step: 11 };

describe('philox4x32-10', () => {
  const vectors: [Words4, Words2, Words4][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  it.each(vectors)('gives the known answer for counter %j', (counter, key, expected) => {
    expect(philox(counter, key)).toEqual(expected);
  });
});

describe('elements of a source', () => {
  it('take word e % 4 of counter (e / 4, 0, step, 0) under key (seed, stream)', () => {
    const all = words(source, 10);
    for (let e = 0; e < 10; e++) expect(all[e]).toBe(philox([Math.floor(e / 4), 0, 11, 0], [7, 3])[e % 4]);
  });

  it('do not depend on how the range is cut', () => {
    const whole = normals(source, 23);
    for (const first of [0, 1, 2, 3, 4, 5, 9]) {
      expect(normals(source, 23 - first, first)).toEqual(whole.slice(first));
      expect(uniforms(source, 6, first)).toEqual(uniforms(source, 23).slice(first, first + 6));
    }
    expect(words(source, 0)).toHaveLength(0);
  });

  it('differ between seeds, streams and steps', () => {
    const firsts = [source, { ...source, seed: 8 }, { ...source, stream: 4 }, { ...source, step: 12 }].map(
      (s) => words(s, 1)[0],
    );
    expect(new Set(firsts).size).toBe(4);
  });

  it('refuse what is not a 32-bit unsigned integer', () => {
    for (const seed of [-1, 0.5, 2 ** 32, Number.NaN]) expect(() => words({ ...source, seed }, 1)).toThrow(ConfigError);
  });
});

describe('distributions', () => {
  const n = 200_000;

  it('uniforms: in [0, 1), exact in 24 bits, with the moments of U(0, 1)', () => {
    const u = uniforms(source, n);
    let [sum, squares] = [0, 0];
    for (const x of u) {
      if (!(x >= 0 && x < 1) || !Number.isInteger(x * 2 ** 24)) throw new Error(`bad uniform ${x}`);
      sum += x;
      squares += x * x;
    }
    // Five standard errors: sd of the mean is sqrt(1/12/n), of the mean square sqrt(4/45/n).
    expect(Math.abs(sum / n - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n));
  });

  it('normals: Box-Muller of the documented words, with the moments of N(0, 1)', () => {
    const z = normals(source, n);
    const [w0, w1] = words(source, 2) as unknown as [number, number];
    const r = Math.sqrt(-2 * Math.log(((w0 >>> 8) + 0.5) / 2 ** 24));
    expect(z[0]).toBeCloseTo(r * Math.cos((2 * Math.PI * (w1 >>> 8)) / 2 ** 24), 6);
    expect(z[1]).toBeCloseTo(r * Math.sin((2 * Math.PI * (w1 >>> 8)) / 2 ** 24), 6);
    const moment = (p: number) => z.reduce((sum, x) => sum + x ** p, 0) / n;
    // Var(x^p) = m(2p) - m(p)^2 with normal moments m = 1, 3, 15, 105 for p = 2, 4, 6, 8.
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
  });

  it('integers: every value of a small range, about equally often', () => {
    const counts = new Float64Array(7);
    for (const k of integers(source, 7, n)) counts[k]! += 1;
    const chi2 = counts.reduce((sum, c) => sum + (c - n / 7) ** 2 / (n / 7), 0);
    expect(chi2).toBeLessThan(29.9); // 6 degrees of freedom, p = 4e-5
    expect(below(0xffffffff, 0xffffffff)).toBe(0xfffffffe);
    expect(below(0, 5)).toBe(0);
  });

  it('permutation: each value once, every order of three about equally often', () => {
    const order = permutation(source, 1000);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect([...permutation(source, 1)]).toEqual([0]);
    const seen = new Map<string, number>();
    for (let step = 0; step < 6000; step++) {
      const key = permutation({ ...source, step }, 3).join('');
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
    expect(seen.size).toBe(6);
    const chi2 = [...seen.values()].reduce((sum, c) => sum + (c - 1000) ** 2 / 1000, 0);
    expect(chi2).toBeLessThan(27.9); // 5 degrees of freedom, p = 4e-5
  });
});
