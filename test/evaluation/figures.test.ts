/** Kernel distance, precision, recall, density, coverage and nearest pictures against NumPy's and SciPy's values, and closed forms. */
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { InterruptedError } from '../../engine/errors.ts';
import { permutation } from '../../engine/philox.ts';
import { featureStatistics, featureStatisticsInTurns } from '../../evaluation/feature-statistics.ts';
import { frechetDistance, measuredFrechet } from '../../evaluation/frechet.ts';
import { kernelDistance, squaredDiscrepancy } from '../../evaluation/kernel-distance.ts';
import { manifold } from '../../evaluation/manifold.ts';
import {
  measuredMean,
  quantile,
  resampled,
  resamplingWeights,
  share,
  studentReach,
} from '../../evaluation/measured.ts';
import { distanceQuantiles, nearerShare, nearestDistances } from '../../evaluation/nearest.ts';
import { ballsOf, countMutual, kthSquaredDistances, nearestWithin } from '../../evaluation/neighbours.ts';
import { leadingEigenvectors } from '../../evaluation/symmetric.ts';
import { describeWork, type FigureWork, type Waiting } from '../../evaluation/waiting.ts';
import recorded from '../fixtures/evaluation/figures.json' with { type: 'json' };
import { normals as source } from '../support/normals.ts';

const WIDTH = 6;
const [real, samples] = [recorded.real, recorded.samples].map((all) => Float32Array.from(all, (x) => x / 32)) as [
  Float32Array,
  Float32Array,
];
const normals = (count: number, seed: number) => Float32Array.from({ length: count }, source(seed));
const close = (found: ArrayLike<number>, expected: readonly number[], digits = 12) => {
  expect(found.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, digits);
};

describe('recorded sets', () => {
  it('have the recorded distances to the third neighbour, equal rows included', async () => {
    close((await kthSquaredDistances(real, real, WIDTH, 3)).map(Math.sqrt), recorded.third);
  });

  it('have the recorded precision, recall, density and coverage', async () => {
    const found = await manifold(samples, real, WIDTH, { seed: 1 });
    expect(found.precision).toMatchObject({ hits: recorded.precision, of: 40, value: recorded.precision / 40 });
    expect(found.recall).toMatchObject({ hits: recorded.recall, of: 50 });
    expect(found.coverage).toMatchObject({ hits: recorded.coverage, of: 50 });
    expect(found.density.value).toBeCloseTo(recorded.density, 12);
    expect(found.density.low).toBeLessThan(recorded.density);
    expect(found.density.high).toBeGreaterThan(recorded.density);
  });

  it('have the recorded distances to the nearest, their quantiles, and the probability of being nearer', async () => {
    const nearest = await nearestDistances(samples, real, WIDTH);
    close(nearest, recorded.nearest);
    close(distanceQuantiles(nearest), recorded.quantiles);
    const half = 25 * WIDTH;
    const train = real.subarray(0, half);
    const of = (rows: Float32Array) => nearestDistances(rows, train, WIDTH);
    const { value, low, high } = nearerShare(await of(samples), await of(real.subarray(half)));
    expect(value).toBeCloseTo(recorded.nearer, 12);
    expect(high - value).toBeCloseTo(1.959963984540054 * recorded.nearerError, 12);
    expect(value - low).toBeCloseTo(high - value, 12);
  });

  it('have the recorded kernel discrepancy and Fréchet distance', async () => {
    expect(await squaredDiscrepancy(samples, real, WIDTH)).toBeCloseTo(recorded.discrepancy, 10);
    const { value, low, high } = await measuredFrechet(samples, featureStatistics(real, WIDTH), { seed: 2 });
    expect(value).toBeCloseTo(recorded.frechet, 9);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
  });

  it('have the recorded eigenvectors, up to their sign', () => {
    const { covariance } = featureStatistics(real, WIDTH);
    const { values, vectors } = leadingEigenvectors(covariance, WIDTH, 4);
    close(values, recorded.eigenvalues.slice(0, 4), 11);
    for (const [k, vector] of recorded.eigenvectors.slice(0, 4).entries()) {
      const along = vector.reduce((sum, x, i) => sum + x * vectors[k * WIDTH + i]!, 0);
      expect(Math.abs(along)).toBeCloseTo(1, 12);
    }
  });
});

