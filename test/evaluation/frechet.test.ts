/** The Fréchet distance against the reference's values, and against cases that can be written down. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { InterruptedError, NonFiniteError, UsageError } from '../../engine/errors.ts';
import { createFeatureSums, type FeatureStatistics, featureStatistics } from '../../evaluation/feature-statistics.ts';
import { frechetDistance, measuredFrechet, REFERENCE_OFFSET } from '../../evaluation/frechet.ts';
import { resampled } from '../../evaluation/measured.ts';
import { choleskyFactor, symmetricEigenvalues } from '../../evaluation/symmetric.ts';
import { parseSafetensors } from '../../formats/safetensors.ts';
import { FIXTURES, relativeError } from '../support/golden.ts';
import { normals as source } from '../support/normals.ts';

interface RecordedDistance {
  reference: { value: number };
  float64_eigen_with_1e6_offset: number;
  float64_eigen_without_offset: number;
}
const tensors = parseSafetensors(await readFile(join(FIXTURES, 'fid.safetensors')), 'fid.safetensors');
const recorded = JSON.parse(await readFile(join(FIXTURES, 'fid.json'), 'utf8')) as Record<string, RecordedDistance>;
const pairs = Object.keys(recorded).filter((name) => name.includes(' vs '));
const WIDTH = 64;
const normals = (count: number, seed: number) => Float32Array.from({ length: count }, source(seed));
const of = (set: string) => featureStatistics(tensors.floats(`${set}/activations`), WIDTH);

/** Statistics of a given mean and covariance. */
const given = (mean: number[], covariance: number[]): FeatureStatistics => ({
  count: 100,
  width: mean.length,
  mean: Float64Array.from(mean),
  covariance: Float64Array.from(covariance),
});

const diagonal = (values: number[]) => values.flatMap((x, i) => values.map((_, j) => (i === j ? x : 0)));

/** R A R' for the rotation that reflects by v and then by w. */
function turned(matrix: Float64Array, n: number, vectors: readonly Float32Array[]): Float64Array {
  let m = matrix;
  for (const v of vectors) {
    const squared = v.reduce((sum, x) => sum + x * x, 0);
    const h = (i: number, j: number) => (i === j ? 1 : 0) - (2 * v[i]! * v[j]!) / squared;
    const times = (left: (i: number, k: number) => number, right: (k: number, j: number) => number) =>
      Float64Array.from({ length: n * n }, (_, at) => {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += left(Math.floor(at / n), k) * right(k, at % n);
        return sum;
      });
    const before = m;
    const half = times(h, (k, j) => before[k * n + j]!);
    m = times((i, k) => half[i * n + k]!, h);
  }
  return m;
}

describe('recorded sets', () => {
  it.each(['set1', 'set2', 'set3_rank_deficient'])('%s have the recorded mean and covariance', (set) => {
    const { mean, covariance } = of(set);
    const sigma = tensors.numbers(`${set}/sigma`);
    expect(relativeError(mean, tensors.floats(`${set}/mu`))).toBeLessThan(1e-6);
    expect(relativeError(covariance, sigma)).toBeLessThan(1e-14);
  });

  it.each(pairs)('%s has the recorded distance', (pair) => {
    // The recorded means are rounded to float32, and so they are taken here.
    const rounded = (set: string) => ({ ...of(set), mean: Float64Array.from(tensors.floats(`${set}/mu`)) });
    const [a, b] = pair.split(' vs ').map(rounded) as [FeatureStatistics, FeatureStatistics];
    const entry = recorded[pair]!;
    // Of a matrix of lower rank, roots of what is zero but for rounding are in the recorded values.
    const noise = pair.includes('set3') ? 1e-6 : 1e-12;
    expect(Math.abs(frechetDistance(a, b) - entry.float64_eigen_without_offset)).toBeLessThan(noise);
    const offset = frechetDistance(a, b, { offset: REFERENCE_OFFSET });
    expect(Math.abs(offset - entry.float64_eigen_with_1e6_offset)).toBeLessThan(1e-9);
    expect(Math.abs(offset - entry.reference.value)).toBeLessThan(3e-6);
  });

  it('has the covariance of rank 39 of 40 samples', () => {
    expect(choleskyFactor(of('set3_rank_deficient').covariance, WIDTH).rank).toBe(39);
    expect(choleskyFactor(of('set1').covariance, WIDTH).rank).toBe(64);
  });
});

