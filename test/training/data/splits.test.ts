/** Parts of data sets by the names that other programs give them: what is trained on, what stands for the test part, what is left out. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataError } from '../../../engine/errors.ts';
import type { Dataset } from '../../../training/data/dataset.ts';
import { openDataset, openParts, openTrainingData, type Split } from '../../../training/data/open.ts';
import { areParts, namesOfPart, partInName, partNamed } from '../../../training/data/splits.ts';
import { npy, tar } from '../../support/archives.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-splits-'));
afterAll(() => rmSync(scratch, { recursive: true }));

type Files = Record<string, Uint8Array | string>;
function folder(files: Files): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content);
  }
  return path;
}

/** Pictures that are told apart by their grey. */
let pngs: Uint8Array[];
beforeAll(async () => {
  const plain = (grey: number) =>
    sharp({ create: { width: 2, height: 2, channels: 3, background: { r: grey, g: grey, b: grey } } })
      .png()
      .toBuffer();
  pngs = await Promise.all(Array.from({ length: 5 }, async (_, k) => Uint8Array.from(await plain(10 * k))));
});
/** The first bytes of all pictures, tens: which of `pngs` they are. */
const which = (data: Dataset) => Array.from({ length: data.count }, (_, i) => data.image(i)[0]! / 10);
const read = async (path: string, split?: Split) => {
  const said: string[] = [];
  const data = await openDataset(path, { size: 2, split, onRecognised: (what) => said.push(what) });
  return { data, found: which(data), said };
};
const shard = (...which: number[]) =>
  tar(which.flatMap((k) => [[`${k}.png`, pngs[k]!] as const, [`${k}.cls`, `${k}`] as const]));
const parquet = (which: readonly number[], labels: readonly number[] = which) => {
  const columnData = [
    { name: 'image', data: which.map((k) => pngs[k]!), type: 'BYTE_ARRAY' as const },
    { name: 'label', data: [...labels], type: 'INT32' as const },
  ];
  return new Uint8Array(parquetWriteBuffer({ columnData }));
};

describe('names', () => {
  it.each([
    ['train-00000-of-00010.parquet', 'train'],
    ['imagenet1k-train-0000.tar', 'train'],
    ['Training_0.tar', 'train'],
    ['imagenet1k-validation-00.tar', 'validation'],
    ['ILSVRC2012_img_val.tar', 'validation'],
    ['val2017.tar', 'validation'],
    ['cc3m-test-0000.tar', 'test'],
    ['constructor-0.tar', undefined],
    ['trains-of-europe.tar', undefined],
    ['000000.tar', undefined],
  ])('%s is of part %s', (name, part) => {
    expect(partInName(name)).toBe(part);
  });

  it('of folders are parts as a whole, and only where they are beside each other', () => {
    expect(['train', 'VAL', 'bullet train', 'test tube', 'valley'].map(partNamed)).toEqual([
      ...['train', 'validation'],
      ...[undefined, undefined, undefined],
    ]);
    expect(areParts(['train', 'val', 'annotations'])).toBe(true);
    // Classes, of which one is a train.
    expect(areParts(['bicycle', 'bus', 'train'])).toBe(false);
    expect(areParts(['train'])).toBe(true);
    expect(areParts([])).toBe(false);
  });

  it('that say nothing are trained on where no other is', () => {
    const names = ['b.tar', 'a.tar', 'x-val.tar', 'x-test.tar'];
    expect(namesOfPart(names, partInName, 'train')).toEqual([['a.tar', 'b.tar']]);
    expect(namesOfPart(names, partInName, 'test')).toEqual([['x-test.tar'], ['x-val.tar']]);
    expect(namesOfPart([...names, 'train.tar'], partInName, 'train')).toEqual([['train.tar']]);
    expect(namesOfPart(['a.tar'], partInName, 'test')).toEqual([]);
    expect(namesOfPart(['x-val.tar'], partInName, undefined)).toEqual([['x-val.tar']]);
  });
});

describe('shards', () => {
  it('for validation are not trained on, are the test part, and are named', async () => {
    const path = folder({
      'imagenet1k-train-0000.tar': shard(0, 1),
      'imagenet1k-train-0001.tar': shard(2),
      'imagenet1k-validation-00.tar': shard(3, 4),
    });
    const { found, said } = await read(path);
    expect(found).toEqual([0, 1, 2]);
    expect(said).toEqual(['WebDataset: 2 tar shards, labels in .cls or .json; left out: imagenet1k-validation-00.tar']);
    expect((await read(path, 'test')).found).toEqual([3, 4]);
    const { train, test } = await openParts(path, { size: 2 });
    expect([train!.count, test!.count]).toEqual([3, 2]);
  });

  it('for tests come before those for validation', async () => {
    const path = folder({ 'a-val.tar': shard(3), 'a-test.tar': shard(4), 'a-0.tar': shard(0) });
    expect((await read(path)).found).toEqual([0]);
    const { found, said } = await read(path, 'test');
    expect(found).toEqual([4]);
    expect(said[0]).toMatch(/; left out: a-0\.tar, a-val\.tar$/);
  });

  it('are one .npz of a part', async () => {
    const { zipSync } = await import('fflate');
    const npz = (value: number) => zipSync({ 'images.npy': npy('|u1', [1, 2, 2], new Uint8Array(4).fill(10 * value)) });
    const path = folder({ 'x_train.npz': npz(1), 'x_test.npz': npz(2) });
    expect((await read(path)).found).toEqual([1]);
    expect((await read(path, 'test')).found).toEqual([2]);
  });
});