describe('eigenvectors', () => {
  it.each([
    ['of a dense matrix', (i: number, j: number) => Math.exp(-Math.abs(i - j) / 9) + (i === j ? i / 100 : 0)],
    ['of equal eigenvalues', (i: number, j: number) => (i === j ? 3 : 0)],
    ['of a matrix of rank 1', (i: number, j: number) => (i + 1) * (j + 1)],
    ['of one that falls apart', (i: number, j: number) => (i % 2 === j % 2 ? 1 / (1 + Math.abs(i - j)) : 0)],
    ['of nothing', () => 0],
  ])('%s are orthogonal and belong to their values', (_, of) => {
    const [n, count] = [60, 20];
    const matrix = Float64Array.from({ length: n * n }, (_, at) => of(Math.floor(at / n), at % n));
    const { values, vectors } = leadingEigenvectors(matrix, n, count);
    const row = (k: number) => vectors.subarray(k * n, (k + 1) * n);
    const size = Math.max(1, values[0]!);
    for (let k = 0; k < count; k++) {
      for (let i = 0; i < n; i++) {
        const times = row(k).reduce((sum, x, j) => sum + matrix[i * n + j]! * x, 0);
        expect(Math.abs(times - values[k]! * row(k)[i]!)).toBeLessThan(1e-12 * size * n);
      }
      for (let l = 0; l <= k; l++) {
        const along = row(k).reduce((sum, x, i) => sum + x * row(l)[i]!, 0);
        expect(along).toBeCloseTo(k === l ? 1 : 0, 12);
      }
    }
  });

  it('are refused where there are none', () => {
    expect(() => leadingEigenvectors(new Float64Array(4), 2, 3)).toThrow('a matrix of 2 rows has no 3 eigenvectors');
    expect(() => leadingEigenvectors(Float64Array.of(1, 0, 0, Number.NaN), 2, 1)).toThrow('not finite');
  });
});

