/** Differences of cells whose samples are paired: their spread is that of differences of sets drawn anew. */
import { describe, expect, it } from 'vitest';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import { frechetDistance, measuredFrechet } from '../../evaluation/frechet.ts';
import { quantile } from '../../evaluation/measured.ts';
import { behindBest, pairedDifference } from '../../evaluation/paired.ts';
import { paretoOf, paretoRows } from '../../evaluation/pareto.ts';
import type { Cell } from '../../evaluation/results.ts';
import { normals as source } from '../support/normals.ts';

const [ROWS, WIDTH] = [300, 4];
const normals = (rows: number, seed: number) => Float32Array.from({ length: rows * WIDTH }, source(seed));
const truth = featureStatistics(normals(20_000, 11), WIDTH);

/** Two ways to draw from the same noise, as one network at two numbers of blocks: the second adds an error and some noise of its own. */
function drawn(seed: number): [Float32Array, Float32Array] {
  const [noise, own] = [normals(ROWS, 2 * seed), normals(ROWS, 2 * seed + 1)];
  return [noise.map((x) => 1.3 * x + 0.4), noise.map((x, i) => 1.3 * x + 0.43 + 0.05 * own[i]!)];
}

const cell = (steps: number, fd: Cell['fd'], resampled?: readonly number[], seconds = steps): Cell => ({
  ...{ steps, blocks: 4, guidance: 1, solver: 'euler', fd, ...(resampled && { resampled }), kid: null },
  ...{ precision: null, recall: null, density: null, coverage: null, agreement: null },
  ...{ secondsPerSample: seconds, peakBytes: 10, bytesRead: 5, evaluations: steps },
});
const of = (value: number) => ({ value, low: value - 1, high: value + 1 });

describe('paired differences', () => {
  it('have the spread of differences of sets drawn anew, far less than that of either distance', async () => {
    const distance = (set: Float32Array) => frechetDistance(featureStatistics(set, WIDTH), truth);
    const anew = Array.from({ length: 150 }, (_, k) => drawn(100 + k).map(distance) as [number, number]);
    const spread = (values: number[]) => {
      const sorted = Float64Array.from(values).sort();
      return quantile(sorted, 0.975) - quantile(sorted, 0.025);
    };
    const apart = spread(anew.map(([a, b]) => b - a));
    const [first, second] = await Promise.all(drawn(1).map((set) => measuredFrechet(set, truth, { seed: 4 })));
    const found = pairedDifference({ ...cell(1, second!, second!.resampled) }, cell(2, first!, first!.resampled))!;
    expect(found.value).toBeCloseTo(second!.value - first!.value, 12);
    expect(found.low).toBeLessThan(found.value);
    expect(found.high).toBeGreaterThan(found.value);
    expect((found.high - found.low) / apart).toBeGreaterThan(0.7);
    expect((found.high - found.low) / apart).toBeLessThan(1.4);
    expect(found.high - found.low).toBeLessThan(0.4 * (first!.high! - first!.low!));
  });

  it('are those of the resampled sets that both have, as distances from their mean', () => {
    const a = cell(1, of(5), [7, 8, 9, 100]);
    const b = cell(2, of(3), [4, 6, 8]);
    // Differences 3, 2 and 1: their mean is 2, and their 2.5 and 97.5 % quantiles are 1.05 and 2.95.
    expect(pairedDifference(a, b)).toEqual({
      value: 2,
      low: expect.closeTo(1.05, 12),
      high: expect.closeTo(2.95, 12),
    });
    expect(pairedDifference(a, cell(4, of(3)))).toBeUndefined();
    expect(pairedDifference(a, cell(4, of(3), [1]))).toBeUndefined();
  });
});

describe('cells beside the best', () => {
  const cells = [cell(1, of(5), [5, 6, 7]), cell(2, of(3), [3, 4.5, 5]), cell(4, of(2)), cell(8, of(4), [3, 5, 6])];

  it('are all others that have resampled sets', () => {
    expect(behindBest(cells)).toEqual({
      best: { steps: 2, blocks: 4, guidance: 1, solver: 'euler' },
      cells: [
        { ...{ steps: 1, blocks: 4, guidance: 1, solver: 'euler' }, behind: pairedDifference(cells[0]!, cells[1]!) },
        { ...{ steps: 8, blocks: 4, guidance: 1, solver: 'euler' }, behind: pairedDifference(cells[3]!, cells[1]!) },
      ],
    });
    expect(behindBest([cells[2]!])).toBeUndefined();
    expect(behindBest([])).toBeUndefined();
  });

  it('of a front say by how much each is better than the one before', () => {
    const front = paretoOf(cells.slice(0, 3)).seconds;
    expect(front.map(({ steps, gain }) => [steps, gain])).toEqual([
      [1, undefined],
      [2, pairedDifference(cells[0]!, cells[1]!)],
      [4, undefined],
    ]);
    expect(front[1]!.gain!.value).toBe(2);
    // Differences 2, 1.5 and 2.
    expect(paretoRows(front, 'seconds')[2]!.at(-1)).toBe('2.00 (1.69 to 2.17)');
  });
});
