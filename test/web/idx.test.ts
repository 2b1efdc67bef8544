/** IDX files as browsers read them: plain and gzipped, from blobs and addresses, and what is said of those that are damaged. */
import { gzipSync } from 'node:zlib';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { DataError, InterruptedError } from '../../engine/errors.ts';
import { datasetOfIdx } from '../../web/idx.ts';

/** A file of `dims`, whose elements are 0, 1, 2, ... */
function idx(dims: readonly number[], count = dims.reduce((a, b) => a * b, 1)): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length);
  header.writeUInt32BE(0x800 + dims.length, 0);
  dims.forEach((n, i) => {
    header.writeUInt32BE(n, 4 + 4 * i);
  });
  return Buffer.concat([header, Buffer.from(Array.from({ length: count }, (_, i) => i % 256))]);
}
const blob = (bytes: Uint8Array) => new Blob([Uint8Array.from(bytes)]);
const images = idx([3, 2, 5]);
const labels = idx([3]);

it.each([
  ['plain', images, labels],
  ['gzipped', gzipSync(images), gzipSync(labels)],
])('%s files are pictures and labels', async (_, pictures, classes) => {
  const data = await datasetOfIdx({ name: 'ten', images: blob(pictures), labels: blob(classes) });
  expect([data.count, data.height, data.width, data.channels, data.classes]).toEqual([3, 2, 5, 1, 3]);
  expect([...data.image(1)]).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  expect([0, 1, 2].map((i) => data.label(i))).toEqual([0, 1, 2]);
});

it('are fetched from addresses, with the names of their classes', async () => {
  const files = new Map([
    ['/images', gzipSync(images)],
    ['/labels', labels],
  ]);
  vi.stubGlobal(
    'fetch',
    async (url: string) =>
      new Response(files.get(url) && blob(files.get(url)!), {
        status: files.has(url) ? 200 : 404,
        statusText: files.has(url) ? 'OK' : 'Not Found',
      }),
  );
  onTestFinished(() => void vi.unstubAllGlobals());
  const classNames = ['a', 'b', 'c', 'd'];
  const data = await datasetOfIdx({ name: 'ten', images: '/images', labels: '/labels', classNames });
  expect([data.classes, data.classNames]).toEqual([4, classNames]);
  const missing = datasetOfIdx({ name: 'ten', images: '/images', labels: '/nothing' });
  await expect(missing).rejects.toThrow('/nothing: the server answered 404 Not Found');
});

describe('refused are', () => {
  const whole = { name: 'ten', images: blob(images), labels: blob(labels) };
  it.each([
    ['no such file', { images: blob(Buffer.from('no pictures at all')) }, /^the pictures: magic 0x6e6f2070 is not/],
    ['labels of others', { labels: blob(idx([4])) }, /^ten: 3 pictures, 4 labels$/],
    [
      'a file cut short',
      { images: blob(images.subarray(0, 30)) },
      /^the pictures: 30 bytes, where its header \(3 x 2 x 5\) asks for 46$/,
    ],
    [
      'more than the header says',
      { labels: blob(idx([3], 9)) },
      /^the labels: more bytes than the 11 that its header \(3\) asks for$/,
    ],
    [
      'gzip that breaks off',
      { images: blob(gzipSync(images).subarray(0, 40)) },
      /^the pictures: damaged or cut short \(gzip\)$/,
    ],
    ['a header beyond all bounds', { images: blob(idx([65535, 65535, 255], 9)) }, /more than is read here$/],
  ])('%s', async (_, part, message) => {
    const error = await datasetOfIdx({ ...whole, ...part }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toMatch(message);
  });

  it('nothing where the caller has interrupted', async () => {
    await expect(datasetOfIdx(whole, AbortSignal.abort())).rejects.toBeInstanceOf(InterruptedError);
  });
});