describe('intervals', () => {
  it("of shares are Wilson's, also of nothing and everything", () => {
    for (const [of, bounds] of Object.entries(recorded.wilson)) {
      const found = share(...(of.split('/').map(Number) as [number, number]));
      close([found.low, found.high], bounds);
    }
    expect(() => share(3, 2)).toThrow('3 of 2 is no share');
    expect(() => share(0, 0)).toThrow('0 of 0 is no share');
  });

  it("of few values reach as far as Student's", () => {
    for (const [n, reach] of Object.entries(recorded.student)) expect(studentReach(Number(n))).toBeCloseTo(reach, 3);
  });

  it('resample with Poisson weights that depend on seed, replicate and sample alone', () => {
    const many = resamplingWeights(7, 3, 100_000);
    for (const [k, most] of recorded.poisson.entries()) {
      const found = many.reduce((sum, w) => sum + (w <= k ? 1 : 0), 0) / many.length;
      expect(Math.abs(found - most)).toBeLessThan(5 * Math.sqrt((most * (1 - most)) / many.length));
    }
    expect(resamplingWeights(7, 3, 500, 1000)).toEqual(many.slice(1000, 1500));
    expect(resamplingWeights(7, 4, 500)).not.toEqual(many.slice(0, 500));
    expect(resamplingWeights(8, 3, 500)).not.toEqual(many.slice(0, 500));
  });

  it('of a mean are those of its standard error', () => {
    const values = Float64Array.from({ length: 1000 }, source(3));
    const value = values.reduce((sum, x) => sum + x, 0) / 1000;
    const found = measuredMean(values, { seed: 5, replicates: 500 });
    expect(found.value).toBeCloseTo(value, 12);
    const error = Math.sqrt(values.reduce((sum, x) => sum + (x - value) ** 2, 0) / 1000 / 1000);
    for (const reach of [found.high - value, value - found.low]) {
      expect(Math.abs(reach / (1.96 * error) - 1)).toBeLessThan(0.12);
    }
    expect(measuredMean(values, { seed: 5, replicates: 500 })).toEqual(found);
  });

  it('leave out what resampling adds to all figures alike', () => {
    const found = resampled(10, 50, { seed: 1 }, (weights) => 100 + weights[0]!);
    expect(found.low).toBeLessThan(10);
    expect(found.low).toBeGreaterThan(8.8);
    expect(found.high).toBeLessThan(12.5);
    expect(() => resampled(1, 5, { seed: 1, replicates: 1 }, () => 1)).toThrow('1 resampled sets give no interval');
    expect(() => measuredMean([], { seed: 1 })).toThrow('no values have no mean');
  });

  it('of a Fréchet distance hold it and have the spread of sets drawn anew', async () => {
    const truth = featureStatistics(normals(20_000 * 4, 11), 4);
    const drawn = Array.from({ length: 150 }, (_, k) => normals(300 * 4, 100 + k).map((x) => 1.3 * x + 0.4));
    const distances = Float64Array.from(drawn, (set) => frechetDistance(truth, featureStatistics(set, 4))).sort();
    const spread = quantile(distances, 0.975) - quantile(distances, 0.025);
    const found = await measuredFrechet(drawn[0]!, truth, { seed: 4 });
    expect(found.low).toBeLessThan(found.value);
    expect(found.high).toBeGreaterThan(found.value);
    expect((found.high! - found.low!) / spread).toBeGreaterThan(0.7);
    expect((found.high! - found.low!) / spread).toBeLessThan(1.4);
  });

  it('quantiles lie between neighbours', () => {
    expect([0, 0.25, 0.5, 0.9, 1].map((q) => quantile([1, 2, 4, 8], q))).toEqual([
      1,
      1.75,
      3,
      expect.closeTo(6.8, 12),
      8,
    ]);
    expect(quantile([5], 0.3)).toBe(5);
  });
});

describe('the kernel distance', () => {
  it('is the mean over disjoint subsets of everything, with the error of that mean', async () => {
    const found = await kernelDistance(samples, real, WIDTH, { seed: 9, subsets: 4 });
    expect(found).toMatchObject({ subsets: 4, sizes: [10, 12] });
    const pick = (all: Float32Array, step: number, from: number, to: number) => {
      const order = permutation({ seed: 9, stream: 0x65760002, step }, all.length / WIDTH);
      const rows = Array.from(order.subarray(from, to));
      return Float32Array.from(rows.flatMap((row) => Array.from(all.subarray(row * WIDTH, (row + 1) * WIDTH))));
    };
    const each = await Promise.all(
      [0, 1, 2, 3].map((s) =>
        squaredDiscrepancy(pick(samples, 0, 10 * s, 10 * s + 10), pick(real, 1, 12 * s, 12 * s + 12), WIDTH),
      ),
    );
    const mean = each.reduce((a, b) => a + b) / 4;
    const error = Math.sqrt(each.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 3 / 4);
    expect(found.value).toBeCloseTo(mean, 12);
    expect(found.standardError).toBeCloseTo(error, 12);
    expect(found.high - found.value).toBeCloseTo(3.182446 * error, 6);
  });

  it('is zero on average between sets of one kind, and not between sets of two', async () => {
    const same = await Promise.all(
      Array.from({ length: 30 }, (_, k) =>
        squaredDiscrepancy(normals(40 * 3, 2 * k + 1), normals(60 * 3, 2 * k + 2), 3),
      ),
    );
    const mean = same.reduce((a, b) => a + b) / 30;
    const error = Math.sqrt(same.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 29 / 30);
    expect(Math.abs(mean)).toBeLessThan(3 * error);
    expect(Math.min(...same)).toBeLessThan(0);
    const shifted = await kernelDistance(
      normals(400 * 3, 1).map((x) => x + 1),
      normals(500 * 3, 2),
      3,
      { seed: 0 },
    );
    expect(shifted.low).toBeGreaterThan(1);
  });

  it('needs enough of both', async () => {
    await expect(squaredDiscrepancy(normals(3, 1), normals(9, 1), 3)).rejects.toThrow(
      'two samples or more of each, not 1 and 3',
    );
    await expect(kernelDistance(normals(9, 1), normals(90, 1), 3, { seed: 0 })).rejects.toThrow(
      'four pictures of each, not 3',
    );
    expect(await kernelDistance(normals(15, 1), normals(90, 1), 3, { seed: 0 })).toMatchObject({
      subsets: 2,
      sizes: [2, 15],
    });
    const capped = await kernelDistance(normals(90, 1), normals(180, 2), 3, { seed: 0, most: 4 });
    expect(capped.sizes).toEqual([3, 4]);
  });
});

