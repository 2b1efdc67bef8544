/** Merging parts of an evaluation: figures of all samples, and an end between cells. (The whole way from drawing on: test/cli/eval.gpu.test.ts.) */
import { expect, it } from 'vitest';
import { InterruptedError } from '../../engine/errors.ts';
import type { Features } from '../../evaluation/features.ts';
import { mergeShards, type ShardCell, type ShardPart } from '../../evaluation/shards.ts';

const width = 2;
const features: Features = { name: 'made up', width, of: async (images) => images };
const real = { width, mean: new Float64Array(width), covariance: Float64Array.of(1, 0, 0, 1) };

const cellOf = (steps: number): ShardCell => ({
  key: { steps, blocks: 4, guidance: 1, solver: 'euler' },
  ...{ agreed: null, seconds: 2, peakBytes: 10, bytesRead: 5, evaluations: 8, accepted: 0, rejected: 0 },
  ...{ file: `${steps}.npy`, sha256: '' },
});

/** Two parts of four samples each, of two cells. */
const parts = [0, 1].map(
  (index): ShardPart => ({
    name: `part ${index}`,
    record: {
      shard: { index, of: 2 },
      range: [4 * index, 4 * index + 4],
      shape: { imageSize: 1, channels: 2 },
      provenance: {
        ...{ model: '', weights: 'ema', seed: 0, samples: 8, batch: 4, adapter: 'none', odelt: '', linearAlgebra: '' },
        ...{ features: { name: 'made up', width, digest: '' }, data: { name: '', digests: [] }, versions: {} },
      },
      cells: [cellOf(1), cellOf(4)],
    },
  }),
);
/** Corners of a square around (steps, 0): the mean is there, and the covariance 8/7 of the unit (of all eight samples). */
const read = async (_: ShardPart, { key }: ShardCell) =>
  Float32Array.from([-1, -1, -1, 1, 1, -1, 1, 1], (v, i) => v + (i % 2 === 0 ? key.steps! : 0));
const options = { features, real, linearAlgebra: 'own', read };

it('is told of its cells, and has the figures of all samples', async () => {
  const told: number[][] = [];
  const { cells } = await mergeShards(parts, {
    ...options,
    // A slow machine tells of resampled sets, too.
    onCell: (done, all, resampled) => void (resampled ?? told.push([done, all])),
  });
  expect(told).toEqual([
    [0, 2],
    [1, 2],
  ]);
  expect(cells.map(({ steps }) => steps)).toEqual([1, 4]);
  // |mean|^2 + tr(C) + 2 - 2 tr(C^(1/2)), C = 8/7.
  const spread = 2 * (8 / 7 + 1 - 2 * Math.sqrt(8 / 7));
  for (const { steps, fd, secondsPerSample } of cells) {
    expect(fd.value).toBeCloseTo(steps! ** 2 + spread, 12);
    expect(secondsPerSample).toBe(4 / 8);
  }
});

it('ends between cells when it is interrupted', async () => {
  const stop = new AbortController();
  let seen = 0;
  const onCell = () => void (++seen === 2 && stop.abort());
  const merged = mergeShards(parts, { ...options, signal: stop.signal, onCell });
  await expect(merged).rejects.toThrow(InterruptedError);
  expect(seen).toBe(2);
});
