/** Pictures read as they are needed: the same batches as from memory, in any order of groups, resumed anywhere, bounded, and failing well. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataError, InterruptedError, UsageError } from '../../../engine/errors.ts';
import { readBatches } from '../../../training/batches.ts';
import { isStreamed, type StreamedDataset, type TrainingData } from '../../../training/data/dataset.ts';
import { createDecodePool } from '../../../training/data/decode-pool.ts';
import { fingerprint } from '../../../training/data/fingerprint.node.ts';
import { checkSameData } from '../../../training/data/fingerprint.ts';
import { openTrainingData } from '../../../training/data/open.ts';
import { dataOrder } from '../../../training/data/order.ts';
import { tar } from '../../support/archives.ts';
import { bits } from '../../support/tiny.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-streamed-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const COUNT = 24;
let pngs: Buffer[];
const paths = { folder: join(scratch, 'folder'), tar: join(scratch, 'tar'), parquet: join(scratch, 'parquet') };
beforeAll(async () => {
  const noise = (i: number) => Uint8Array.from({ length: 192 }, (_, k) => (k * 37 + i * 91) % 256);
  const raw = { width: 8, height: 8, channels: 3 } as const;
  pngs = await Promise.all(Array.from({ length: COUNT }, (_, i) => sharp(noise(i), { raw }).png().toBuffer()));
  const write = (path: string, content: Uint8Array) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  };
  pngs.forEach((png, i) => {
    write(join(paths.folder, `${Math.floor(i / 8)}`, `${String(i).padStart(2, '0')}.png`), png);
  });
  for (let shard = 0; shard < 3; shard++) {
    const own = pngs.slice(8 * shard, 8 * shard + 8);
    const entries = own.flatMap((png, k) => [[`${k}.png`, png] as const, [`${k}.cls`, String(shard)] as const]);
    write(join(paths.tar, `${shard}.tar`), tar(entries));
    const columnData = [
      { name: 'image', data: own.map((png) => Uint8Array.from(png)), type: 'BYTE_ARRAY' as const },
      { name: 'label', data: own.map(() => shard), type: 'INT32' as const },
    ];
    write(join(paths.parquet, `${shard}.parquet`), new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 3 })));
  }
});

const kinds = ['folder', 'tar', 'parquet'] as const;
const held = (kind: keyof typeof paths) => openTrainingData(paths[kind], { size: 8, channels: 3 });
const streamed = async (kind: keyof typeof paths, path = paths[kind]) => {
  const data = await openTrainingData(path, { size: 8, channels: 3, maxBytes: 1000 });
  expect(isStreamed(data)).toBe(true);
  return data as StreamedDataset;
};

/** The bits of `count` batches of 5 from sample `first` on. */
async function batches(data: TrainingData, first: number, count: number, maxAhead?: number): Promise<string[]> {
  const reader = readBatches(data, { seed: 7, flip: true, first, maxAhead });
  const out: string[] = [];
  for (let k = 0; k < count; k++) {
    const [images, labels] = [new Float32Array(5 * 192), new Uint32Array(5)];
    await reader.next(images, labels);
    out.push(`${bits(images)} ${[...labels]}`);
  }
  await reader.close();
  return out;
}

describe('batches', () => {
  it.each(['folder', 'tar'] as const)('of a %s are those of memory, bit for bit, over epochs', async (kind) => {
    const data = await held(kind);
    expect(isStreamed(data)).toBe(false);
    expect(await batches(await streamed(kind), 0, 12)).toEqual(await batches(data, 0, 12));
  });

  it('of parquet are those of memory in the order of its groups', async () => {
    const data = await streamed('parquet');
    const memory = await held('parquet');
    const order = dataOrder({ count: COUNT, seed: 7, flip: true, groups: data.groups });
    const reader = readBatches(data, { seed: 7 });
    const [images, labels] = [new Float32Array(COUNT * 192), new Uint32Array(COUNT)];
    await reader.next(images, labels);
    await reader.close();
    expect(new Set(Array.from({ length: COUNT }, (_, n) => order.at(n).index)).size).toBe(COUNT);
    for (let n = 0; n < COUNT; n++) {
      const { index } = order.at(n);
      const picture = 'image' in memory ? memory.image(index) : expect.unreachable();
      expect(labels[n]).toBe(memory.label(index));
      expect(bits(images.subarray(192 * n, 192 * n + 192))).toBe(
        bits(Float32Array.from(picture, (b) => b / 127.5 - 1)),
      );
    }
  });

  it.each(kinds)('of a %s go on from any sample as if never interrupted, however far is read ahead', async (kind) => {
    const all = await batches(await streamed(kind), 0, 12);
    expect(new Set(all).size).toBe(12);
    expect(await batches(await streamed(kind), 5 * 3, 9, 1)).toEqual(all.slice(3));
    expect(await batches(await streamed(kind), 5 * 11, 1, 192 * 4)).toEqual(all.slice(11));
  });

  it('are read no further ahead than they may', async () => {
    let [most, open, closed] = [0, 0, 0];
    const data: StreamedDataset = {
      ...{ name: 'counted', height: 8, width: 8, channels: 3, classes: 1, count: 1000, skipped: [] },
      ...{ elements: 'bytes', paired: false, identity: '', label: () => 0 },
      open: () => ({
        async read() {
          most = Math.max(most, ++open);
          return new Uint8Array(192);
        },
        close: async () => void closed++,
      }),
    };
    const reader = readBatches(data, { seed: 1, maxAhead: 192 * 7 + 5 });
    for (let taken = 0; taken < 50; taken += 5) {
      await reader.next(new Float32Array(5 * 192), new Uint32Array(5));
      open -= 5;
    }
    await reader.close();
    // Those that have been given are counted until their batch is whole.
    expect([most, closed]).toEqual([7 + 4, 1]);
    await expect(reader.next(new Float32Array(3), new Uint32Array(5))).rejects.toThrow(UsageError);
  });
});