describe('labels that are kept secret', () => {
  const files = () => ({
    'data/train-00000-of-00001.parquet': parquet([0, 1]),
    'data/test-00000-of-00001.parquet': parquet([2, 3], [-1, -1]),
  });

  it('leave the test part to what is for validation', async () => {
    const path = folder({ ...files(), 'data/validation-00000-of-00001.parquet': parquet([4]) });
    const { train, test } = await openParts(path, { size: 2 });
    expect([which(train!), which(test!)]).toEqual([[0, 1], [4]]);
    const { found, said } = await read(path, 'test');
    expect(found).toEqual([4]);
    expect(said[0]).toMatch(/left out: test-00000-of-00001\.parquet, train-.*\(.*test-.*: every label is -1/);
  });

  it('are no part where nothing else is', async () => {
    const path = folder(files());
    const { train, test } = await openParts(path, { size: 2 });
    expect([which(train!), test]).toEqual([[0, 1], undefined]);
    await expect(openDataset(path, { split: 'test' })).rejects.toThrow(/test-.*\.parquet: every label is -1/);
  });

  it('are not all labels', async () => {
    const path = folder({ 'test.parquet': parquet([2, 3], [-1, 0]) });
    await expect(openDataset(path)).rejects.toThrow(/row 0 of row group 0: label -1 is no integer/);
  });
});

describe('folders', () => {
  it("train and val hold the classes, as torchvision's do", async () => {
    const path = folder({
      'train/cat/1.png': pngs[0]!,
      'train/dog/2.png': pngs[1]!,
      'val/cat/3.png': pngs[2]!,
      'val/dog/4.png': pngs[3]!,
      'annotations/boxes.txt': 'x',
    });
    const { data, found, said } = await read(path);
    expect([data.classNames, found]).toEqual([
      ['cat', 'dog'],
      [0, 1],
    ]);
    expect(said).toEqual(['a folder of pictures, 2 sub-folders: as many classes; left out: annotations, val']);
    expect((await read(path, 'test')).found).toEqual([2, 3]);
  });

  it('share the labels of the part that is trained on, of which another may lack some', async () => {
    const path = folder({
      ...{ 'train/ant/1.png': pngs[0]!, 'train/bee/1.png': pngs[1]!, 'train/cow/1.png': pngs[2]! },
      ...{ 'val/ant/1.png': pngs[3]!, 'val/cow/1.png': pngs[4]! },
    });
    for (const streamed of [false, true]) {
      const data = await openTrainingData(path, { size: 2, split: 'test', streamed });
      expect([data.classes, data.classNames, data.label(0), data.label(1)]).toEqual([3, ['ant', 'bee', 'cow'], 0, 2]);
    }
    mkdirSync(join(path, 'val', 'dog'));
    await expect(openDataset(path, { split: 'test' })).rejects.toThrow(
      `${join(path, 'val', 'dog')} is a class that the part to train on does not have`,
    );
    expect((await read(path)).found).toEqual([0, 1, 2]);
  });

  it('whose classes nobody says are no part beside some that have them', async () => {
    const path = folder({ 'train/ant/1.png': pngs[0]!, 'val/1.png': pngs[1]! });
    const { train, test } = await openParts(path, { size: 2 });
    expect([which(train!), test]).toEqual([[0], undefined]);
    await expect(openDataset(path, { split: 'test' })).rejects.toThrow(/val: no sub-folders say the classes/);
  });

  it('without classes are one, and no part is a class', async () => {
    const path = folder({
      'train/1.png': pngs[0]!,
      'train/2.png': pngs[1]!,
      'val/3.png': pngs[2]!,
      'train/a.txt': 'x',
    });
    const { data, found, said } = await read(path);
    expect([data.classes, data.classNames, found, data.skipped]).toEqual([1, undefined, [0, 1], []]);
    expect(said).toEqual(['a folder of pictures without sub-folders: one class; left out: val']);
    expect((await read(path, 'test')).found).toEqual([2]);
    expect((await read(join(path, 'train'))).found).toEqual([0, 1]);
    await expect(openDataset(folder({ 'train/a.txt': 'x' }))).rejects.toThrow(/no data set recognised \(found a\.txt/);
  });

  it('of which one class is called train stay classes', async () => {
    const { data } = await read(folder({ 'bus/1.png': pngs[0]!, 'train/2.png': pngs[1]! }));
    expect(data.classNames).toEqual(['bus', 'train']);
  });

  it('may hold anything that is a data set', async () => {
    const path = folder({ 'train/a.tar': shard(0, 1), 'test/b.tar': shard(2) });
    const { train, test } = await openParts(path, { size: 2 });
    expect([which(train!), which(test!)]).toEqual([[0, 1], [2]]);
  });

  it("are looked into where the Hub's parquet files are in them", async () => {
    const files = { 'train-00000-of-00001.parquet': parquet([0, 1]), 'test-00000-of-00001.parquet': parquet([2]) };
    const below = (name: string) =>
      Object.fromEntries(Object.entries(files).map(([file, b]) => [`${name}/${file}`, b]));
    const plain = folder({ ...below('plain_text'), 'README.md': 'x' });
    expect([(await read(plain)).found, (await read(plain, 'test')).found]).toEqual([[0, 1], [2]]);
    const converted = folder({ 'default/train/0000.parquet': parquet([3]), 'default/test/0000.parquet': parquet([4]) });
    expect([(await read(converted)).found, (await read(converted, 'test')).found]).toEqual([[3], [4]]);
    const two = folder({ ...below('plain_text'), ...below('cropped') });
    const error = await openDataset(two).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect(error).toMatchObject({
      message: `${two}: parquet files are in its folders cropped, plain_text`,
      hint: 'Give one of these folders.',
    });
  });
});
