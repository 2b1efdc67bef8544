/** The distance of real pictures in the samples' place: a mean over choices of them. */
import { describe, expect, it } from 'vitest';
import { permutation } from '../../engine/philox.ts';
import { featureStatistics, statisticsWithout } from '../../evaluation/feature-statistics.ts';
import { type Features, featuresOfData } from '../../evaluation/features.ts';
import { floorDistance, SPLITS } from '../../evaluation/floor.ts';
import { frechetDistance, measuredFrechet } from '../../evaluation/frechet.ts';
import { createJudge } from '../../evaluation/judge.ts';
import { quantile } from '../../evaluation/measured.ts';
import { type RealPictures, realPictures } from '../../evaluation/real.ts';
import { type Dataset, datasetOf } from '../../training/data/dataset.ts';
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

describe('of a judge', () => {
  const pictures = (name: string, count: number, seed: number): Dataset => {
    const drawn = Float32Array.from({ length: 4 * count }, source(seed));
    const pixels = Uint8Array.from(drawn, (x) => Math.min(255, Math.max(0, 128 + 40 * x)));
    return datasetOf({ name, height: 2, width: 2, channels: 1, classes: 1, pixels, labels: new Uint8Array(count) });
  };
  const [train, test] = [pictures('train', 200, 7), pictures('test', 60, 8)];
  const features: Features = { name: 'all', width: 4, of: (images) => images.slice() };
  const all = ({ count }: Dataset) => Uint32Array.from({ length: count }, (_, i) => i);
  const floorOf = async (real: RealPictures) => (await createJudge(features, real, { seed: 2 })).floor();

  it('it is of choices of the test pictures, where these are twice as many as samples', async () => {
    const real = realPictures({ train, test }, 30, 2);
    const reference = featureStatistics(await featuresOfData(features, train, real.reference.indices), 4);
    const wanted = await floorDistance(await featuresOfData(features, test, all(test)), 4, {
      ...{ seed: 2, count: 30, reference },
    });
    expect(await floorOf(real)).toMatchObject({ fd: wanted, splits: SPLITS, count: 30, of: 200 });
  });

  it('else it is of the one choice, with the interval of resampling', async () => {
    const real = realPictures({ train, test }, 31, 2);
    const reference = featureStatistics(await featuresOfData(features, train, real.reference.indices), 4);
    const out = await featuresOfData(features, test, real.heldOut.indices);
    const { resampled: _, ...fd } = await measuredFrechet(out, reference, { seed: 2 });
    const floor = await floorOf(real);
    expect(floor!.fd).toEqual(fd);
    expect(floor!.splits).toBeUndefined();
  });

  it('of one set it is of choices of all its pictures, at most half of them', async () => {
    const real = realPictures({ test }, 100, 2);
    const floor = await floorOf(real);
    expect(floor).toMatchObject({ how: 'parts of one set', splits: SPLITS, count: 30, of: 30 });
    const order = [...real.heldOut.indices, ...real.reference.indices];
    const wanted = await floorDistance(await featuresOfData(features, test, Uint32Array.from(order)), 4, {
      ...{ seed: 2, count: 30 },
    });
    expect(floor!.fd).toEqual(wanted);
  });
});
