/** Sets of NumPy arrays: pictures in memory, latents and pairs from disk, and what is no set. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { zipSync } from 'fflate';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError, DataError, UsageError } from '../../../engine/errors.ts';
import { toHalf } from '../../../formats/half.ts';
import { spreadWarning } from '../../../model/autoencoder/spread.ts';
import { readBatches } from '../../../training/batches.ts';
import { type Dataset, isStreamed, type StreamedDataset } from '../../../training/data/dataset.ts';
import { fingerprint } from '../../../training/data/fingerprint.node.ts';
import { openDataset, openTrainingData } from '../../../training/data/open.ts';
import { npy } from '../../support/archives.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-arrays-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function folder(files: Record<string, Uint8Array>): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

const range = (n: number) => Uint8Array.from({ length: n }, (_, i) => i);
const numbers = (n: number, from = -2) => Float32Array.from({ length: n }, (_, i) => from + i / 8);
const streamed = async (path: string): Promise<StreamedDataset> => {
  const data = await openTrainingData(path);
  expect(isStreamed(data)).toBe(true);
  return data as StreamedDataset;
};

describe('pictures', () => {
  it('of bytes are held: [N, H, W, C], [N, C, H, W] and [N, H, W] give the same pixels', async () => {
    const labels = npy('<i8', [2], BigInt64Array.of(2n, 0n));
    const last = await openDataset(folder({ 'images.npy': npy('|u1', [2, 4, 4, 3], range(96)), 'labels.npy': labels }));
    expect(last).toMatchObject({ count: 2, height: 4, width: 4, channels: 3, classes: 3 });
    expect([last.label(0), last.label(1)]).toEqual([2, 0]);
    expect(last.image(1)).toEqual(range(96).subarray(48));
    const planes = Uint8Array.from({ length: 96 }, (_, i) => {
      const [n, c, p] = [Math.floor(i / 48), Math.floor((i % 48) / 16), i % 16];
      return n * 48 + p * 3 + c;
    });
    const said: string[] = [];
    const path = folder({ 'set.npy': npy('|u1', [2, 3, 4, 4], planes), 'set-labels.npy': labels });
    const first = await openDataset(join(path, 'set.npy'), { onRecognised: (what) => said.push(what) });
    expect(fingerprint(first)).toMatchObject({ pixels: fingerprint(last).pixels, labels: fingerprint(last).labels });
    expect(said).toEqual(['NumPy arrays of pictures, [N, C, H, W], labels in set-labels.npy']);
    const grey = await openDataset(folder({ 'images.npy': npy('|u1', [2, 3, 3], range(18)) }));
    expect(grey).toMatchObject({ channels: 1, classes: 1, height: 3 });
    expect(grey.image(1)).toEqual(range(18).subarray(9));
  });

  it('come from .npz too, and are read from disk where they are not to be held', async () => {
    const images = npy('|u1', [3, 4, 4, 1], range(48));
    const zip = zipSync({ 'arr_0.npy': images, 'arr_1.npy': npy('|u1', [3], Uint8Array.of(0, 1, 1)) });
    const held = await openDataset(join(folder({ 'a.npz': zip }), 'a.npz'));
    expect([0, 1, 2].map((i) => held.label(i))).toEqual([0, 1, 1]);
    const data = (await openTrainingData(folder({ 'images.npy': images }), { maxBytes: 40 })) as StreamedDataset;
    const reader = data.open();
    expect(await reader.read(2)).toEqual((held as Dataset).image(2));
    await reader.close();
    await expect(openDataset(folder({ 'images.npy': images }), { maxBytes: 40 })).rejects.toThrow(/does not fit/);
  });

  it('of which a .npz has more than are wanted leave the others alone', async () => {
    const zip = zipSync({
      'images.npy': npy('|u1', [1, 2, 2], range(4)),
      'labels.npy': npy('|u1', [1], Uint8Array.of(1)),
      // Text, and what would be too much.
      'names.npy': npy('<U3', [1], new Uint8Array(12)),
      'features.npy': npy('<f4', [1000], numbers(1000)),
    });
    const data = await openDataset(join(folder({ 'a.npz': zip }), 'a.npz'), { maxBytes: 1000 });
    expect([data.label(0), [...data.image(0)]]).toEqual([1, [0, 1, 2, 3]]);
  });

  it('that are not square have their channels on the shorter axis', async () => {
    for (const [shape, read] of [
      [[1, 3, 8, 6], { height: 8, width: 6, channels: 3 }],
      [[1, 8, 6, 3], { height: 8, width: 6, channels: 3 }],
      [[1, 6, 8, 6], { height: 6, width: 8, channels: 6 }],
      [[1, 100, 8, 6], { height: 100, width: 8, channels: 6 }],
    ] as const) {
      const count = shape.reduce((product: number, n) => product * n, 1);
      expect(await openDataset(folder({ 'images.npy': npy('|u1', shape, range(count)) })), `${shape}`).toMatchObject(
        read,
      );
    }
    const planes = await openDataset(folder({ 'images.npy': npy('|u1', [1, 3, 8, 6], range(144)) }));
    expect([...planes.image(0).subarray(0, 6)]).toEqual([0, 48, 96, 1, 49, 97]);
  });

  it('from 0 to 1 are refused, with the remedy', async () => {
    const path = folder({ 'images.npy': npy('<f4', [1, 2, 2, 3], numbers(12, 0)) });
    const error = await openTrainingData(path).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).hint).toMatch(/x \* 2 - 1/);
  });
});

describe('latents', () => {
  it('tell how far they spread', async () => {
    // Two pictures of alternating numbers about 1, four away from it.
    const data = Float32Array.from({ length: 128 }, (_, i) => 1 + 4 * (-1) ** i);
    const { spread } = await streamed(folder({ 'latents.npy': npy('<f4', [2, 4, 4, 4], data) }));
    expect(spread).toEqual({ mean: 1, deviation: 4 });
    expect(spreadWarning('mine', spread!)).toBe(
      "the latents of 'mine' have mean 1.000 and deviation 4.000; models of latents learn from those whose deviation is about 1 (they would have to be multiplied by about 0.250)",
    );
    const pictures = npy(
      '<f4',
      [2, 4, 4, 3],
      data.subarray(32).map((x) => -x),
    );
    expect((await streamed(folder({ 'images.npy': pictures }))).spread).toBeUndefined();
  });

  const layouts = { last: [2, 8, 8, 4], first: [2, 4, 8, 8] } as const;
  it.each(['last', 'first'] as const)('are given as they are, channels %s, float32 and float16', async (where) => {
    const shape = layouts[where];
    for (const [descr, data] of [
      ['<f4', numbers(512)],
      ['<f2', toHalf(numbers(512))],
    ] as const) {
      const set = await streamed(folder({ 'latents.npy': npy(descr, shape, data) }));
      expect(set).toMatchObject({ count: 2, height: 8, width: 8, channels: 4, elements: 'numbers', paired: false });
      const reader = set.open();
      const one = (await reader.read(1)) as Float32Array;
      const at = (y: number, x: number, c: number) =>
        where === 'last' ? 256 + (y * 8 + x) * 4 + c : 256 + (c * 8 + y) * 8 + x;
      expect(one[(3 * 8 + 5) * 4 + 2]).toBe(numbers(512)[at(3, 5, 2)]);
      expect(one[255]).toBe(numbers(512)[at(7, 7, 3)]);
      await reader.close();
    }
  });

  it('in pairs give noise and picture, from x0 and x1 or from channels of one array', async () => {
    const [x0, x1] = [numbers(2 * 64), numbers(2 * 64, 30)];
    const both = new Float32Array(256);
    for (let p = 0; p < 32; p++) {
      for (let c = 0; c < 4; c++) {
        both[p * 8 + c] = x0[p * 4 + c]!;
        both[p * 8 + 4 + c] = x1[p * 4 + c]!;
      }
    }
    const shape = [2, 4, 4, 4];
    const sets = [
      await streamed(folder({ 'x0.npy': npy('<f4', shape, x0), 'x1.npy': npy('<f4', shape, x1) })),
      await streamed(folder({ 'x0x1.npy': npy('<f4', [2, 4, 4, 8], both) })),
      await streamed(
        join(
          folder({ 'p.npz': zipSync({ 'x0.npy': npy('<f4', shape, x0), 'x1.npy': npy('<f4', shape, x1) }) }),
          'p.npz',
        ),
      ),
    ];
    for (const set of sets) {
      expect(set).toMatchObject({ paired: true, channels: 4, count: 2, classes: 1 });
      const batches = readBatches(set, { seed: 3 });
      const [images, noise, labels] = [new Float32Array(128), new Float32Array(128), new Uint32Array(2)];
      await batches.next(images, labels, noise);
      await batches.close();
      const swap = images[0] !== 30;
      expect(Array.from(images)).toEqual(Array.from(swap ? [...x1.subarray(64), ...x1.subarray(0, 64)] : x1));
      expect(Array.from(noise)).toEqual(Array.from(swap ? [...x0.subarray(64), ...x0.subarray(0, 64)] : x0));
    }
  });

  it('are not mirrored, and have no noise unless they are pairs', async () => {
    const set = await streamed(folder({ 'latents.npy': npy('<f4', [2, 4, 4, 4], numbers(128)) }));
    expect(() => readBatches(set, { seed: 1, flip: true })).toThrow(ConfigError);
    const batches = readBatches(set, { seed: 1 });
    await expect(batches.next(new Float32Array(64), new Uint32Array(1), new Float32Array(64))).rejects.toThrow(
      UsageError,
    );
  });

  it('that are no numbers are named when their turn comes', async () => {
    const data = numbers(128);
    data[70] = Number.NaN;
    const path = folder({ 'latents.npy': npy('<f4', [2, 4, 4, 4], data) });
    await expect(openTrainingData(path)).rejects.toThrow(/latents\.npy: picture 1 holds NaN/);
  });

  it('are another set where a number differs', async () => {
    const open = async (value: number) => {
      const data = numbers(128);
      data[100] = value;
      return (await streamed(folder({ 'latents.npy': npy('<f4', [2, 4, 4, 4], data) }))).identity;
    };
    expect(await open(1)).toBe(await open(1));
    expect(await open(1)).not.toBe(await open(2));
  });

  it('whose file is cut short during training are named', async () => {
    const path = folder({ 'latents.npy': npy('<f4', [2, 4, 4, 4], numbers(128)) });
    const set = await streamed(path);
    truncateSync(join(path, 'latents.npy'), 300);
    const reader = set.open();
    await expect(reader.read(0)).rejects.toThrow(/latents\.npy has 300 bytes; it had 640 when it was looked at first/);
    await reader.close();
  });
});

describe('what is no set', () => {
  const images = npy('|u1', [2, 2, 2, 1], range(8));
  it.each<[string, Record<string, Uint8Array>, RegExp]>([
    ['labels of another number', { 'images.npy': images, 'labels.npy': npy('|u1', [3], range(3)) }, /3 labels for 2/],
    ['labels as floats', { 'images.npy': images, 'labels.npy': npy('<f4', [2], numbers(2)) }, /labels are integers/],
    [
      'negative labels',
      { 'images.npy': images, 'labels.npy': npy('<i4', [2], Int32Array.of(0, -1)) },
      /label -1 is no/,
    ],
    [
      'huge labels',
      { 'images.npy': images, 'labels.npy': npy('<i4', [2], Int32Array.of(0, 65535)) },
      /label 65535 is no/,
    ],
    ['one axis', { 'images.npy': npy('|u1', [4], range(4)) }, /where pictures have 3 or 4 axes/],
    ['nothing', { 'images.npy': npy('|u1', [0, 2, 2, 1], range(0)) }, /it holds nothing/],
    ['integers', { 'images.npy': npy('<i4', [1, 2, 2, 1], new Int32Array(4)) }, /elements of type i4/],
    [
      'an odd number of paired channels',
      { 'x0x1.npy': npy('<f4', [1, 2, 2, 3], numbers(12)) },
      /3 channels are not noise/,
    ],
    [
      'pairs of other sizes',
      { 'x0.npy': npy('<f4', [1, 2, 2, 4], numbers(16)), 'x1.npy': npy('<f4', [1, 4, 4, 4], numbers(64)) },
      /they are no pairs/,
    ],
  ])('%s', async (_, files, message) => {
    const error = await openTrainingData(folder(files)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(message);
  });

  it('a .npz without pictures lists what it has', async () => {
    const zip = zipSync({ 'weights.npy': npy('<f4', [2], numbers(2)) });
    await expect(openTrainingData(join(folder({ 'a.npz': zip }), 'a.npz'))).rejects.toThrow(/its arrays \(weights\)/);
  });
});
