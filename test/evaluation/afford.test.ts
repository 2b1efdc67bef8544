/** What budgets buy: how they are written, which cell is chosen, and how measured time is scaled to cells. */
import { describe, expect, it } from 'vitest';
import { ConfigError, LimitError, UsageError } from '../../engine/errors.ts';
import {
  chooseCell,
  describeBought,
  describeCost,
  fewestBlocks,
  type Priced,
  parseBudget,
  secondsOfCells,
} from '../../evaluation/afford.ts';
import type { StoredCell, StoredEvaluation } from '../../evaluation/stored.ts';

const cell = (steps: number, blocks: number, fd: number, secondsPerSample = 1): StoredCell => ({
  ...{ steps, blocks, fd: { value: fd, low: fd - 0.25, high: fd + 0.5 }, secondsPerSample },
  ...{ peakBytes: 1, bytesRead: 1 },
});
const priced = (steps: number, blocks: number, fd: number, cost: number): Priced => ({
  cell: cell(steps, blocks, fd),
  cost,
});

describe('a budget', () => {
  it.each([
    ['50ms', { of: 'seconds', most: 0.05 }],
    [' 2 s ', { of: 'seconds', most: 2 }],
    ['.5S', { of: 'seconds', most: 0.5 }],
    ['60MB', { of: 'bytes', most: 6e7 }],
    ['1.5gb', { of: 'bytes', most: 1.5e9 }],
    ['300kB', { of: 'bytes', most: 3e5 }],
    ['7 B', { of: 'bytes', most: 7 }],
  ])('may be written %s', (text, budget) => {
    expect(parseBudget(text)).toEqual(budget);
  });

  it.each([
    ['60', "--budget is '60', which is neither a time nor a size"],
    ['', "--budget is '', which is neither a time nor a size"],
    ['2 min', "--budget is '2 min', which is neither a time nor a size"],
    ['-5ms', "--budget is '-5ms', which is neither a time nor a size"],
    ['x5MB', "--budget is 'x5MB'; write it like 300MB or 1.5GB"],
    ['0ms', "--budget is '0ms'; it must be above 0"],
    ['0MB', "--budget is '0MB'; it must be above 0"],
    [`${'9'.repeat(400)}s`, 'it must be above 0'],
  ])('is refused: %s', (text, message) => {
    expect(() => parseBudget(text, '--budget')).toThrow(ConfigError);
    expect(() => parseBudget(text, '--budget')).toThrow(message);
  });
});

describe('the choice', () => {
  const table = [
    priced(1, 4, 5, 10),
    priced(4, 4, 3, 20),
    priced(16, 4, 2.5, 60),
    priced(1, 8, 4, 15),
    priced(4, 8, 2, 40),
    priced(16, 8, 1, 100),
  ];
  it.each([
    // budget, steps and blocks, what is better for least, cells within
    [10, [1, 4], [1, 8], 1],
    [15, [1, 8], [4, 4], 2],
    [39.9, [4, 4], [4, 8], 3],
    [40, [4, 8], [16, 8], 4],
    // A dearer cell that is worse is not taken.
    [70, [4, 8], [16, 8], 5],
    [100, [16, 8], null, 6],
  ] as const)('within %s', (most, chosen, next, within) => {
    for (const order of [table, [...table].reverse()]) {
      const bought = chooseCell(order, { of: 'bytes', most });
      expect([bought.chosen.cell.steps, bought.chosen.cell.blocks]).toEqual(chosen);
      expect(bought.better && [bought.better.cell.steps, bought.better.cell.blocks]).toEqual(next);
      expect([bought.within, bought.cells]).toEqual([within, 6]);
    }
  });

  it('takes the cheaper of equals, and the best of those that cost the same', () => {
    const equals = [priced(4, 8, 2, 40), priced(4, 4, 2, 20), priced(1, 4, 3, 5)];
    expect(chooseCell(equals, { of: 'seconds', most: 50 })).toMatchObject({ chosen: equals[1], better: null });
    const same = [priced(1, 4, 3, 5), priced(1, 8, 2, 9), priced(16, 8, 1, 9)];
    expect(chooseCell(same, { of: 'seconds', most: 6 }).better).toBe(same[2]);
  });

  it('says what the cheapest costs where nothing is bought', () => {
    const buy = () => chooseCell(table, { of: 'bytes', most: 9 });
    expect(buy).toThrow(LimitError);
    expect(buy).toThrow(
      "0.01 kB buys none of the 6 cells of the model's evaluation: T=1, L=4, the cheapest, takes 0.01 kB",
    );
    try {
      chooseCell(table, { of: 'seconds', most: 9 });
    } catch (error) {
      expect(error).toMatchObject({ asked: 10, available: 9, hint: 'allow more, or compute more pictures at once' });
    }
    expect(() => chooseCell([], { of: 'bytes', most: 9 })).toThrow(UsageError);
  });

  it('is told in a sentence', () => {
    const time = { of: 'seconds', most: 0.05 } as const;
    const cells = [priced(1, 4, 5, 0.01), priced(4, 4, 3, 0.043), priced(16, 4, 2.5, 0.0853)];
    expect(describeBought(chooseCell(cells, time), time)).toBe(
      '50.0 ms a picture buys T=4, L=4: FD 3.00 (2.75 to 3.50) for about 43.0 ms a picture, the best of 2 of 3 cells; the next better, T=16, L=4 with FD 2.50, takes about 85.3 ms',
    );
    const bytes = { of: 'bytes', most: 6e7 } as const;
    const sizes = [priced(1, 4, 5, 16_975_001)];
    expect(describeBought(chooseCell(sizes, bytes), bytes)).toBe(
      '60.00 MB buys T=1, L=4: FD 5.00 (4.75 to 5.50) for 16.98 MB, the best of 1 of 1 cells; no cell is better',
    );
  });

  it('has costs in words', () => {
    const seconds = [0.00005, 0.0432, 0.25, 0.9994, 0.9996, 2.345, 1234];
    expect(seconds.map((s) => describeCost(s, 'seconds'))).toEqual(
      ['0.0500 ms', '43.2 ms', '250 ms', '999 ms', '1.00 s', '2.35 s', '1234 s'], //
    );
    expect([512, 99_999, 100_001].map((b) => describeCost(b, 'bytes'))).toEqual(['0.52 kB', '100.00 kB', '0.11 MB']);
  });
});

