/** Parquet files of pictures: values, columns, class names, codecs, and files that are cut short or say what is not so. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataError } from '../../../engine/errors.ts';
import { createDecodePool } from '../../../training/data/decode-pool.ts';
import { openDataset, openTrainingData } from '../../../training/data/open.ts';
import { indexParquet } from '../../../training/data/parquet.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-parquet-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function folder(files: Record<string, Uint8Array>): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

const colours = ['#ff0000', '#00ff00', '#0000ff', '#ffff00', '#ffffff'];
const pixels = [
  [255, 0, 0],
  [0, 255, 0],
  [0, 0, 255],
  [255, 255, 0],
  [255, 255, 255],
];
let pngs: Uint8Array[];
beforeAll(async () => {
  pngs = await Promise.all(
    colours.map(async (background, k) =>
      Uint8Array.from(
        await sharp({ create: { width: 3 + k, height: 5, channels: 3, background } })
          .png()
          .toBuffer(),
      ),
    ),
  );
});

/** A file of these columns, two rows a group. */
function parquet(columns: ColumnSource[], more: Partial<Parameters<typeof parquetWriteBuffer>[0]> = {}): Uint8Array {
  return new Uint8Array(parquetWriteBuffer({ columnData: columns, rowGroupSize: 2, ...more }));
}
const images = (): ColumnSource => ({ name: 'image', data: pngs, type: 'BYTE_ARRAY' });
const labels = (data: number[] = [0, 1, 2, 1, 0]): ColumnSource => ({ name: 'label', data, type: 'INT32' });
const failure = async (path: string): Promise<DataError> => {
  const error = await openDataset(path, { size: 2 }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(DataError);
  return error as DataError;
};

describe('parquet', () => {
  it('gives pictures of mixed sizes and labels over all row groups', async () => {
    const said: string[] = [];
    const path = folder({ 'a.parquet': parquet([images(), labels()]) });
    const data = await openDataset(path, { size: 2, onRecognised: (what) => said.push(what) });
    expect(data).toMatchObject({ count: 5, classes: 3, channels: 3, height: 2 });
    expect([0, 1, 2, 3, 4].map((i) => data.label(i))).toEqual([0, 1, 2, 1, 0]);
    expect([0, 1, 2, 3, 4].map((i) => Array.from(data.image(i).subarray(0, 3)))).toEqual(pixels);
    expect(said).toEqual(["parquet: 1 file, 3 row groups, pictures in column 'image', labels in 'label'"]);
  });

  it("reads the Hub's layout: data/, splits, 64-bit labels, class names, uncompressed pages", async () => {
    const names = ['cat', 'dog', 'elk', 'fox'];
    const kvMetadata = [{ key: 'huggingface', value: JSON.stringify({ info: { features: { label: { names } } } }) }];
    const label: ColumnSource = { name: 'label', data: [3n, 1n, 2n, 1n, 0n], type: 'INT64' };
    const file = parquet([{ ...images(), name: 'img' }, label], { kvMetadata, codec: 'UNCOMPRESSED' });
    const path = folder({
      'data/train-00000-of-00001.parquet': file,
      'data/test-00000-of-00001.parquet': file,
      'README.md': pngs[0]!,
    });
    const data = await openDataset(path, { size: 2 });
    expect(data).toMatchObject({ count: 5, classes: 4, classNames: names });
    expect(data.label(0)).toBe(3);
  });

  it('without labels is one class', async () => {
    expect(await openDataset(folder({ 'a.parquet': parquet([images()]) }), { size: 2 })).toMatchObject({ classes: 1 });
  });

  it('keeps row groups together in its order, and reads every picture once an epoch', async () => {
    const data = await openTrainingData(folder({ 'a.parquet': parquet([images(), labels()]) }), {
      size: 2,
      maxBytes: 1,
    });
    expect(data).toMatchObject({ groups: { sizes: [2, 2, 1], together: 3 }, elements: 'bytes' });
    const reader = 'open' in data ? data.open() : expect.unreachable();
    const read = await Promise.all([4, 0, 3, 1, 2].map((i) => reader.read(i)));
    expect(read.map((picture) => Array.from(picture.subarray(0, 3)))).toEqual([4, 0, 3, 1, 2].map((i) => pixels[i]));
    await reader.close();
  });

  it('cut short anywhere is refused, naming it', async () => {
    const whole = parquet([images(), labels()]);
    const path = join(folder({}), 'a.parquet');
    for (let cut = 0; cut < whole.length; cut += cut < 16 || cut > whole.length - 64 ? 1 : 61) {
      writeFileSync(path, whole.subarray(0, cut));
      const { message } = await failure(path);
      expect(message.startsWith(path), `${cut} bytes: ${message}`).toBe(true);
    }
  });

  it('with any damage is read to the same pictures or refused as data, never otherwise', async () => {
    const whole = parquet([images(), labels()]);
    const path = join(folder({}), 'a.parquet');
    // One of these bytes keeps the thread that reads it busy without end.
    for (let at = 4; at < whole.length; at += 74) {
      const bytes = whole.slice();
      bytes[at]! ^= 0x55;
      writeFileSync(path, bytes);
      const result = await openDataset(path, { size: 2 }).catch((error: unknown) => error);
      if (result instanceof Error) expect(result, `byte ${at}: ${result.message}`).toBeInstanceOf(DataError);
    }
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    ['no column of pictures', () => parquet([labels()]), /no column of pictures among label/],
    [
      'a label out of range',
      () => parquet([images(), labels([0, 1, 2, 65535, 0])]),
      /row 1 of row group 1: label 65535/,
    ],
    ['a negative label', () => parquet([images(), labels([0, 1, 2, 1, -1])]), /row 0 of row group 2: label -1 is no/],
    [
      'labels in words',
      () => parquet([images(), { name: 'label', data: ['a', 'b', 'c', 'd', 'e'], type: 'STRING' }]),
      /row group 0: row 0 has no number in its column 'label' \(of BYTE_ARRAY\)/,
    ],
    [
      'what is no picture',
      () => parquet([{ name: 'image', data: [...pngs.slice(0, 4), Uint8Array.of(1, 2, 3)], type: 'BYTE_ARRAY' }]),
      /row 0 of row group 2: .*unsupported image format/,
    ],
    [
      'a row without a picture',
      () => parquet([{ name: 'image', data: [pngs[0]!, null, pngs[1]!], type: 'BYTE_ARRAY' }]),
      /row group 0: its row 1 holds no picture/,
    ],
    [
      'a row without a label',
      () => parquet([images(), { name: 'label', data: [0, 1, 2, null, 0], type: 'INT32' }]),
      /row group 1: row 1 has no number in its column 'label' \(of INT32\)/,
    ],
    ['no rows', () => parquet([{ name: 'image', data: [], type: 'BYTE_ARRAY' }]), /hold no rows/],
  ])('refuses %s', async (_, make, message) => {
    expect((await failure(join(folder({ 'a.parquet': make() }), 'a.parquet'))).message).toMatch(message);
  });

  it('refuses codecs that cannot be unpacked, saying so, before anything is read', async () => {
    // The footer says so; the pages themselves do not come to it.
    const packed = (codec: 'LZ4' | 'LZO') =>
      parquet([images(), labels()], { codec, compressors: { [codec]: (page: Uint8Array) => page } });
    for (const codec of ['LZ4', 'LZO'] as const) {
      const { message, hint } = await failure(join(folder({ 'a.parquet': packed(codec) }), 'a.parquet'));
      expect(message).toMatch(new RegExp(`row group 0: its column 'image' is packed as ${codec}, which this Node`));
      expect(hint).toMatch(/^Write the file again with SNAPPY, GZIP, BROTLI/);
    }
  });

  it('that names one picture many times is held to what that unpacks to', async () => {
    const data = Array.from({ length: 100 }, () => pngs[0]!);
    const file = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'image', data, type: 'BYTE_ARRAY' }] }));
    const bytes = 100 * pngs[0]!.length;
    expect(file.length).toBeLessThan(bytes / 10);
    const set = await indexParquet('x', [join(folder({ 'a.parquet': file }), 'a.parquet')]);
    const pool = createDecodePool(2, 3);
    const limits: number[] = [];
    const within = (most: number) =>
      set.openBytes({
        ...pool,
        unpack(job, what) {
          limits.push(job.most);
          return pool.unpack({ ...job, most }, what);
        },
      });
    try {
      expect(await within(bytes).bytes(99)).toEqual(pngs[0]);
      const error = await within(bytes - 1)
        .bytes(0)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(DataError);
      expect((error as DataError).message).toMatch(
        new RegExp(`row group 0: its pictures have ${bytes} bytes; at most ${bytes - 1} are held$`),
      );
      expect((error as DataError).hint).toMatch(
        /^Write the file again, with a picture in each row and row groups of 1,/,
      );
      expect(limits).toEqual([2 ** 29, 2 ** 29]);
    } finally {
      await pool.close();
    }
  });

  it('gives up row groups whose pictures are larger than they seemed', async () => {
    const set = await indexParquet('x', [join(folder({ 'a.parquet': parquet([images()]) }), 'a.parquet')]);
    expect(set.groups).toEqual({ sizes: [2, 2, 1], together: 3 });
    const pool = createDecodePool(2, 3);
    /** How often groups are unpacked for pictures in this order, each group being of so many bytes. */
    const unpacked = async (length: number, order: readonly number[]) => {
      let times = 0;
      // Of that length, without it being there.
      const packed = { length, slice: () => Uint8Array.of(7) } as unknown as Uint8Array;
      const unpack = async () => {
        times++;
        return { packed, ends: Float64Array.of(1, 2) };
      };
      const source = set.openBytes({ ...pool, unpack });
      for (const i of order) expect(await source.bytes(i)).toEqual(Uint8Array.of(7));
      await source.close();
      return times;
    };
    const order = [0, 2, 1, 3, 0];
    expect(await unpacked(2 ** 29, order)).toBe(2);
    expect(await unpacked(2 ** 29 + 1, order)).toBe(5);
    await pool.close();
  });

  it('refuses files of other columns than those before, and skips empty ones', async () => {
    const path = folder({ 'a.parquet': parquet([images(), labels()]), 'b.parquet': parquet([images()]) });
    expect((await failure(path)).message).toMatch(/b\.parquet has the columns image, undefined; the files before it/);
    const none = parquet([{ name: 'image', data: [], type: 'BYTE_ARRAY' }]);
    const other = folder({ 'a.parquet': none, 'b.parquet': parquet([images()]) });
    const data = await openDataset(other, { size: 2 });
    expect([data.count, data.skipped]).toEqual([5, [{ file: join(other, 'a.parquet'), reason: 'holds no rows' }]]);
  });
});
