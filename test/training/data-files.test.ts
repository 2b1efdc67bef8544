/** Data sets from files that are not what they seem: pipes, links, protected folders, gzip bombs, names that move cursors. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip, gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { DataError, InterruptedError, LimitError, UnsupportedError } from '../../engine/errors.ts';
import { printable } from '../../engine/text.ts';
import { openDataset } from '../../training/data/open.ts';
import { loadSharp } from '../../training/data/sharp.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-files-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function folder(files: Record<string, Uint8Array | string> = {}): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

const header = (...dims: number[]) => {
  const bytes = Buffer.alloc(4 + 4 * dims.length);
  bytes.writeUInt32BE(0x800 + dims.length);
  for (const [k, n] of dims.entries()) bytes.writeUInt32BE(n, 4 + 4 * k);
  return bytes;
};
const IMAGES = 'train-images-idx3-ubyte';
const LABELS = 'train-labels-idx1-ubyte';
const labels = Buffer.concat([header(2), Buffer.from([0, 1])]);
const png = () =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: '#123456' } })
    .png()
    .toBuffer();

describe.skipIf(process.platform === 'win32')('what is no regular file', () => {
  const failure = async (path: string) => {
    const error = await openDataset(path).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    return (error as DataError).message;
  };

  it.each<[string, (at: string) => void, RegExp]>([
    ['a pipe', (at) => execFileSync('mkfifo', [at]), /is no regular file$/],
    ['a device without end', (at) => symlinkSync('/dev/zero', at), /is no regular file$/],
    ['a folder', (at) => mkdirSync(at), /is a folder$/],
    ['a link to nothing', (at) => symlinkSync('/nowhere', at), /no such file, or it is a link to nothing$/],
    ['a link to itself', (at) => symlinkSync(at, at), /a link that leads to itself$/],
  ])('%s in the place of IDX or CIFAR files is refused', async (_, make, message) => {
    for (const [bad, others] of [
      [IMAGES, { [LABELS]: labels }],
      [LABELS, { [IMAGES]: Buffer.concat([header(2, 1, 1), Buffer.from([0, 1])]) }],
      ['data_batch_2.bin', { 'data_batch_1.bin': new Uint8Array(3073) }],
      ['batches.meta.txt', { 'data_batch_1.bin': new Uint8Array(3073) }],
    ] as const) {
      const path = folder(others as Record<string, Uint8Array>);
      make(join(path, bad));
      const text = await failure(path);
      expect(text).toMatch(message);
      expect(text.startsWith(join(path, bad))).toBe(true);
    }
  });

  it('is skipped among pictures, with the reason', async () => {
    const path = folder({ 'a/good.png': await png() });
    execFileSync('mkfifo', [join(path, 'a', 'pipe.png')]);
    mkdirSync(join(path, 'a', 'deeper'));
    symlinkSync('/dev/zero', join(path, 'a', 'zero.png'));
    symlinkSync(join(path, 'a', 'loop.png'), join(path, 'a', 'loop.png'));
    symlinkSync(join(path, 'loop'), join(path, 'loop'));
    const data = await openDataset(path, { size: 2 });
    expect(data.count).toBe(1);
    expect(data.classNames).toEqual(['a']);
    expect(data.skipped.map(({ file, reason }) => [file.slice(path.length + 1), reason])).toEqual([
      ['a/deeper', 'is a folder'],
      ['a/loop.png', 'cannot be read: it is a link that leads to itself'],
      ['a/pipe.png', 'is no regular file'],
      ['a/zero.png', 'is no regular file'],
    ]);
  });

  it('folders that may not be read, and links that lead nowhere, are DataErrors', async () => {
    const path = folder({ 'a/good.png': await png() });
    chmodSync(scratch, 0o755);
    chmodSync(path, 0o755);
    chmodSync(join(path, 'a'), 0);
    const root = process.geteuid?.() === 0;
    if (root) process.seteuid!(65534);
    try {
      expect(await failure(path)).toBe(`${join(path, 'a')} cannot be read: no permission`);
      expect(await failure(join(path, 'a'))).toBe(`${join(path, 'a')} cannot be read: no permission`);
    } finally {
      if (root) process.seteuid!(0);
    }
    symlinkSync(join(path, 'loop'), join(path, 'loop'));
    expect(await failure(join(path, 'loop'))).toMatch(/loop: cannot be read: ELOOP/);
    symlinkSync('/nowhere', join(path, 'dangling'));
    expect(await failure(join(path, 'dangling'))).toBe(`${join(path, 'dangling')}: no such file or folder`);
  });
});

describe('gzip that unpacks to far more than it is', () => {
  /** Writes `bytes` zeros after a header, gzipped, without holding them. */
  async function zeros(path: string, head: Uint8Array, bytes: number): Promise<void> {
    const block = Buffer.alloc(1 << 20);
    const parts = function* () {
      yield head;
      for (let left = bytes; left > 0; left -= block.length) yield block.subarray(0, Math.min(left, block.length));
    };
    await pipeline(Readable.from(parts()), createGzip(), createWriteStream(path));
  }
  /** By how much the most memory that this process has ever held grew meanwhile, in bytes. */
  async function growth(body: () => Promise<unknown>): Promise<number> {
    const before = process.resourceUsage().maxRSS;
    await body();
    return (process.resourceUsage().maxRSS - before) * 1024;
  }
  const SIZE = 300_000_000;

  it('is not unpacked at all where the labels are of another number', async () => {
    const path = folder({ [`${LABELS}.gz`]: gzipSync(labels) });
    await zeros(join(path, `${IMAGES}.gz`), header(3, 10_000, 10_000), SIZE);
    const opened = () => expect(openDataset(path)).rejects.toThrow(/has 3 pictures, .* has 2 labels/);
    expect(await growth(opened)).toBeLessThan(SIZE / 4);
  });

  it('is stopped at what its header says, and at what may be held', async () => {
    const path = folder({ [`${LABELS}.gz`]: gzipSync(labels) });
    await zeros(join(path, `${IMAGES}.gz`), header(2, 100, 100), SIZE);
    const opened = () => expect(openDataset(path)).rejects.toThrow(/holds more than the 20016 bytes/);
    expect(await growth(opened)).toBeLessThan(SIZE / 4);
    await zeros(join(path, `${IMAGES}.gz`), header(2, 10_000, 1000), 20_000_000);
    await expect(openDataset(path, { maxBytes: 19_999_999 })).rejects.toThrow(LimitError);
  });

  it('is held once where it is what it says', async () => {
    const path = folder({ [`${LABELS}.gz`]: gzipSync(labels) });
    await zeros(join(path, `${IMAGES}.gz`), header(2, 10_000, 10_000), 200_000_000);
    const opened = async () => expect((await openDataset(path)).image(1).length).toBe(100_000_000);
    expect(await growth(opened)).toBeLessThan(300_000_000);
  });
});

