/** The choice among candidates, as a function of seconds: made-up ones, so that no clock is in it. */
import { describe, expect, it } from 'vitest';
import { beats, ratioTo, stillIn } from '../../tuning/select.ts';

const rounds = (n: number, f: (round: number) => number) => Array.from({ length: n }, (_, round) => f(round));

describe('ratioTo', () => {
  it('is the geometric mean over numbers of samples, however long each takes', () => {
    // Half the time for one sample, twice for sixteen: no better and no worse.
    const base = [rounds(9, () => 0.001), rounds(9, () => 10)];
    const other = [rounds(9, () => 0.0005), rounds(9, () => 20)];
    expect(ratioTo(other, base).ratio).toBeCloseTo(1, 12);
    expect(ratioTo([other[0]!], [base[0]!])).toEqual({ ratio: 0.5, low: 0.5, high: 0.5 });
    expect(ratioTo([rounds(9, () => 0.00025), other[1]!], base).ratio).toBeCloseTo(Math.SQRT1_2, 12);
  });

  it('pairs rounds: a machine that slows down meets both', () => {
    const load = (round: number) => 1 + round;
    const base = [rounds(9, (r) => 0.01 * load(r))];
    const other = [rounds(9, (r) => 0.008 * load(r))];
    const ratio = ratioTo(other, base);
    expect(ratio.ratio).toBeCloseTo(0.8, 12);
    expect(ratio.high - ratio.low).toBeLessThan(1e-12);
    expect(beats(ratio)).toBe(true);
  });
});

describe('beats', () => {
  it('takes the whole interval below the margin: noise wins nothing, however good its median', () => {
    const base = [rounds(9, () => 0.01)];
    const noisy = [rounds(9, (r) => (r % 2 === 0 ? 0.007 : 0.012))];
    const ratio = ratioTo(noisy, base);
    expect(ratio.ratio).toBeCloseTo(0.7, 12);
    expect(ratio.high).toBeGreaterThan(1);
    expect(beats(ratio)).toBe(false);
    expect(beats(ratioTo([rounds(9, () => 0.0098)], base))).toBe(false);
    expect(beats(ratioTo([rounds(9, () => 0.0096)], base))).toBe(true);
  });
});

describe('stillIn', () => {
  it('leaves out what takes more than twice as long as the fastest, the base included', () => {
    expect(
      stillIn(
        new Map([
          ['a', 1.9],
          ['b', 2.1],
          ['c', 1.2],
        ]),
      ),
    ).toEqual(['c', 'a']);
    expect(
      stillIn(
        new Map([
          ['a', 0.9],
          ['b', 0.4],
          ['c', 0.81],
        ]),
      ),
    ).toEqual(['b']);
    expect(
      stillIn(
        new Map([
          ['a', 3],
          ['b', 2.5],
        ]),
      ),
    ).toEqual([]);
  });

  it('keeps no more than it is told, the fastest', () => {
    const ratios = new Map([1.1, 1.3, 0.9, 1.2, 1].map((ratio, i) => [`v${i}`, ratio] as const));
    expect(stillIn(ratios)).toEqual(['v2', 'v4', 'v0']);
    expect(stillIn(ratios, 1)).toEqual(['v2']);
  });
});
