/**
 * Reads CIFAR-10 and CIFAR-100 in their official binary layouts: data_batch_1..5.bin or test_batch.bin, and batches.meta.txt;
 * train.bin or test.bin, and fine_label_names.txt, coarse_label_names.txt.
 */
import { join } from 'node:path';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError } from '../../engine/errors.ts';
import { openRegular, type RegularFile, readRegular } from '../../formats/files.node.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';
import { checkBytes, failData, mostBytes, type ReadOptions } from './reading.ts';

const SIDE = 32;
const PIXELS = SIDE * SIDE;
/** Records that are read at a time. */
const CHUNK = 1000;
const CIFAR10 = {
  title: 'CIFAR-10',
  files: { train: [1, 2, 3, 4, 5].map((k) => `data_batch_${k}.bin`), test: ['test_batch.bin'] },
  /** Bytes of labels before the red, the green and the blue plane, each row by row; and which of them is taken. */
  labelBytes: 1,
  label: 0,
  classes: 10,
  names: 'batches.meta.txt',
  otherwise: ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'],
};
const CIFAR100 = { ...CIFAR10, title: 'CIFAR-100', files: { train: ['train.bin'], test: ['test.bin'] }, labelBytes: 2 };

/** How the two sets differ, and what is taken of CIFAR-100: its 100 fine classes, or the 20 coarse ones. */
export const CIFAR = {
  10: CIFAR10,
  fine: { ...CIFAR100, label: 1, classes: 100, names: 'fine_label_names.txt', otherwise: undefined },
  coarse: { ...CIFAR100, label: 0, classes: 20, names: 'coarse_label_names.txt', otherwise: undefined },
} as const;

type Variant = (typeof CIFAR)[keyof typeof CIFAR];

async function classNames(
  folder: string,
  found: readonly string[],
  { title, classes, names: meta, otherwise }: Variant,
): Promise<readonly string[] | undefined> {
  if (!found.includes(meta)) return otherwise;
  const file = join(folder, meta);
  const bytes = await readRegular(file, { most: 65536, fail: failData(file) });
  const names = new TextDecoder()
    .decode(bytes)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (names.length !== classes) {
    throw new DataError(`${file}: ${names.length} class names, where ${title} has ${classes}`);
  }
  return names;
}

/** A batch's file, open, with the number of its records. */
interface Batch {
  /** Its path. */
  readonly name: string;
  readonly file: RegularFile;
  readonly count: number;
}

async function openBatch(name: string, title: string, record: number): Promise<Batch> {
  const file = await openRegular(name, failData(name));
  if (file.size === 0 || file.size % record !== 0) {
    await file.close();
    throw new DataError(`${name}: ${file.size} bytes are not whole records of ${record}`, {
      hint: `The file is cut short, or is not the binary version of ${title}.`,
    });
  }
  return { name, file, count: file.size / record };
}

/**
 * The training or test split in a folder that holds files of the names `found`; batches that are not there are listed as skipped.
 * @throws DataError, LimitError (more than maxBytes), InterruptedError
 */
export async function readCifar(
  folder: string,
  split: 'train' | 'test',
  found: readonly string[],
  variant: Variant,
  options: ReadOptions = {},
): Promise<Dataset> {
  const { onShape, onProgress, signal } = options;
  const { title, labelBytes, classes } = variant;
  const record = labelBytes + 3 * PIXELS;
  const maxBytes = mostBytes(options);
  const wanted = variant.files[split];
  const present = wanted.filter((file) => found.includes(file));
  if (present.length === 0) throw new DataError(`${folder}: none of ${wanted.join(', ')}`);
  const skipped: SkippedFile[] = wanted
    .filter((file) => !present.includes(file))
    .map((file) => ({ file: join(folder, file), reason: 'missing' }));
  const fields = { name: `${title} ${split}`, height: SIDE, width: SIDE, channels: 3, classes };
  const names = await classNames(folder, found, variant);
  options.onRecognised?.(`${title}, binary version${title === 'CIFAR-100' ? `: its ${classes} classes` : ''}`);

  const batches: Batch[] = [];
  try {
    // All sizes are checked before anything of that size is allocated.
    for (const name of present) batches.push(await openBatch(join(folder, name), title, record));
    const count = batches.reduce((sum, batch) => sum + batch.count, 0);
    const bytes = count * 3 * PIXELS;
    checkBytes(`${folder}: ${count} pictures of ${SIDE} x ${SIDE} x 3`, bytes, maxBytes);
    onShape?.(fields);
    const pixels = new Uint8Array(bytes);
    const labels = new Uint8Array(count);
    let row = 0;
    for (const { name, file, count: own } of batches) {
      for (let first = 0; first < own; first += CHUNK) {
        throwIfAborted(signal, `reading ${name} was interrupted`);
        const last = Math.min(first + CHUNK, own);
        const records = await file.read(first * record, last * record);
        for (let i = first; i < last; i++, row++) {
          const start = (i - first) * record;
          const label = records[start + variant.label]!;
          if (label >= classes) {
            throw new DataError(`${name}: record ${i} has label ${label}, where ${title} has 0 to ${classes - 1}`);
          }
          labels[row] = label;
          for (let p = 0; p < PIXELS; p++) {
            for (let c = 0; c < 3; c++)
              pixels[(row * PIXELS + p) * 3 + c] = records[start + labelBytes + c * PIXELS + p]!;
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