describe('seconds of cells', () => {
  const evaluation = (...cells: StoredCell[]): StoredEvaluation => ({
    ...{ features: 'pca64', count: 1000, solver: 'euler', guidance: 1, adapter: 'another', date: '2026-01-31' },
    ...{ floor: null, cells },
  });
  const pace = { blocks: 4, step: 0.01, once: 0.002, batch: 16 };

  it('are the measured step, times steps, times the stored ratio of blocks at the most steps', () => {
    // What is done once takes most of the stored time of one step; blocks double that of a step.
    const of = evaluation(cell(1, 4, 5, 1.1), cell(16, 4, 3, 2.5), cell(1, 8, 4, 1.2), cell(16, 8, 2, 5));
    expect(fewestBlocks(of)).toBe(4);
    const costs = secondsOfCells(of, pace).map(({ cost }) => cost);
    for (const [i, seconds] of [0.012, 0.162, 0.022, 0.322].entries()) expect(costs[i]).toBeCloseTo(seconds, 12);
  });

  it('do not depend on the adapter of the evaluation', () => {
    const cells = [cell(4, 4, 3, 2), cell(4, 8, 2, 3)];
    const faster = cells.map((one) => ({ ...one, secondsPerSample: one.secondsPerSample / 1024 }));
    expect(secondsOfCells(evaluation(...faster), pace).map(({ cost }) => cost)).toEqual(
      secondsOfCells(evaluation(...cells), pace).map(({ cost }) => cost),
    );
  });

  it('are no less for more blocks, and no more than as many times, whatever a busy machine measured', () => {
    const busy = evaluation(cell(16, 4, 3, 2), cell(16, 8, 2, 9), cell(16, 12, 1, 1));
    const costs = secondsOfCells(busy, pace).map(({ cost }) => cost);
    for (const [i, times] of [1, 2, 1].entries()) expect(costs[i]).toBeCloseTo(0.002 + 16 * 0.01 * times, 12);
  });

  it('compare blocks at steps that both have, and where there are none, by seconds a step', () => {
    const shared = evaluation(cell(4, 4, 3, 4), cell(128, 4, 1, 500), cell(4, 8, 2, 6), cell(64, 8, 1, 900));
    expect(secondsOfCells(shared, pace)[2]!.cost).toBeCloseTo(0.002 + 4 * 0.01 * 1.5, 12);
    const apart = evaluation(cell(4, 4, 3, 4), cell(8, 8, 2, 14));
    expect(secondsOfCells(apart, pace)[1]!.cost).toBeCloseTo(0.002 + 8 * 0.01 * 1.75, 12);
  });
});
