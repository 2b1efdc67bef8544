/** Class agreement against a brute-force float64 vote, its tie rules, and its values on the real test pictures. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../engine/errors.ts';
import { integers, normals } from '../../engine/philox.ts';
import { classAgreement, majority, prepareReference } from '../../evaluation/agreement.ts';
import { type Dataset, datasetOf, toUnit } from '../../training/data/dataset.ts';
import { openDataset } from '../../training/data/open.ts';

/** Bytes around a level per class, 5 x 7 x channels: both sides odd, so blocks at the edges are smaller. */
function synthetic(count: number, channels: number, seed: number): Dataset {
  const labels = Uint8Array.from(integers({ seed, stream: 0, step: 0 }, 4, count));
  const noise = normals({ seed, stream: 1, step: 0 }, count * 35 * channels);
  const pixels = Uint8Array.from(noise, (z, i) => {
    const level = 90 + 12 * labels[Math.floor(i / (35 * channels))]!;
    return Math.max(0, Math.min(255, Math.round(level + 40 * z)));
  });
  return datasetOf({ name: 'synthetic', height: 5, width: 7, channels, classes: 4, pixels, labels });
}

function asSamples(data: Dataset, first: number, count: number) {
  const size = data.height * data.width * data.channels;
  const samples = new Float32Array(count * size);
  for (let i = 0; i < count; i++) toUnit(data.image(first + i), samples, i * size);
  return { samples, labels: Array.from({ length: count }, (_, i) => data.label(first + i)) };
}

describe('the vote', () => {
  it('goes to the most, among equals to the one whose nearest voter is nearest', () => {
    expect(majority([1, 2, 2, 3, 2])).toBe(2);
    expect(majority([7, 3, 3, 7, 5])).toBe(7);
    expect(majority([5, 3, 3, 7, 7])).toBe(3);
    expect(majority([9, 8, 7, 6, 5])).toBe(9);
  });

  it.each([1, 3])('equals brute force in float64 (%i channels)', (channels) => {
    const data = synthetic(400, channels, 2);
    const { samples, labels } = asSamples(synthetic(60, channels, 3), 0, 60);
    for (let i = 0; i < samples.length; i += 17) samples[i]! *= 1.7; // some beyond [-1, 1]
    const size = 35 * channels;
    const expected = labels.map((_, s) => {
      const ranked = Array.from({ length: data.count }, (_, j) => {
        const image = data.image(j);
        let sum = 0;
        for (let p = 0; p < size; p++) {
          const shown = Math.max(-1, Math.min(1, samples[s * size + p]!));
          sum += (shown - Math.fround(image[p]! / 127.5 - 1)) ** 2;
        }
        return { sum, j };
      }).sort((a, b) => a.sum - b.sum || a.j - b.j);
      return majority(ranked.slice(0, 5).map(({ j }) => data.label(j)));
    });
    const result = classAgreement(prepareReference(data), samples, labels);
    expect([...result.votes]).toEqual(expected);
    const agreed = expected.filter((vote, i) => vote === labels[i]).length;
    expect(result).toMatchObject({ samples: 60, agreed, share: agreed / 60 });
    expect(result.perClass.map((c) => c.samples).reduce((a, b) => a + b)).toBe(60);
    for (const c of result.perClass) {
      expect(c.agreed).toBe(expected.filter((vote, i) => vote === labels[i] && vote === c.class).length);
    }
  });

  it('takes the earlier of equally near pictures', () => {
    const pixels = new Uint8Array(6).fill(100);
    const labels = Uint8Array.of(2, 2, 1, 1, 1, 0);
    const data = datasetOf({ name: 'same', height: 1, width: 1, channels: 1, classes: 3, pixels, labels });
    const of = (neighbours: number) =>
      classAgreement(prepareReference(data), Float32Array.of(0.3), [1], { neighbours }).votes[0];
    expect([of(1), of(3), of(4), of(5)]).toEqual([2, 2, 2, 1]);
  });

  it('refuses what has no answer', () => {
    const reference = prepareReference(synthetic(10, 1, 1));
    const good = new Float32Array(35);
    expect(() => classAgreement(reference, good, [0, 1])).toThrow(UsageError);
    expect(() => classAgreement(reference, good, [4])).toThrow(/classes 0 to 3, not 4/);
    expect(() => classAgreement(reference, good, [0], { neighbours: 11 })).toThrow(UsageError);
    const bad = good.slice();
    bad[3] = Number.NaN;
    expect(() => classAgreement(reference, bad, [0])).toThrow(/sample 0 holds NaN/);
    expect(classAgreement(reference, new Float32Array(0), []).share).toBeNaN();
  });
});

describe('on Fashion-MNIST', () => {
  it('recognises real pictures and not noise', async () => {
    const data = await openDataset(fileURLToPath(new URL('../../data/fashion-mnist', import.meta.url)), {
      split: 'test',
    });
    const all = prepareReference(data);
    const { samples, labels } = asSamples(data, 9900, 100);
    // Each picture's nearest neighbour is itself, one vote of five.
    const own = classAgreement(all, samples, labels);
    expect(classAgreement(all, samples, labels, { neighbours: 1 }).share).toBe(1);
    expect(own.share).toBeGreaterThan(0.8);
    expect(own.perClass[9]!.name).toBe('Ankle boot');
    // White noise falls to the same class whatever was asked for.
    const noise = normals({ seed: 1, stream: 0, step: 0 }, 50 * 784);
    const asked = Array.from({ length: 50 }, (_, i) => i % 10);
    expect(classAgreement(all, noise, asked).share).toBeLessThan(0.25);
  });
});
