/** Data readers against the real Fashion-MNIST test files and synthetic ones, hostile ones included; order and batches. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError, DataError, InterruptedError, LimitError, UsageError } from '../../engine/errors.ts';
import { datasetOf, toUnit, toUnitFlipped } from '../../training/data/dataset.ts';
import { openDataset } from '../../training/data/open.ts';
import { dataOrder, fillBatch } from '../../training/data/order.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-data-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** Writes files into a fresh folder under scratch and returns its path. */
function folder(name: string, files: Record<string, Uint8Array | string>): string {
  const path = join(mkdtempSync(join(scratch, 'case-')), name);
  mkdirSync(path);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

function idx(dims: number[], elements: ArrayLike<number>, magic = 0x800 + dims.length): Uint8Array {
  const header = new DataView(new ArrayBuffer(4 + 4 * dims.length));
  header.setUint32(0, magic);
  dims.forEach((n, k) => {
    header.setUint32(4 + 4 * k, n);
  });
  return Uint8Array.from([...new Uint8Array(header.buffer), ...Array.from(elements)]);
}

const range = (n: number) => Uint8Array.from({ length: n }, (_, i) => i);

describe('Fashion-MNIST', () => {
  it('opens the bundled test pictures with the published counts, names and first labels', async () => {
    const data = await openDataset(fileURLToPath(new URL('../../data/fashion-mnist', import.meta.url)));
    expect(data).toMatchObject({
      name: 'Fashion-MNIST test',
      count: 10000,
      height: 28,
      width: 28,
      channels: 1,
      classes: 10,
    });
    expect([0, 1, 2, 3, 4].map((i) => data.classNames?.[data.label(i)])).toEqual([
      'Ankle boot',
      'Pullover',
      'Trouser',
      'Trouser',
      'Shirt',
    ]);
    const perClass = new Array<number>(10).fill(0);
    let sum = 0;
    for (let i = 0; i < data.count; i++) {
      perClass[data.label(i)]! += 1;
      for (const byte of data.image(i)) sum += byte;
    }
    expect(perClass).toEqual(new Array(10).fill(1000));
    expect(sum / (10000 * 784 * 255)).toBeCloseTo(0.2868, 4); // the known mean of the test pictures
    expect(() => data.image(10000)).toThrow(UsageError);
  });
});

describe('IDX', () => {
  const pair = (images: Uint8Array, labels: Uint8Array, gz = '') => ({
    [`train-images-idx3-ubyte${gz}`]: images,
    [`train-labels-idx1-ubyte${gz}`]: labels,
  });
  const images = idx([3, 2, 4], range(24));
  const labels = idx([3], [0, 4, 2]);

  it.each(['', '.gz'])('reads pairs, non-square pictures included (suffix "%s")', async (gz) => {
    const pack = (bytes: Uint8Array) => (gz ? gzipSync(bytes) : bytes);
    const data = await openDataset(folder('digits', pair(pack(images), pack(labels), gz)));
    expect(data).toMatchObject({
      name: 'digits train',
      count: 3,
      height: 2,
      width: 4,
      classes: 5,
      classNames: undefined,
    });
    expect([...data.image(1)]).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
    expect([0, 1, 2].map((i) => data.label(i))).toEqual([0, 4, 2]);
  });

  it('does not name classes beyond the known ones', async () => {
    const data = await openDataset(folder('fashion', pair(images, idx([3], [0, 1, 11]))));
    expect(data).toMatchObject({ classes: 12, classNames: undefined });
  });

  const huge = idx([0xffffffff, 0xffffffff, 0xffffffff], [1, 2, 3]);
  it.each<[string, Uint8Array, Uint8Array, RegExp]>([
    ['wrong magic', idx([3, 2, 4], range(24), 0x803 + 0x100), labels, /magic 0x00000903/],
    ['labels for images', labels, labels, /magic|too few/],
    ['cut short', images.subarray(0, 30), labels, /holds at most 30 bytes/],
    ['too long', Uint8Array.from([...images, 0]), labels, /41 bytes.*asks for 40/],
    ['a header only in part', images.subarray(0, 9), labels, /too few/],
    ['empty file', new Uint8Array(0), labels, /too few/],
    ['no pictures', idx([0, 28, 28], []), labels, /empty/],
    ['enormous sizes', huge, labels, /holds at most/],
    ['enormous sizes, gzipped', gzipSync(huge), labels, /holds at most/],
    ['large sizes that gzip could hold', gzipSync(idx([3, 60, 60], range(24))), labels, /40 bytes.*asks for 10816/],
    [
      'more than the header says, gzipped',
      gzipSync(idx([3, 2, 4], new Uint8Array(10_000_000))),
      labels,
      /holds more than/,
    ],
    ['gzip cut short', gzipSync(images).subarray(0, -12), labels, /too few|damaged/],
    ['gzip of nonsense', Uint8Array.from([0x1f, 0x8b, 9, 9, 9, 9]), labels, /gzip/],
    ['another number of labels', images, idx([2], [0, 1]), /3 pictures.*2 labels/],
  ])('rejects %s', async (_, badImages, badLabels, message) => {
    const opened = openDataset(folder('digits', pair(badImages, badLabels)));
    await expect(opened).rejects.toThrow(DataError);
    await expect(opened).rejects.toThrow(message);
  });

  it('names a missing part', async () => {
    const path = folder('digits', pair(images, labels));
    await expect(openDataset(path, { split: 'test' })).rejects.toThrow(/without its test part/);
    await expect(openDataset(folder('digits', { 'train-images-idx3-ubyte': images }))).rejects.toThrow(
      /without its labels/,
    );
  });
});

describe('CIFAR-10', () => {
  /** A record whose red plane is 10 + p % 7, green 50 + row, blue 100 + column. */
  const record = (label: number) => {
    const plane = (f: (row: number, column: number) => number) =>
      Array.from({ length: 1024 }, (_, p) => f(Math.floor(p / 32), p % 32));
    return [label, ...plane((r, c) => 10 + ((r * 32 + c) % 7)), ...plane((r) => 50 + r), ...plane((_, c) => 100 + c)];
  };
  const batch = (...batchLabels: number[]) => Uint8Array.from(batchLabels.flatMap(record));

  it('reads batches in order, planes to pixels, and lists what is missing', async () => {
    const meta = 'a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n';
    const path = folder('c', {
      'data_batch_2.bin': batch(7),
      'data_batch_1.bin': batch(3, 9),
      'test_batch.bin': batch(5),
      'batches.meta.txt': meta,
    });
    const data = await openDataset(path);
    expect(data).toMatchObject({ name: 'CIFAR-10 train', count: 3, height: 32, width: 32, channels: 3, classes: 10 });
    expect([0, 1, 2].map((i) => data.label(i))).toEqual([3, 9, 7]);
    expect([...data.image(2).subarray((5 * 32 + 6) * 3, (5 * 32 + 6) * 3 + 3)]).toEqual([10 + (166 % 7), 55, 106]);
    expect(data.classNames?.[3]).toBe('d');
    expect(data.skipped.map(({ reason }) => reason)).toEqual(['missing', 'missing', 'missing']);
    const test = await openDataset(path, { split: 'test' });
    expect([test.count, test.label(0), test.skipped.length]).toEqual([1, 5, 0]);
  });

  it('knows the official names without the meta file, and rejects damage', async () => {
    const data = await openDataset(folder('c', { 'test_batch.bin': batch(5) }));
    expect(data.classNames?.[5]).toBe('dog');
    const cut = openDataset(folder('c', { 'test_batch.bin': batch(5).subarray(0, 3000) }));
    await expect(cut).rejects.toThrow(/3000 bytes are not whole records of 3073/);
    await expect(openDataset(folder('c', { 'test_batch.bin': batch(10) }))).rejects.toThrow(/record 0 has label 10/);
    const names = openDataset(folder('c', { 'test_batch.bin': batch(1), 'batches.meta.txt': 'one\ntwo' }));
    await expect(names).rejects.toThrow(/2 class names/);
  });
});

describe('a folder of pictures', () => {
  const plain = (r: number, g: number, b: number, alpha = 1) =>
    sharp({ create: { width: 12, height: 8, channels: 4, background: { r, g, b, alpha } } })
      .png()
      .toBuffer();

  it('decodes, crops the centre, skips and names bad files, sorts classes', async () => {
    // Left and right quarters black: the centre crop of a 16 x 8 picture is all white.
    const striped = Buffer.alloc(16 * 8 * 3, 0);
    for (let p = 0; p < 128; p++) if (p % 16 >= 4 && p % 16 < 12) striped.fill(255, p * 3, p * 3 + 3);
    const wide = await sharp(striped, { raw: { width: 16, height: 8, channels: 3 } })
      .png()
      .toBuffer();
    const grey = await sharp(Buffer.alloc(64, 77), { raw: { width: 8, height: 8, channels: 1 } })
      .png()
      .toBuffer();
    const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#888' } })
      .jpeg()
      .toBuffer();
    const path = folder('pets', {
      'dog/b.png': await plain(200, 0, 0, 0),
      'dog/a.png': await plain(10, 20, 30),
      'dog/notes.txt': 'not a picture',
      'cat/wide.png': wide,
      'cat/cut.jpg': jpeg.subarray(0, jpeg.length >> 1),
      'cat/grey.png': grey,
      'cat/empty.png': '',
      '.hidden/x.png': 'no class',
      'cat/.DS_Store': 'ignored',
      'README.txt': 'not a class',
    });
    const seen: string[] = [];
    const data = await openDataset(path, { size: 4, onProgress: (done, total) => seen.push(`${done}/${total}`) });
    expect(data).toMatchObject({
      name: 'pets',
      count: 4,
      height: 4,
      width: 4,
      channels: 3,
      classNames: ['cat', 'dog'],
    });
    expect([0, 1, 2, 3].map((i) => data.label(i))).toEqual([0, 0, 1, 1]);
    expect([0, 1, 2, 3].map((i) => [...data.image(i).subarray(15, 18)])).toEqual([
      [77, 77, 77],
      [255, 255, 255],
      [10, 20, 30],
      [255, 255, 255], // transparent: white
    ]);
    expect(Math.min(...data.image(1))).toBeGreaterThan(200); // resampling rings a little at the cut
    expect(data.skipped.map(({ file }) => file.slice(path.length + 1))).toEqual([
      'cat/cut.jpg',
      'cat/empty.png',
      'dog/notes.txt',
    ]);
    expect(data.skipped.every(({ reason }) => reason.length > 0)).toBe(true);
    expect(seen.at(-1)).toBe('7/7');
  });

  it('reads grey on request, and train/test sub-folders', async () => {
    const path = folder('split', { 'train/a/1.png': await plain(60, 60, 60), 'test/a/1.png': await plain(90, 90, 90) });
    const data = await openDataset(path, { size: 2, channels: 1 });
    expect([data.channels, ...data.image(0)]).toEqual([1, 60, 60, 60, 60]);
    const test = await openDataset(path, { size: 2, channels: 1, split: 'test' });
    expect([...test.image(0)]).toEqual([90, 90, 90, 90]);
  });

  it('is grey where every picture is, unless colour is asked for', async () => {
    const path = folder('greys', { 'a/1.png': await plain(60, 60, 60), 'b/2.png': await plain(90, 90, 90) });
    const data = await openDataset(path, { size: 2 });
    expect([data.channels, ...data.image(0), ...data.image(1)]).toEqual([1, 60, 60, 60, 60, 90, 90, 90, 90]);
    expect((await openDataset(path, { size: 2, channels: 3 })).channels).toBe(3);
  });

  it('stops with a clear error where nothing is usable', async () => {
    await expect(openDataset(folder('x', { 'a/1.png': 'bad', 'b/2.png': 'bad' }))).rejects.toThrow(/none of 2 files/);
    const good = folder('x', { 'a/1.png': await plain(1, 2, 3) });
    await expect(openDataset(good, { size: 0 })).rejects.toThrow(ConfigError);
    await expect(openDataset(good, { size: 64, maxBytes: 1000 })).rejects.toThrow(LimitError);
    await expect(openDataset(good, { signal: AbortSignal.abort() })).rejects.toThrow(InterruptedError);
    await expect(openDataset(good, { split: 'test' })).rejects.toThrow(/without its test part/);
  });
});

describe('openDataset', () => {
  it('says what it found and what it understands', async () => {
    const error = await openDataset(folder('x', { 'a.txt': '', 'b.csv': '' })).catch((e: DataError) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(/found a\.txt, b\.csv/);
    expect((error as DataError).hint).toMatch(/idx3-ubyte.*data_batch_1\.bin.*one sub-folder per class/);
    await expect(openDataset(join(scratch, 'nowhere'))).rejects.toThrow(/no such file or folder/);
    await expect(openDataset(folder('x', {}))).rejects.toThrow(/found nothing/);
    await expect(openDataset(join(folder('x', { f: '' }), 'f'))).rejects.toThrow(/is empty/);
  });
});

describe('datasetOf', () => {
  const fields = {
    name: 'x',
    height: 1,
    width: 2,
    channels: 1,
    classes: 2,
    pixels: range(4),
    labels: Uint8Array.of(0, 1),
  };
  it.each([
    [{ labels: Uint8Array.of(0, 2) }, 'x: picture 1 has label 2; with 2 classes labels are 0 to 1'],
    [{ channels: 0 }, 'x: channels must be an integer, 1 or more, not 0'],
    [{ height: 0.5 }, 'x: height must be an integer, 1 or more, not 0.5'],
    [{ classes: 0 }, 'x: classes must be an integer from 1 to 65536, not 0'],
    [{ pixels: range(5) }, 'x: 5 pixel bytes are not 2 pictures of 2 bytes'],
    [{ pixels: new Float32Array(4) as never }, 'x: pixels must be a Uint8Array of bytes 0 to 255'],
    [{ labels: [0, 1] as never }, 'x: labels must be a Uint8Array or a Uint16Array'],
    [{ pixels: range(0), labels: range(0) }, 'x: there are no labels, so no pictures'],
    [{ classNames: ['a', 'b', 'c'] }, 'x: 3 class names are given for 2 classes'],
    [{ classNames: ['a', 1] as never }, 'x: classNames must be an array of strings'],
  ])('refuses %j', (change, message) => {
    expect(() => datasetOf({ ...fields, ...change })).toThrow(new UsageError(message));
    expect(datasetOf(fields).count).toBe(2);
  });
});

describe('pixels to numbers', () => {
  it('maps 0, 51, 255 to -1, -0.6, 1, at an offset', () => {
    const out = new Float32Array(5);
    toUnit(Uint8Array.from([0, 51, 255]), out, 1);
    expect([...out]).toEqual([0, -1, Math.fround(-0.6), 1, 0]);
    expect(() => toUnit(new Uint8Array(5), out, 1)).toThrow(UsageError);
  });

  it('mirrors pixels, not channels', () => {
    const out = new Float32Array(12);
    toUnitFlipped(Uint8Array.from([0, 0, 255, 255, 51, 51, 0, 255, 0, 255, 51, 0]), 3, 2, out);
    expect([...out].map((x) => Math.round((x + 1) * 127.5))).toEqual([51, 51, 255, 255, 0, 0, 51, 0, 0, 255, 0, 255]);
  });
});

describe('order', () => {
  const count = 101;
  const order = dataOrder({ count, seed: 5, flip: true });
  const epoch = (e: number, of = order) => Array.from({ length: count }, (_, k) => of.at(e * count + k).index);

  it('visits every picture once an epoch, each epoch in its own order', () => {
    for (const e of [0, 1, 7])
      expect(epoch(e).sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(epoch(0)).not.toEqual(epoch(1));
    expect(epoch(0)).not.toEqual(epoch(0, dataOrder({ count, seed: 6 })));
    expect([order.epoch(100), order.epoch(101)]).toEqual([0, 1]);
  });

  it('is a function of the position alone', () => {
    const forward = Array.from({ length: 400 }, (_, n) => order.at(n));
    const again = dataOrder({ count, seed: 5, flip: true });
    const backward = Array.from({ length: 400 }, (_, k) => again.at(399 - k)).reverse();
    expect(backward).toEqual(forward);
  });

  it('flips about half, differently in each epoch, and none unless asked', () => {
    const flips = (e: number) => Array.from({ length: count }, (_, k) => order.at(e * count + k).flip);
    const n = [0, 1, 2, 3, 4].flatMap(flips).filter(Boolean).length;
    expect(Math.abs(n - 252.5)).toBeLessThan(5 * Math.sqrt(505 / 4));
    expect(flips(0)).not.toEqual(flips(1));
    const never = dataOrder({ count, seed: 5 });
    expect(Array.from({ length: 300 }, (_, i) => never.at(i).flip).some(Boolean)).toBe(false);
    expect(epoch(0, never)).toEqual(epoch(0));
  });

  it('fills batches with the pictures, flips and labels of its positions, across epochs', () => {
    const data = datasetOf({
      name: 'x',
      height: 1,
      width: 2,
      channels: 1,
      classes: 3,
      pixels: range(6),
      labels: Uint8Array.of(0, 1, 2),
    });
    const small = dataOrder({ count: 3, seed: 1, flip: true });
    const [images, labels] = [new Float32Array(12), new Uint32Array(6)];
    fillBatch(data, small, 2, images, labels);
    for (let row = 0; row < 6; row++) {
      const { index, flip } = small.at(2 + row);
      const pixels = [2 * index, 2 * index + 1];
      expect([...images.subarray(2 * row, 2 * row + 2)].map((x) => Math.round((x + 1) * 127.5))).toEqual(
        flip ? pixels.reverse() : pixels,
      );
      expect(labels[row]).toBe(index);
    }
    expect(() => fillBatch(data, small, 0, new Float32Array(3), labels)).toThrow(UsageError);
  });

  it('refuses nonsense', () => {
    expect(() => dataOrder({ count: 0, seed: 1 })).toThrow(ConfigError);
    expect(() => dataOrder({ count: 3, seed: -1 })).toThrow(ConfigError);
    expect(() => order.at(-1)).toThrow(UsageError);
  });
});
