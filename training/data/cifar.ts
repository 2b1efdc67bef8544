/** Reads CIFAR-10 in its official binary layout: data_batch_1..5.bin or test_batch.bin, and batches.meta.txt. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DataError } from '../../engine/errors.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';

const SIDE = 32;
const PIXELS = SIDE * SIDE;
/** A record is its label, then the red, the green and the blue plane, each row by row. */
const RECORD = 1 + 3 * PIXELS;
const NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];

function classNames(folder: string): string[] {
  const file = join(folder, 'batches.meta.txt');
  if (!existsSync(file)) return NAMES;
  const names = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (names.length !== 10) throw new DataError(`${file}: ${names.length} class names, where CIFAR-10 has 10`);
  return names;
}

/** The training or test split in a folder; batches that are not there are listed as skipped. Throws DataError. */
export function readCifar10(folder: string, split: 'train' | 'test'): Dataset {
  const wanted = split === 'test' ? ['test_batch.bin'] : [1, 2, 3, 4, 5].map((k) => `data_batch_${k}.bin`);
  const present = wanted.filter((file) => existsSync(join(folder, file)));
  if (present.length === 0) throw new DataError(`${folder}: none of ${wanted.join(', ')}`);
  const skipped: SkippedFile[] = wanted
    .filter((file) => !present.includes(file))
    .map((file) => ({ file: join(folder, file), reason: 'missing' }));

  // All sizes are checked before anything of that size is allocated.
  const counts = present.map((name) => {
    const file = join(folder, name);
    const { size } = statSync(file);
    if (size === 0 || size % RECORD !== 0) {
      throw new DataError(`${file}: ${size} bytes are not whole records of ${RECORD}`, {
        hint: 'The file is cut short, or is not the binary version of CIFAR-10.',
      });
    }
    return size / RECORD;
  });
  const count = counts.reduce((sum, n) => sum + n, 0);
  const pixels = new Uint8Array(count * 3 * PIXELS);
  const labels = new Uint8Array(count);
  let row = 0;
  present.forEach((name, k) => {
    const file = join(folder, name);
    const records = readFileSync(file);
    for (let i = 0; i < counts[k]!; i++, row++) {
      const start = i * RECORD;
      const label = records[start]!;
      if (label > 9) throw new DataError(`${file}: record ${i} has label ${label}, where CIFAR-10 has 0 to 9`);
      labels[row] = label;
      for (let p = 0; p < PIXELS; p++) {
        for (let c = 0; c < 3; c++) pixels[(row * PIXELS + p) * 3 + c] = records[start + 1 + c * PIXELS + p]!;
      }
    }
  });
  return datasetOf({
    name: `CIFAR-10 ${split}`,
    height: SIDE,
    width: SIDE,
    channels: 3,
    classes: 10,
    classNames: classNames(folder),
    skipped,
    pixels,
    labels,
  });
}
