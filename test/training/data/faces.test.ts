/** The set of drawn faces: the same pixels for everybody, classes in turn, whole files after an interruption. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ConfigError, InterruptedError } from '../../../engine/errors.ts';
import { FACE_CLASSES, FACE_SIDE, facePainter } from '../../../training/data/faces.ts';
import { makeFaceFiles } from '../../../training/data/make-face-files.node.ts';
import { makeFaces } from '../../../training/data/make-faces.node.ts';
import { openDataset } from '../../../training/data/open.ts';
import { rejection } from '../../support/programs.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'odelt-faces-'));
});
afterAll(() => rm(folder, { recursive: true }));

it('is what it was, to the byte, and reads as a set of ten classes', async () => {
  const out = join(folder, 'set');
  const told: number[] = [];
  await makeFaces(out, { count: 50, test: 10, onProgress: (done, total) => told.push(done / total) });
  expect(told.at(-1)).toBe(1);
  const first = await readFile(join(out, 'data_batch_1.bin'));
  expect(
    createHash('sha256')
      .update(first.subarray(0, 4 * 3073))
      .digest('hex'),
  ).toBe('cda212003eea1dbe07a420b03c3742fcae8557b8f801fbd9c1275999665d6e53');
  const [train, test] = [await openDataset(out, { split: 'train' }), await openDataset(out, { split: 'test' })];
  expect(train).toMatchObject({ count: 50, height: 32, width: 32, channels: 3, classes: 10, classNames: FACE_CLASSES });
  expect(Array.from({ length: 50 }, (_, i) => train.label(i))).toEqual(Array.from({ length: 50 }, (_, i) => i % 10));
  // Face 23 lies in the third file; the test part has other faces.
  const paint = await facePainter();
  const face = (data: typeof train, i: number) => Buffer.from(data.image(i));
  expect(face(train, 23).equals(Buffer.from(await paint('train', 23)))).toBe(true);
  expect(face(test, 3).equals(face(train, 3))).toBe(false);
});

it('draws what the class says', async () => {
  expect(FACE_CLASSES).toHaveLength(10);
  expect(FACE_CLASSES.slice(0, 3)).toEqual(['short hair', 'long hair', 'short hair, glasses']);
  expect(new Set(FACE_CLASSES).size).toBe(10);
  const paint = await facePainter();
  // Pixels are doubled, so that a picture is 16 points a side.
  const pixels = await paint('train', 0);
  const at = (y: number, x: number) => pixels.subarray((y * FACE_SIDE + x) * 3, (y * FACE_SIDE + x) * 3 + 3);
  for (const [y, x] of [
    [0, 0],
    [10, 12],
    [30, 18],
  ] as const) {
    for (const [dy, dx] of [
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const)
      expect(at(y + dy, x + dx)).toEqual(at(y, x));
  }
});

it('goes on after an interruption, and draws what is cut short again', async () => {
  const out = join(folder, 'interrupted');
  const controller = new AbortController();
  const onProgress = (done: number) => done >= 20 && controller.abort();
  const stopped = makeFaces(out, { count: 50, test: 10, signal: controller.signal, onProgress });
  expect((await rejection(stopped, InterruptedError)).message).toMatch(/after 20 of 60; whole files stay/);
  const left = await readdir(out);
  expect(left.sort()).toEqual(['data_batch_1.bin', 'data_batch_2.bin']);
  const kept = (await stat(join(out, 'data_batch_1.bin'))).mtimeMs;
  await truncate(join(out, 'data_batch_2.bin'), 3073);
  await makeFaces(out, { count: 50, test: 10 });
  expect((await stat(join(out, 'data_batch_1.bin'))).mtimeMs).toBe(kept);
  for (const k of [1, 2, 3, 4, 5]) {
    const [one, other] = [join(out, `data_batch_${k}.bin`), join(folder, 'set', `data_batch_${k}.bin`)];
    expect((await readFile(one)).equals(await readFile(other))).toBe(true);
  }
});

it('refuses numbers that do not go into the files, before anything is written', async () => {
  const out = join(folder, 'none');
  expect((await rejection(makeFaces(out, { count: 7 }), ConfigError)).hint).toBe('give a multiple of 5');
  await rejection(makeFaces(out, { test: 0 }), ConfigError);
  await expect(readdir(out)).rejects.toThrow('ENOENT');
});

it('of another size are files with the same points, a folder for each class', async () => {
  const out = join(folder, 'files');
  await makeFaceFiles(out, 48, { count: 20, test: 10 });
  const before = await stat(join(out, 'train', FACE_CLASSES[0]!, '000000.png'));
  await makeFaceFiles(out, 48, { count: 20, test: 10 });
  expect((await stat(join(out, 'train', FACE_CLASSES[0]!, '000000.png'))).mtimeMs).toBe(before.mtimeMs);
  const data = await openDataset(out, { split: 'train', size: 48, channels: 3 });
  expect(data).toMatchObject({ count: 20, height: 48, width: 48, classes: 10 });
  const paint = await facePainter();
  for (let k = 0; k < 20; k++) {
    // Of each class in the order of names, the first face and the next of its kind.
    const i = FACE_CLASSES.indexOf(data.classNames![data.label(k)]!) + 10 * (k % 2);
    const [small, large] = [await paint('train', i), data.image(k)];
    const same = large.every((byte, at) => {
      const [y, x, c] = [Math.floor(at / 144), Math.floor((at % 144) / 3), at % 3];
      return byte === small[(2 * Math.floor(y / 3) * 32 + 2 * Math.floor(x / 3)) * 3 + c];
    });
    expect([i, same]).toEqual([i, true]);
  }
  await expect(makeFaceFiles(join(folder, 'no'), 40)).rejects.toThrow('faces of side 40');
});