describe('the order of groups', () => {
  it('mixes only so many groups at a time, each epoch anew, by the seed', () => {
    const sizes = [3, 5, 1, 4, 2, 6];
    const groupOf = sizes.flatMap((size, g) => Array.from({ length: size }, () => g));
    const options = { count: 21, seed: 5, groups: { sizes, together: 2 } };
    const order = dataOrder(options);
    const epochs = [0, 1].map((epoch) => Array.from({ length: 21 }, (_, k) => order.at(epoch * 21 + k).index));
    for (const epoch of epochs) {
      expect([...epoch].sort((a, b) => a - b)).toEqual(groupOf.map((_, i) => i));
      let at = 0;
      const seen = new Set<number>();
      while (at < 21) {
        const groups = new Set<number>();
        let left = 0;
        do {
          const g = groupOf[epoch[at]!]!;
          if (!groups.has(g)) left += sizes[g]!;
          groups.add(g);
          at++;
          left--;
        } while (left > 0 || (groups.size < 2 && at < 21));
        expect(groups.size).toBeLessThanOrEqual(2);
        for (const g of groups) expect(seen.has(g)).toBe(false);
        for (const g of groups) seen.add(g);
      }
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(dataOrder({ ...options, seed: 6 }).at(0)).not.toEqual(order.at(0));
    expect(dataOrder(options).at(30)).toEqual(order.at(30));
    expect(() => dataOrder({ ...options, count: 20 }).at(0)).toThrow(UsageError);
  });
});

describe('what goes wrong', () => {
  it.each(['tar', 'parquet'] as const)('a %s shard that disappears during training is named', async (kind) => {
    const path = mkdtempSync(join(scratch, 'gone-'));
    const { readFileSync } = await import('node:fs');
    for (const shard of [0, 1])
      writeFileSync(join(path, `${shard}.${kind}`), readFileSync(join(paths[kind], `${shard}.${kind}`)));
    const data = await streamed(kind, path);
    rmSync(join(path, `1.${kind}`));
    const error = await batches(data, 0, 5).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(new RegExp(`1\\.${kind} cannot be read: there is no such file`));
  });

  it('a picture that cannot be decoded is named when its turn comes', async () => {
    const path = mkdtempSync(join(scratch, 'bad-'));
    mkdirSync(join(path, 'a'));
    for (const [i, png] of pngs.slice(0, 8).entries())
      writeFileSync(join(path, 'a', `${i}.png`), i === 3 ? 'no picture' : png);
    const error = await batches(await streamed('folder', path), 0, 2).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(/a\/3\.png: .*unsupported image format/);
  });

  it('a picture that changes during training is named, and makes another set', async () => {
    const path = mkdtempSync(join(scratch, 'changed-'));
    mkdirSync(join(path, 'a'));
    const write = (i: number, png: Buffer) => writeFileSync(join(path, 'a', `${i}.png`), png);
    pngs.slice(0, 8).forEach((png, i) => {
      write(i, png);
    });
    const data = await streamed('folder', path);
    expect((await streamed('folder', path)).identity).toBe(data.identity);
    // The same picture, and a chunk of text more.
    const longer = await sharp(pngs[3]).withMetadata({ density: 72 }).png().toBuffer();
    expect(longer.length).not.toBe(pngs[3]!.length);
    write(3, longer);
    const error = await batches(data, 0, 2).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(
      new RegExp(`a/3\\.png has ${longer.length} bytes; it had ${pngs[3]!.length} when it was looked at first$`),
    );
    const now = await streamed('folder', path);
    expect(now.identity).not.toBe(data.identity);
    expect(() => checkSameData(fingerprint(data), fingerprint(now))).toThrow('contents of the pictures');
    // What cannot be looked at is named when its turn comes.
    rmSync(join(path, 'a', '3.png'));
    symlinkSync('nowhere', join(path, 'a', '3.png'));
    await expect(batches(await streamed('folder', path), 0, 2)).rejects.toThrow('it is a link to nothing');
  });

  it('closing ends the threads and what is waited for', async () => {
    const pool = createDecodePool(8, 3);
    const bytes = async () => Uint8Array.from(pngs[0]!);
    await pool.decode(bytes, 'first');
    const waiting = Array.from({ length: 40 }, (_, i) => pool.decode(bytes, `picture ${i}`));
    const results = Promise.allSettled(waiting);
    await pool.close();
    for (const result of await results) {
      if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(InterruptedError);
    }
    await expect(pool.decode(bytes, 'late')).rejects.toThrow(/^reading late was interrupted$/);
  });
});

it('the identity of a set tells other files from the same', async () => {
  const data = await streamed('tar');
  expect(fingerprint(data)).toEqual(fingerprint(await streamed('tar')));
  expect(fingerprint(data).pixels).not.toBe(fingerprint(await streamed('parquet')).pixels);
});