describe('neighbours', () => {
  it.each([1, 5])('are those of all distances sorted (k = %i), over several blocks', async (k) => {
    const [a, b, width] = [normals(300 * 31, 1), normals(520 * 31, 2), 31];
    const found = await kthSquaredDistances(a, b, width, k);
    for (let i = 0; i < 300; i += 23) {
      const all = Array.from({ length: 520 }, (_, j) => {
        let sum = 0;
        for (let p = 0; p < width; p++) sum += (a[i * width + p]! - b[j * width + p]!) ** 2;
        return sum;
      }).sort((x, y) => x - y);
      expect(found[i]).toBeCloseTo(all[k - 1]!, 12);
    }
  });

  it('of a set in itself leave out the row, not its equal', async () => {
    const line = Float32Array.of(0, 1, 1, 4);
    expect([...(await kthSquaredDistances(line, line, 1, 1))]).toEqual([1, 0, 0, 9]);
    expect([...(await kthSquaredDistances(line, line.slice(), 1, 1))]).toEqual([0, 0, 0, 0]);
    await expect(kthSquaredDistances(line, line, 1, 4)).rejects.toThrow('there is no neighbour 4 of 3');
    await expect(kthSquaredDistances(line, line, 3, 1)).rejects.toThrow('4 numbers are no rows of 3');
  });

  it('of all orders in one set are those found one by one, to the bit', async () => {
    const set = normals(300 * 31, 1);
    const nearest = await nearestWithin(set, 31, 5);
    for (const k of [1, 3, 5]) {
      expect(nearest.filter((_, i) => i % 5 === k - 1)).toEqual(await kthSquaredDistances(set, set, 31, k));
    }
    const { narrow, wide } = await ballsOf(set, 31, { k: 3, wide: 5 });
    expect([narrow, wide]).toEqual([
      await kthSquaredDistances(set, set, 31, 3),
      await kthSquaredDistances(set, set, 31, 5),
    ]);
    await expect(nearestWithin(Float32Array.of(0, 1), 1, 2)).rejects.toThrow('there is no neighbour 2 of 1');
  });

  it('lie on the surface of a closed ball, and not in an open one', async () => {
    const [a, b] = [Float32Array.of(0, 2, 3), Float32Array.of(0, 5)];
    const radii = Float64Array.of(4, 4);
    const found = await countMutual(a, b, 1, { ofA: Float64Array.of(0, 4, 3), ofB: { narrow: radii, wide: radii } });
    expect(found).toEqual({
      inNarrow: Uint32Array.of(1, 1, 1),
      inWide: Uint32Array.of(1, 0, 0),
      holds: Uint32Array.of(1, 0),
      hasNarrow: Uint32Array.of(2, 0),
    });
    await expect(countMutual(a, b, 1, { ofA: radii, ofB: { narrow: radii, wide: radii } })).rejects.toThrow(
      '2 and 2 radii are not those of 3 and 2 rows',
    );
  });
});

