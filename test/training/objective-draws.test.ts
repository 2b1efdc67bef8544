/** What objectives draw: where times, lengths and splits lie, that all of them occur, and how often. */
import { describe, expect, it } from 'vitest';
import { type Draws, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { tinyModel } from '../support/tiny.ts';

/** Draws of the first batches of a run whose rows all have consistency targets. */
function drawn(change: Partial<TrainConfig>, batches: number): Draws[] {
  const train = parseTrainConfig({ batch: 64, timeEvery: 1, lengthEvery: 0, seed: 7, ...change });
  return Array.from({ length: batches }, (_, step) => drawStep(tinyModel, train, step));
}

/** Pearson's chi-square of counts in cells of these probabilities. */
function chiSquare(counts: ReadonlyMap<string, number>, probabilities: ReadonlyMap<string, number>): number {
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  expect([...counts.keys()].filter((key) => !probabilities.has(key))).toEqual([]);
  expect([...probabilities.values()].reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
  return [...probabilities].reduce((sum, [key, p]) => sum + ((counts.get(key) ?? 0) - total * p) ** 2 / (total * p), 0);
}

function counted(keys: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

describe('splitmeanflow', () => {
  const intervals = (change: Partial<TrainConfig>, batches: number) =>
    drawn({ objective: 'splitmeanflow', ...change }, batches).flatMap(({ levels, timeT, fractions }) =>
      Array.from(timeT, (t, i) => ({ t, length: 2 ** -levels[i]!, fraction: fractions![i]! })),
    );

  it('on the grid: every pair of points two sections apart or more, and every split between them, as often as it should', () => {
    const finest = 8;
    const keys = intervals({ finest }, 400).map(({ t, length, fraction }) => {
      const [from, sections] = [t * finest, length * finest].map(Math.round) as [number, number];
      expect(t).toBe(from / finest);
      expect(Math.abs(length * finest - sections)).toBeLessThan(1e-12);
      const first = Math.round(fraction * sections);
      expect(fraction).toBe(first / sections);
      return `${from}+${first}+${sections - first}`;
    });
    // 28 pairs of points; of n sections there are n - 1 splits.
    const expected = new Map<string, number>();
    for (let from = 0; from < finest; from++) {
      for (let end = from + 2; end <= finest; end++) {
        const splits = end - from - 1;
        for (let first = 1; first <= splits; first++) {
          expected.set(`${from}+${first}+${end - from - first}`, 1 / 28 / splits);
        }
      }
    }
    const counts = counted(keys);
    expect([expected.size, counts.size]).toEqual([84, 84]);
    // 83 degrees of freedom: one fair seed in a thousand has more.
    expect(chiSquare(counts, expected)).toBeLessThan(128.6);
  });

  it('anywhere: two uniform points, no nearer than two of the finest steps, split evenly', () => {
    const finest = 16;
    const shortest = 2 / finest;
    const all = intervals({ finest, timeSampling: 'continuous' }, 200);
    for (const { t, length, fraction } of all) {
      expect(t).toBeGreaterThanOrEqual(0);
      expect(t + length).toBeLessThanOrEqual(1 + 1e-6);
      expect(length).toBeGreaterThanOrEqual(shortest * (1 - 1e-12));
      expect(fraction >= 0 && fraction < 1).toBe(true);
    }
    // |a - b| exceeds x with probability (1 - x)^2; those that are too near are all of the shortest length.
    const bins = 14;
    const width = (1 - shortest) / bins;
    const least = shortest * (1 + 1e-9);
    const binOf = (x: number) =>
      x <= least ? 'shortest' : String(Math.min(bins - 1, Math.floor((x - shortest) / width)));
    const above = (x: number) => (1 - x) ** 2;
    const lengths = new Map([['shortest', 1 - above(shortest)]]);
    for (let b = 0; b < bins; b++) {
      lengths.set(String(b), above(shortest + b * width) - above(shortest + (b + 1) * width));
    }
    // 14 and 9 degrees of freedom: one fair seed in a thousand has more.
    expect(chiSquare(counted(all.map(({ length }) => binOf(length))), lengths)).toBeLessThan(36.13);
    const tenths = new Map(Array.from({ length: 10 }, (_, i) => [String(i), 0.1]));
    const splits = counted(all.map(({ fraction }) => String(Math.floor(10 * fraction))));
    expect(chiSquare(splits, tenths)).toBeLessThan(27.88);
    // Where the interval begins, within the room it has, is even, too.
    const long = all.filter(({ length }) => length > least);
    const places = counted(long.map(({ t, length }) => String(Math.floor((10 * t) / (1 - length)))));
    expect(chiSquare(places, tenths)).toBeLessThan(27.88);
  });
});

describe('shortcut', () => {
  const levelsOf = (change: Partial<TrainConfig>, batches: number) =>
    drawn({ objective: 'shortcut', ...change }, batches).flatMap(({ levels, timeT }) =>
      Array.from(levels, (level, i) => {
        const place = timeT[i]! * 2 ** level;
        expect(Number.isInteger(place) && place >= 0 && place < 2 ** level).toBe(true);
        return { level: String(level), place };
      }),
    );
  const counts = (levels: ReturnType<typeof levelsOf>) => counted(levels.map(({ level }) => level));
  const even = (n: number) => new Map(Array.from({ length: n }, (_, d) => [String(d), 1 / n]));

  it('with dtBias draws level 1 a quarter of the time, level 0 a quarter, the others evenly', () => {
    const found = levelsOf({ finest: 128, dtBias: true }, 300);
    const biased = new Map([['0', 0.25], ['1', 0.25], ...[2, 3, 4, 5, 6].map((d) => [String(d), 0.1] as const)]);
    // 6 degrees of freedom: one fair seed in a thousand has more.
    expect(chiSquare(counts(found), biased)).toBeLessThan(22.46);
    // All levels evenly is another distribution.
    expect(chiSquare(counts(found), even(7))).toBeGreaterThan(1000);
    // Times are even on the level's grid.
    const places = counted(found.filter(({ level }) => level === '3').map(({ place }) => String(place)));
    expect(chiSquare(places, even(8))).toBeLessThan(24.32);
  });

  it('without, and where there are two levels only, draws all evenly', () => {
    expect(chiSquare(counts(levelsOf({ finest: 128 }, 300)), even(7))).toBeLessThan(22.46);
    expect(chiSquare(counts(levelsOf({ finest: 4, dtBias: true }, 300)), even(2))).toBeLessThan(10.83);
    expect(chiSquare(counts(levelsOf({ finest: 2, dtBias: true }, 3)), even(1))).toBe(0);
  });
});