test('diagonal covariances: the sum of squared differences of means and of deviations', () => {
  const a = given([1, 2, 3], diagonal([4, 9, 16]));
  const b = given([1, 0, 6], diagonal([1, 25, 0]));
  expect(frechetDistance(a, b)).toBeCloseTo(13 + 1 + 4 + 16, 12);
  expect(frechetDistance(b, a)).toBeCloseTo(34, 12);
});

test('a set has no distance from itself, nor does the distance change when both are turned', () => {
  const n = 12;
  const sets = [1, 2].map((seed) =>
    featureStatistics(
      normals(40 * n, seed).map((x, i) => x * (1 + (i % n))),
      n,
    ),
  );
  const [a, b] = sets as [FeatureStatistics, FeatureStatistics];
  expect(Math.abs(frechetDistance(a, a))).toBeLessThan(1e-11);
  const vectors = [normals(n, 3), normals(n, 4)];
  const rotated = (s: FeatureStatistics) => ({ ...s, covariance: turned(s.covariance, n, vectors) });
  const without = (s: FeatureStatistics) => ({ ...s, mean: new Float64Array(n) });
  const distance = frechetDistance(without(a), without(b));
  expect(distance).toBeGreaterThan(1);
  expect(frechetDistance(without(rotated(a)), without(rotated(b)))).toBeCloseTo(distance, 9);
  expect(frechetDistance(b, a)).toBeCloseTo(frechetDistance(a, b), 10);
});

test('a shift of all features adds its square', () => {
  const x = normals(50 * 8, 5);
  const [a, b] = [
    featureStatistics(x, 8),
    featureStatistics(
      Float64Array.from(x, (v) => v + 3),
      8,
    ),
  ];
  expect(frechetDistance(a, b)).toBeCloseTo(72, 10);
});

test('chunks of any size give the same statistics, also far from zero', () => {
  const x = Float64Array.from(normals(301 * 5, 6), (v) => v + 1e6);
  const sums = createFeatureSums(5);
  for (let row = 0, rows = 1; row < 301; row += rows, rows = (rows * 3) % 101) {
    sums.add(x.subarray(row * 5, Math.min(301, row + rows) * 5));
  }
  const whole = featureStatistics(x, 5);
  const chunked = sums.statistics();
  expect(chunked.count).toBe(301);
  expect(relativeError(chunked.covariance, whole.covariance)).toBeLessThan(1e-10);
  const plain = Float64Array.from({ length: 25 }, (_, at) => {
    const [i, j] = [Math.floor(at / 5), at % 5];
    let sum = 0;
    for (let r = 0; r < 301; r++) sum += (x[r * 5 + i]! - whole.mean[i]!) * (x[r * 5 + j]! - whole.mean[j]!);
    return sum / 300;
  });
  expect(relativeError(whole.covariance, plain)).toBeLessThan(1e-10);
});

test('eigenvalues of matrices whose eigenvalues are known', () => {
  expect([...symmetricEigenvalues(Float64Array.from(diagonal([3, -1, 2])), 3)]).toEqual([-1, 2, 3]);
  const n = 50;
  // Second differences: 2 - 2 cos(pi k / (n + 1)).
  const differences = Float64Array.from({ length: n * n }, (_, at) => {
    const apart = Math.abs(Math.floor(at / n) - (at % n));
    return apart === 0 ? 2 : apart === 1 ? -1 : 0;
  });
  const known = Array.from({ length: n }, (_, k) => 2 - 2 * Math.cos((Math.PI * (k + 1)) / (n + 1)));
  const dense = turned(differences, n, [normals(n, 7), normals(n, 8)]);
  for (const matrix of [differences, dense]) {
    for (const [i, value] of symmetricEigenvalues(matrix, n).entries()) expect(value).toBeCloseTo(known[i]!, 12);
  }
  // All equal but one, and all zero.
  const ones = symmetricEigenvalues(new Float64Array(16).fill(1), 4);
  for (const [i, value] of [0, 0, 0, 4].entries()) expect(ones[i]).toBeCloseTo(value, 12);
  expect([...symmetricEigenvalues(new Float64Array(9), 3)]).toEqual([0, 0, 0]);
  expect([...symmetricEigenvalues(Float64Array.of(5), 1)]).toEqual([5]);
});

