/** Opens a data set from a path alone: recognises what lies there and hands it to the right reader. */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { DataError } from '../../engine/errors.ts';
import { readCifar10 } from './cifar.ts';
import type { Dataset } from './dataset.ts';
import { type FolderOptions, readImageFolder } from './folder.ts';
import { readIdxDataset } from './idx.ts';
import { listFolder } from './reading.ts';

/** Part of a data set. */
export type Split = 'train' | 'test';

/** How a data set is opened. */
export interface OpenOptions extends FolderOptions {
  /** Which part to read. Default: the training part if it is there, else the test part. */
  split?: Split;
}

const FASHION_CLASSES = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];

const UNDERSTOOD = [
  'a folder with train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz] (test part: t10k-...)',
  'a folder with data_batch_1.bin ... data_batch_5.bin or test_batch.bin (CIFAR-10, binary version)',
  'a folder of pictures with one sub-folder per class',
].join('; or ');

/** The split asked for, or the first that is there; undefined if neither (or not the one asked for). */
function choose(asked: Split | undefined, has: (split: Split) => boolean): Split | undefined {
  return (asked ? [asked] : (['train', 'test'] as const)).find(has);
}

/** Whether a folder is there that can be reached. */
const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => undefined))?.isDirectory() === true;

/**
 * The data set at a path. size and channels concern folders of pictures only; such a folder has no splits, unless
 * its sub-folders are named train and test, which then hold the classes.
 * Throws DataError (nothing recognised, split missing, damaged files) and what the readers throw.
 */
export async function openDataset(path: string, options: OpenOptions = {}): Promise<Dataset> {
  const info = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const missing = cause.code === 'ENOENT' || cause.code === 'ENOTDIR';
    const problem = missing ? 'no such folder' : `cannot be read: ${cause.message}`;
    throw new DataError(`${path}: ${problem}`, { cause, hint: `Understood: ${UNDERSTOOD}.` });
  });
  if (!info.isDirectory()) {
    throw new DataError(`${path}: is a file, not a folder`, {
      hint: `Name the folder it is in. Understood: ${UNDERSTOOD}.`,
    });
  }
  const names = (await listFolder(path)).filter((name) => !name.startsWith('.'));
  const missing = (kind: string) =>
    new DataError(`${path}: ${kind} without its ${options.split} part (found ${found(names)})`);

  const idxName = (split: Split, what: 'images-idx3' | 'labels-idx1') => {
    const plain = `${split === 'train' ? 'train' : 't10k'}-${what}-ubyte`;
    return [plain, `${plain}.gz`].find((name) => names.includes(name));
  };
  if (idxName('train', 'images-idx3') ?? idxName('test', 'images-idx3')) {
    const split = choose(options.split, (s) => idxName(s, 'images-idx3') !== undefined);
    if (!split) throw missing('IDX files');
    const images = idxName(split, 'images-idx3')!;
    const labels = idxName(split, 'labels-idx1');
    if (!labels) throw new DataError(`${path}: ${images} without its labels (found ${found(names)})`);
    const folder = basename(resolve(path));
    const fashion = /fashion/i.test(folder);
    const name = `${fashion ? 'Fashion-MNIST' : folder} ${split}`;
    const classNames = fashion ? FASHION_CLASSES : undefined;
    return readIdxDataset(name, join(path, images), join(path, labels), { ...options, classNames });
  }

  const cifar = {
    train: names.some((name) => /^data_batch_[1-5]\.bin$/.test(name)),
    test: names.includes('test_batch.bin'),
  };
  if (cifar.train || cifar.test) {
    const split = choose(options.split, (s) => cifar[s]);
    if (!split) throw missing('CIFAR-10');
    return readCifar10(path, split, names, options);
  }

  const areFolders = await Promise.all(names.map((name) => isFolder(join(path, name))));
  const folders = names.filter((_, k) => areFolders[k]);
  if (folders.length === 0) {
    throw new DataError(`${path}: no data set recognised (found ${found(names)})`, {
      hint: `Understood: ${UNDERSTOOD}.`,
    });
  }
  if (folders.every((name) => name === 'train' || name === 'test')) {
    const split = choose(options.split, (s) => folders.includes(s));
    if (!split) throw missing('a folder of pictures');
    return readImageFolder(join(path, split), options);
  }
  if (options.split === 'test') throw missing('a folder of pictures');
  return readImageFolder(path, options);
}

function found(names: readonly string[]): string {
  if (names.length === 0) return 'nothing';
  return names.slice(0, 6).join(', ') + (names.length > 6 ? ` and ${names.length - 6} more` : '');
}