test('density and coverage of a crowd: dense, but covering little', async () => {
  const crowd = normals(100 * 2, 3).map((x) => 0.01 * x);
  const { precision, recall, density, coverage } = await manifold(crowd, normals(100 * 2, 4), 2, { seed: 1 });
  expect(precision.value).toBe(1);
  expect(precision.low).toBeLessThan(0.97);
  // As many balls hold the middle as their number of neighbours says.
  expect(Math.abs(density.value - 1)).toBeLessThan(0.3);
  expect(recall.value).toBeLessThan(0.1);
  expect(coverage.value).toBeLessThan(0.5);
});

test('copies are nearer than held-out pictures, which are as near as each other', async () => {
  const [train, out, other] = [5, 6, 7].map((seed) => normals(400 * 3, seed)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const of = (rows: Float32Array) => nearestDistances(rows, train, 3);
  const held = await of(out);
  expect(nearerShare(await of(train.slice(0, 300)), held)).toEqual({ value: 1, low: 1, high: 1 });
  const alike = nearerShare(await of(other), held);
  expect(alike.low).toBeLessThan(0.5);
  expect(alike.high).toBeGreaterThan(0.5);
  expect(alike.high - alike.low).toBeLessThan(0.1);
  expect(() => nearerShare(Float64Array.of(1), held)).toThrow('1 and 400 distances cannot be compared');
});

describe('figures that take long', () => {
  const [a, b] = [normals(600 * 3, 8), normals(520 * 3, 9)];
  // Neighbours of 600 and 520 rows: blocks of 256 each way.
  const figures: readonly [string, FigureWork, (waiting: Waiting) => Promise<unknown>][] = [
    [
      'nearest pictures',
      { what: 'neighbours, block of pairs', done: 9, of: 9 },
      (waiting) => nearestDistances(a, b, 3, waiting),
    ],
    [
      'balls and what they hold',
      { what: 'neighbours, block of pairs', done: 9, of: 9 },
      (waiting) => manifold(a, b, 3, { seed: 1, ...waiting }),
    ],
    [
      'kernel distances',
      { what: 'kernel distance, subset', done: 2, of: 3 },
      (waiting) => kernelDistance(a, b, 3, { seed: 1, subsets: 3, most: 20, ...waiting }),
    ],
    [
      'statistics of real pictures',
      { what: 'statistics, picture', done: 512, of: 600 },
      (waiting) => featureStatisticsInTurns(a, 3, undefined, waiting),
    ],
  ];
  afterEach(() => vi.restoreAllMocks());
  /** A clock on which every look takes longer than others are kept waiting. */
  const slowly = () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => {
      now += 150;
      return now;
    });
  };

  it.each(figures)(
    '%s let others have their turn, tell how far they are, and are the same',
    async (_, last, figure) => {
      const wanted = await figure({});
      slowly();
      const told: FigureWork[] = [];
      let turns = 0;
      const other = setInterval(() => turns++);
      const found = await figure({ onWork: (work) => told.push(work) }).finally(() => clearInterval(other));
      expect(found).toEqual(wanted);
      expect(told.at(-1)).toEqual(last);
      expect(turns).toBeGreaterThan(0);
    },
  );

  it.each(figures)('%s end when they are interrupted', async (_, __, figure) => {
    slowly();
    const stop = new AbortController();
    const told: string[] = [];
    const onWork = (work: FigureWork) => {
      told.push(describeWork(work));
      if (told.length === 2) stop.abort();
    };
    const measured = figure({ signal: stop.signal, onWork });
    await expect(measured).rejects.toThrow(InterruptedError);
    await expect(measured).rejects.toThrow(`figures were interrupted: ${told[1]}`);
    expect(told.length).toBe(2);
  });
});