test('features that have no distance are refused', () => {
  const a = featureStatistics(normals(20, 9), 4);
  expect(() => featureStatistics(new Float32Array(4), 4)).toThrow('a covariance needs two samples or more, not 1');
  expect(() => featureStatistics(new Float32Array(9), 4)).toThrow('9 numbers are no rows of 4');
  expect(() => createFeatureSums(0)).toThrow('features cannot be 0 numbers wide');
  expect(() => frechetDistance(a, featureStatistics(normals(20, 9), 5))).toThrow(UsageError);
  expect(() => frechetDistance(a, a, { offset: -1 })).toThrow('the offset is -1');
  const sums = createFeatureSums(2);
  sums.add(Float32Array.of(1, 2, 3, 4));
  expect(() => sums.add(Float32Array.of(1, 2, Number.NaN, 4))).toThrow(NonFiniteError);
  expect(() => sums.add(Float32Array.of(1, 2, 3, Number.POSITIVE_INFINITY))).toThrow(
    'feature 1 of sample 3 is Infinity',
  );
  expect(sums.statistics().count).toBe(2);
  const broken = { ...a, mean: Float64Array.of(1, 2, Number.NaN, 4) };
  expect(() => frechetDistance(a, broken)).toThrow('a mean or covariance is not finite');
});

it('the interval is that of sets in which samples are repeated', async () => {
  const [rows, width] = [150, 5];
  const features = normals(rows * width, 4).map((x, i) => x + 3 + (i % width));
  const real = featureStatistics(normals(400 * width, 5), width);
  const repeated = (weights: Uint8Array) =>
    Float32Array.from(
      [...weights].flatMap((weight, row) =>
        Array.from({ length: weight }, () => [...features.subarray(row * width, (row + 1) * width)]).flat(),
      ),
    );
  const distance = (values: Float32Array) => frechetDistance(featureStatistics(values, width), real);
  const each: number[] = [];
  const wanted = resampled(distance(features), rows, { seed: 6 }, (weights) => {
    each.push(distance(repeated(weights)));
    return each.at(-1)!;
  });
  const found = await measuredFrechet(features, real, { seed: 6 });
  expect(relativeError(Float64Array.from(found.resampled), each)).toBeLessThan(1e-9);
  expect(found.value).toBe(wanted.value);
  expect(found.low! / wanted.low).toBeCloseTo(1, 9);
  expect(found.high! / wanted.high).toBeCloseTo(1, 9);
});

it('has no interval without resampled sets, and refuses a single one', async () => {
  const features = normals(40 * 3, 7);
  const real = featureStatistics(normals(100 * 3, 8), 3);
  const { value } = await measuredFrechet(features, real, { seed: 1 });
  expect(await measuredFrechet(features, real, { seed: 1, replicates: 0 })).toEqual({
    ...{ value, low: null, high: null },
    resampled: [],
  });
  await expect(measuredFrechet(features, real, { seed: 1, replicates: 1 })).rejects.toThrow(
    '1 resampled sets give no interval',
  );
});

describe('an interval that takes long', () => {
  const [rows, width] = [40, 3];
  const features = normals(rows * width, 7);
  const real = featureStatistics(normals(100 * width, 8), width);
  afterEach(() => vi.restoreAllMocks());
  /** A clock on which every look takes 30 ms: others get their turn after every fourth set. */
  const slowly = () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => {
      now += 30;
      return now;
    });
  };

  it('lets others have their turn, tells how far it is, and is the same', async () => {
    const wanted = await measuredFrechet(features, real, { seed: 1, replicates: 20 });
    slowly();
    const told: number[][] = [];
    let turns = 0;
    const other = setInterval(() => turns++);
    const found = await measuredFrechet(features, real, {
      ...{ seed: 1, replicates: 20 },
      onWork: ({ done, of }) => told.push([done, of]),
    }).finally(() => clearInterval(other));
    expect(found).toEqual(wanted);
    expect(told).toEqual([4, 8, 12, 16, 20].map((done) => [done, 20]));
    expect(turns).toBeGreaterThan(0);
  });

  it('ends when it is interrupted', async () => {
    slowly();
    const stop = new AbortController();
    let last = 0;
    const measured = measuredFrechet(features, real, {
      ...{ seed: 1, signal: stop.signal },
      onWork({ done }) {
        last = done;
        if (done >= 8) stop.abort();
      },
    });
    await expect(measured).rejects.toThrow(InterruptedError);
    await expect(measured).rejects.toThrow('figures were interrupted: interval, resampled set 8/200');
    expect(last).toBe(8);
  });
});