describe('interruptions', () => {
  it.each([0, 1, 2])('stop IDX and CIFAR files too (case %i)', async (which) => {
    const images = Buffer.concat([header(2, 1, 1), Buffer.from([0, 1])]);
    const path = folder(
      [
        { 'data_batch_1.bin': new Uint8Array(3073) },
        { [IMAGES]: images, [LABELS]: labels },
        { [`${IMAGES}.gz`]: gzipSync(images), [`${LABELS}.gz`]: gzipSync(labels) },
      ][which] as Record<string, Uint8Array>,
    );
    const error = (await openDataset(path, { signal: AbortSignal.abort() }).catch((e: unknown) => e)) as Error;
    expect(error).toBeInstanceOf(InterruptedError);
    expect(error.message).toMatch(/^reading .* was interrupted$/);
  });
});

describe('onShape', () => {
  it('is told the shape before pictures are read, and what it throws ends the reading', async () => {
    const path = folder({ 'a/1.png': 'no picture', 'b/2.png': 'none either' });
    const onShape = (shape: object): never => {
      throw new Error(JSON.stringify({ ...shape, name: '' }));
    };
    await expect(openDataset(path, { size: 5, onShape })).rejects.toThrow(
      '{"name":"","height":5,"width":5,"channels":3,"classes":2}',
    );
    const cifar = folder({ 'data_batch_1.bin': new Uint8Array(3073) });
    await expect(openDataset(cifar, { onShape })).rejects.toThrow(
      '{"name":"","height":32,"width":32,"channels":3,"classes":10}',
    );
  });
});

describe.skipIf(process.platform === 'win32')('names from the disk', () => {
  it('are escaped in messages', async () => {
    const path = folder({ 'x\n\u001b[2Jy.txt': '' });
    await expect(openDataset(path)).rejects.toThrow(/found x\\n\\x1b\[2Jy\.txt/);
    const bad = folder({ 'class\n/\u001b[31mbad.png': 'no picture' });
    const error = (await openDataset(bad).catch((e: unknown) => e)) as Error;
    expect(error.message).toContain('(\\x1b[31mbad.png: ');
    expect(printable(error.message)).toBe(error.message);
  });
});

it('refuses pictures that fill more than one array, whatever maxBytes allows', async () => {
  const path = folder({
    [IMAGES]: header(65536, 256, 256),
    [LABELS]: Buffer.concat([header(65536), Buffer.alloc(65536)]),
  });
  truncateSync(join(path, IMAGES), 16 + 2 ** 32);
  for (const maxBytes of [undefined, 2 ** 34]) {
    const error = await openDataset(path, { maxBytes }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(LimitError);
    expect(error).toMatchObject({ asked: 2 ** 32, available: 2 ** 32 - 4096 });
  }
});

describe('sharp', () => {
  it('that cannot be loaded is an UnsupportedError that says what to do', async () => {
    const failing = async (error: Error) => {
      const thrown = await loadSharp(() => Promise.reject(error)).catch((e: unknown) => e);
      expect(thrown).toBeInstanceOf(UnsupportedError);
      expect(thrown).toMatchObject({
        cause: error,
        hint: expect.stringMatching(/^npm install --include=optional; or/),
      });
      return (thrown as Error).message;
    };
    const absent = Object.assign(new Error("Cannot find package 'sharp'"), { code: 'ERR_MODULE_NOT_FOUND' });
    expect(await failing(absent)).toMatch(/ the package sharp, which is not installed$/);
    // What sharp throws after `npm install --omit=optional`.
    const bare = new Error('Could not load the "sharp" module using the linux-x64 runtime');
    expect(await failing(bare)).toMatch(/ the package sharp, which has no library for this platform$/);
  });
});
