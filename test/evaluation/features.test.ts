/** Features of pictures: what pooling, random projection and principal components make of pictures that can be worked out. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { normals } from '../../engine/philox.ts';
import { featureStatistics } from '../../evaluation/feature-statistics.ts';
import {
  featuresOf,
  featuresOfData,
  pixelFeatures,
  poolingFor,
  principalFeatures,
  randomFeatures,
  unitImages,
} from '../../evaluation/features.ts';
import { datasetOf } from '../../training/data/dataset.ts';
import { openDataset } from '../../training/data/open.ts';
import { normals as source } from '../support/normals.ts';

const fashion = await openDataset(fileURLToPath(new URL('../../data/fashion-mnist', import.meta.url)), {
  split: 'test',
});

describe('pixels', () => {
  it('are clamped, and means over the smallest blocks that leave few enough', () => {
    const shape = { height: 3, width: 4, channels: 2 };
    const images = Float32Array.from({ length: 48 }, (_, i) => (i % 24) / 12 - 1 + (i >= 24 ? 5 : 0));
    const whole = poolingFor(shape, 24);
    expect(whole).toMatchObject({ width: 24, side: 1 });
    expect(whole.of(images)).toEqual(images.map((x) => Math.min(1, x)));
    const pooled = poolingFor(shape, 10);
    expect(pooled).toMatchObject({ width: 8, side: 2 });
    const found = pooled.of(images);
    // Upper left block, first channel: pixels (0, 0), (0, 1), (1, 0), (1, 1); the lower ones have one row.
    expect(found[0]).toBeCloseTo((0 + 2 + 8 + 10) / 4 / 12 - 1, 6);
    expect(found[1]).toBeCloseTo((1 + 3 + 9 + 11) / 4 / 12 - 1, 6);
    expect(found[6]).toBeCloseTo((20 + 22) / 2 / 12 - 1, 6);
    expect([...found.subarray(8)]).toEqual(Array(8).fill(1));
    expect(() => pooled.of(images.subarray(1))).toThrow('47 numbers are no pictures of 24');
  });

  it('of 28 x 28 become 14 x 14, of 32 x 32 colours 8 x 8', () => {
    expect(pixelFeatures(fashion)).toMatchObject({ name: 'pixels', width: 196 });
    expect(pixelFeatures({ height: 32, width: 32, channels: 3 }).width).toBe(192);
    expect(pixelFeatures({ height: 8, width: 8, channels: 3 }).width).toBe(192);
  });
});

describe('the random projection', () => {
  it('is the recorded one, linear within [-1, 1], and keeps distances on average', async () => {
    const features = randomFeatures({ height: 28, width: 28, channels: 1 });
    const one = new Float32Array(784);
    one[3] = 0.5;
    const [zero, found] = [await features.of(new Float32Array(784)), await features.of(one)];
    expect([...zero]).toEqual(Array(64).fill(0));
    const weights = normals({ seed: 0, stream: 0x65760003, step: 0 }, 64 * 784);
    for (let k = 0; k < 64; k++) expect(found[k]).toBeCloseTo((0.5 * weights[k * 784 + 3]!) / 8, 6);
    const images = Float32Array.from({ length: 50 * 784 }, source(2)).map((x) => Math.max(-1, Math.min(1, x)));
    const squares = (values: Float32Array) => values.reduce((sum, x) => sum + x * x, 0);
    expect(squares(await features.of(images)) / squares(images)).toBeCloseTo(1, 1);
  });
});

describe('principal components', () => {
  it('find the directions that pictures were made of, with most variance first', async () => {
    // Bytes around grey along two patterns: left against right, and up against down with half the deviation.
    const draws = Array.from({ length: 800 }, source(4));
    const pixels = Uint8Array.from({ length: 400 * 16 }, (_, at) => {
      const [i, p] = [Math.floor(at / 16), at % 16];
      const [across, down] = [p % 4 < 2 ? 1 : -1, p < 8 ? 1 : -1];
      return 128 + 30 * across * draws[2 * i]! + 15 * down * draws[2 * i + 1]!;
    });
    const made = { name: 'made', height: 4, width: 4, channels: 1, classes: 1 };
    const data = datasetOf({ ...made, pixels, labels: new Uint8Array(400) });
    const features = principalFeatures(data);
    expect(features).toMatchObject({ name: 'pca64', width: 16 });
    const all = await featuresOfData(
      features,
      data,
      Uint32Array.from({ length: 400 }, (_, i) => i),
    );
    const { mean, covariance } = featureStatistics(all, 16);
    for (const x of mean) expect(x).toBeCloseTo(0, 5);
    for (let i = 0; i < 16; i++) for (let j = 0; j < i; j++) expect(covariance[i * 16 + j]).toBeCloseTo(0, 5);
    const deviation = (k: number) => Math.sqrt(covariance[k * 17]!) / (4 / 127.5);
    expect(deviation(0) / 30).toBeCloseTo(1, 1);
    expect(deviation(1) / 15).toBeCloseTo(1, 1);
    expect(deviation(2)).toBeLessThan(0.4); // rounding to bytes
    // A step along the first pattern is one along the first component.
    const pattern = Float32Array.from({ length: 16 }, (_, p) => (p % 4 < 2 ? 0.1 : -0.1));
    const [grey, stepped] = [await features.of(new Float32Array(16)), await features.of(pattern)];
    expect(Math.abs(stepped[0]! - grey[0]!)).toBeCloseTo(0.4, 3);
  });

  it('of Fashion-MNIST hold nine tenths of its variance', async () => {
    const chosen = Uint32Array.from({ length: 1000 }, (_, i) => i);
    const pixels = Uint8Array.from(Array.from(chosen).flatMap((i) => [...fashion.image(i)]));
    const labels = Uint8Array.from(chosen, (i) => fashion.label(i));
    const features = featuresOf('pca64', datasetOf({ ...fashion, pixels, labels }));
    const found = featureStatistics(await featuresOfData(features, fashion, chosen), 64);
    const whole = featureStatistics(unitImages(fashion, chosen), 784);
    const trace = ({ covariance, width }: { covariance: Float64Array; width: number }) =>
      Array.from({ length: width }, (_, i) => covariance[i * (width + 1)]!).reduce((a, b) => a + b);
    expect(trace(found) / trace(whole)).toBeGreaterThan(0.85);
    expect(trace(found) / trace(whole)).toBeLessThan(0.95);
  });
});
