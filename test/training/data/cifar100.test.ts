/** CIFAR-100: its fine and coarse labels, and files that are none. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { DataError } from '../../../engine/errors.ts';
import { openDataset } from '../../../training/data/open.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-cifar100-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function folder(files: Record<string, Uint8Array | string>): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
  return path;
}

/** A record: coarse label, fine label, planes of `value`, `value + 1`, `value + 2`. */
const record = (coarse: number, fine: number, value: number) =>
  Buffer.concat([Buffer.of(coarse, fine), ...[0, 1, 2].map((c) => Buffer.alloc(1024, value + c))]);
const lines = (n: number) => Array.from({ length: n }, (_, i) => `name ${i}`).join('\n');
const train = Buffer.concat([record(19, 99, 10), record(0, 42, 20)]);

describe('CIFAR-100', () => {
  it('reads fine labels, or coarse ones, with their names', async () => {
    const path = folder({
      'train.bin': train,
      'test.bin': record(3, 4, 5),
      'fine_label_names.txt': lines(100),
      'coarse_label_names.txt': lines(20),
    });
    const said: string[] = [];
    const fine = await openDataset(path, { onRecognised: (what) => said.push(what) });
    expect(fine).toMatchObject({ name: 'CIFAR-100 train', count: 2, classes: 100, channels: 3, height: 32 });
    expect([fine.label(0), fine.label(1), fine.classNames![42]]).toEqual([99, 42, 'name 42']);
    expect(Array.from(fine.image(1).subarray(0, 6))).toEqual([20, 21, 22, 20, 21, 22]);
    const coarse = await openDataset(path, { cifar100: 'coarse' });
    expect([coarse.classes, coarse.label(0), coarse.label(1), coarse.classNames!.length]).toEqual([20, 19, 0, 20]);
    expect(await openDataset(path, { split: 'test' })).toMatchObject({ count: 1, name: 'CIFAR-100 test' });
    expect(said).toEqual(['CIFAR-100, binary version: its 100 classes']);
  });

  it.each<[string, Record<string, Uint8Array | string>, RegExp]>([
    ['cut short', { 'train.bin': train.subarray(0, 6000) }, /train\.bin: 6000 bytes are not whole records of 3074/],
    ['empty', { 'train.bin': '' }, /0 bytes are not whole records/],
    ['a label too large', { 'train.bin': record(0, 100, 0) }, /record 0 has label 100, where CIFAR-100 has 0 to 99/],
    ['names of another number', { 'train.bin': train, 'fine_label_names.txt': lines(10) }, /10 class names/],
  ])('refuses %s', async (_, files, message) => {
    const error = await openDataset(folder(files)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as DataError).message).toMatch(message);
  });
});
