/** The distance of real pictures in the samples' place: a mean over choices of them. */
import { expect, it } from 'vitest';
import { permutation } from '../../engine/philox.ts';
import { featureStatistics, statisticsWithout } from '../../evaluation/feature-statistics.ts';
import { floorDistance, SPLITS } from '../../evaluation/floor.ts';
import { frechetDistance, measuredFrechet } from '../../evaluation/frechet.ts';
import { quantile } from '../../evaluation/measured.ts';
import { relativeError } from '../support/golden.ts';
import { normals as source } from '../support/normals.ts';

const WIDTH = 5;
const normals = (rows: number, seed: number) => Float32Array.from({ length: rows * WIDTH }, source(seed));
const rowsAt = (all: Float32Array, rows: Iterable<number>) =>
  Float32Array.from([...rows].flatMap((row) => [...all.subarray(row * WIDTH, (row + 1) * WIDTH)]));

it('is that of every choice and the pictures that are left, taken one by one', async () => {
  const all = normals(300, 1).map((x, i) => x * (1 + (i % WIDTH)) + 2);
  const found = await floorDistance(all, WIDTH, { seed: 3, count: 60 });
  const each = Float64Array.from({ length: SPLITS }, (_, step) => {
    const order = [...permutation({ seed: 3, stream: 0x65760007, step }, 300)];
    const [own, rest] = [order.slice(0, 60), order.slice(60)].map((rows) =>
      featureStatistics(rowsAt(all, rows), WIDTH),
    );
    return frechetDistance(own!, rest!);
  }).sort();
  expect(found.value).toBeCloseTo(each.reduce((sum, x) => sum + x, 0) / SPLITS, 9);
  expect(found.low).toBeCloseTo(quantile(each, 0.025), 9);
  expect(found.high).toBeCloseTo(quantile(each, 0.975), 9);

  const reference = featureStatistics(normals(500, 2), WIDTH);
  const others = await floorDistance(all, WIDTH, { seed: 3, count: 60, reference });
  const against = Array.from({ length: SPLITS }, (_, step) => {
    const chosen = permutation({ seed: 3, stream: 0x65760007, step }, 300).subarray(0, 60);
    return frechetDistance(featureStatistics(rowsAt(all, chosen), WIDTH), reference);
  });
  expect(others.value).toBeCloseTo(against.reduce((sum, x) => sum + x, 0) / SPLITS, 9);
});

it('is nearer to the mean over sets drawn anew, and narrower, than what resampling makes of one choice', async () => {
  const all = normals(1000, 4);
  const found = await floorDistance(all, WIDTH, { seed: 1, count: 100 });
  const anew = Float64Array.from({ length: 200 }, (_, k) =>
    frechetDistance(
      featureStatistics(normals(100, 1000 + 2 * k), WIDTH),
      featureStatistics(normals(900, 1001 + 2 * k), WIDTH),
    ),
  ).sort();
  const mean = anew.reduce((sum, x) => sum + x, 0) / 200;
  const spread = quantile(anew, 0.975) - quantile(anew, 0.025);
  expect(Math.abs(found.value - mean)).toBeLessThan(0.25 * spread);
  expect((found.high - found.low) / spread).toBeGreaterThan(0.5);
  expect((found.high - found.low) / spread).toBeLessThan(1.4);
  const one = await measuredFrechet(all.slice(0, 100 * WIDTH), featureStatistics(all.subarray(100 * WIDTH), WIDTH), {
    seed: 1,
  });
  expect(one.high! - one.low!).toBeGreaterThan(found.high - found.low);
});

it('statistics without a part of the rows are those of the others', () => {
  const all = normals(90, 5).map((x) => x + 100);
  const [whole, part, rest] = [all, all.subarray(0, 30 * WIDTH), all.subarray(30 * WIDTH)].map((rows) =>
    featureStatistics(rows, WIDTH),
  );
  const found = statisticsWithout(whole!, part!);
  expect(found.count).toBe(60);
  expect(relativeError(found.mean, rest!.mean)).toBeLessThan(1e-14);
  expect(relativeError(found.covariance, rest!.covariance)).toBeLessThan(1e-11);
  expect(() => statisticsWithout(part!, part!)).toThrow('a covariance needs two samples or more, not 0');
});
