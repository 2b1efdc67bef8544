/** Reads CIFAR-10 in its official binary layout: data_batch_1..5.bin or test_batch.bin, and batches.meta.txt. */
import { join } from 'node:path';
import { DataError, InterruptedError } from '../../engine/errors.ts';
import { openRegular, type RegularFile, readRegular } from '../../formats/files.node.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';
import { checkBytes, failData, mostBytes, type ReadOptions } from './reading.ts';

const SIDE = 32;
const PIXELS = SIDE * SIDE;
/** A record is its label, then the red, the green and the blue plane, each row by row. */
const RECORD = 1 + 3 * PIXELS;
/** Records that are read at a time. */
const CHUNK = 1000;
const NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'];
const META = 'batches.meta.txt';

async function classNames(folder: string, found: readonly string[]): Promise<string[]> {
  if (!found.includes(META)) return NAMES;
  const file = join(folder, META);
  const bytes = await readRegular(file, { most: 65536, fail: failData(file) });
  const names = new TextDecoder()
    .decode(bytes)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (names.length !== 10) throw new DataError(`${file}: ${names.length} class names, where CIFAR-10 has 10`);
  return names;
}

/** A batch's file, open, with the number of its records. */
interface Batch {
  /** Its path. */
  readonly name: string;
  readonly file: RegularFile;
  readonly count: number;
}

async function openBatch(name: string): Promise<Batch> {
  const file = await openRegular(name, failData(name));
  if (file.size === 0 || file.size % RECORD !== 0) {
    await file.close();
    throw new DataError(`${name}: ${file.size} bytes are not whole records of ${RECORD}`, {
      hint: 'The file is cut short, or is not the binary version of CIFAR-10.',
    });
  }
  return { name, file, count: file.size / RECORD };
}

/**
 * The training or test split in a folder that holds files of the names `found`; batches that are not there are listed as skipped.
 * @throws DataError, LimitError (more than maxBytes), InterruptedError
 */
export async function readCifar10(
  folder: string,
  split: 'train' | 'test',
  found: readonly string[],
  options: ReadOptions = {},
): Promise<Dataset> {
  const { onShape, onProgress, signal } = options;
  const maxBytes = mostBytes(options);
  const wanted = split === 'test' ? ['test_batch.bin'] : [1, 2, 3, 4, 5].map((k) => `data_batch_${k}.bin`);
  const present = wanted.filter((file) => found.includes(file));
  if (present.length === 0) throw new DataError(`${folder}: none of ${wanted.join(', ')}`);
  const skipped: SkippedFile[] = wanted
    .filter((file) => !present.includes(file))
    .map((file) => ({ file: join(folder, file), reason: 'missing' }));
  const fields = { name: `CIFAR-10 ${split}`, height: SIDE, width: SIDE, channels: 3, classes: 10 };
  const names = await classNames(folder, found);

  const batches: Batch[] = [];
  try {
    // All sizes are checked before anything of that size is allocated.
    for (const name of present) batches.push(await openBatch(join(folder, name)));
    const count = batches.reduce((sum, batch) => sum + batch.count, 0);
    const bytes = count * 3 * PIXELS;
    checkBytes(`${folder}: ${count} pictures of ${SIDE} x ${SIDE} x 3`, bytes, maxBytes);
    onShape?.(fields);
    const pixels = new Uint8Array(bytes);
    const labels = new Uint8Array(count);
    let row = 0;
    for (const { name, file, count: own } of batches) {
      for (let first = 0; first < own; first += CHUNK) {
        if (signal?.aborted) throw new InterruptedError(`reading ${name} was interrupted`);
        const last = Math.min(first + CHUNK, own);
        const records = await file.read(first * RECORD, last * RECORD);
        for (let i = first; i < last; i++, row++) {
          const start = (i - first) * RECORD;
          const label = records[start]!;
          if (label > 9) throw new DataError(`${name}: record ${i} has label ${label}, where CIFAR-10 has 0 to 9`);
          labels[row] = label;
          for (let p = 0; p < PIXELS; p++) {
            for (let c = 0; c < 3; c++) pixels[(row * PIXELS + p) * 3 + c] = records[start + 1 + c * PIXELS + p]!;
          }
        }
        onProgress?.(row, count);
      }
    }
    return datasetOf({ ...fields, classNames: names, skipped, pixels, labels });
  } finally {
    for (const { file } of batches) await file.close();
  }
}
