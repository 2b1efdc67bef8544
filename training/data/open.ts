/** Opens a data set from a path alone: recognises what lies there by names and first bytes, and hands it to the right reader. */
import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { DataError } from '../../engine/errors.ts';
import { openRegular } from '../../formats/files.node.ts';
import { isNpy, isZip } from '../../formats/npy.ts';
import { isTar, TAR_BLOCK } from '../../formats/tar.ts';
import { FASHION_CLASSES } from '../fashion-classes.ts';
import { PICTURE_ARRAYS, readNpyFile, readNpzFile } from './arrays.ts';
import { CIFAR, readCifar } from './cifar.ts';
import { type Dataset, isStreamed, type TrainingData } from './dataset.ts';
import { decodeSet, isPicture, type PictureOptions } from './encoded.ts';
import { folderBytes, indexFolder, readImageFolder } from './folder.ts';
import { readIdxDataset } from './idx.ts';
import { LATENTS_INDEX, openLatents } from './latents.ts';
import { indexParquet } from './parquet.ts';
import { failData, listFolder, mostBytes } from './reading.ts';
import { areParts, MissingPart, namesOfPart, partInName, partNamed, type Split } from './splits.ts';
import { indexTar } from './tar.ts';

export type { Split } from './splits.ts';

/** How a data set is opened. */
export interface OpenOptions extends PictureOptions {
  /**
   * Which part to read, where names tell parts: that to train on, or that to test with, which is the one for validation where there is no
   * other with labels. Default: the first of these that is there.
   */
  split?: Split;
  /** Of CIFAR-100, the 100 fine classes or the 20 coarse ones. Default fine. */
  cifar100?: 'fine' | 'coarse';
}

const UNDERSTOOD = [
  'a folder with train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz] (test part: t10k-...)',
  'a folder with data_batch_1.bin ... data_batch_5.bin or test_batch.bin (CIFAR-10, binary version)',
  'a folder with train.bin or test.bin (CIFAR-100, binary version)',
  'tar shards (WebDataset), parquet files with pictures, NumPy arrays (.npy, .npz), or a folder of them',
  'a folder of latents that odelt encode wrote',
  'a folder of pictures with one sub-folder per class, or of one class without sub-folders',
].join('; or ');

/** The split asked for, or the first that is there; undefined if neither (or not the one asked for). */
function choose(asked: Split | undefined, has: (split: Split) => boolean): Split | undefined {
  return (asked ? [asked] : (['train', 'test'] as const)).find(has);
}

/** Whether a folder is there that can be reached. */
const isFolder = async (path: string): Promise<boolean> =>
  (await stat(path).catch(() => undefined))?.isDirectory() === true;

/**
 * The data set at a path, in memory. size and channels concern encoded pictures (folders, tar, parquet) only; a folder of pictures has
 * no splits, unless its sub-folders are named so (train, test, val, ...), and then hold the classes.
 * Throws DataError (nothing recognised, split missing, damaged files, numbers instead of bytes) and what the readers throw.
 */
export async function openDataset(path: string, options: OpenOptions = {}): Promise<Dataset> {
  const data = await open(path, options, true);
  if (!isStreamed(data)) return data;
  throw new DataError(`${path}: holds numbers, or does not fit into memory`, {
    hint: 'Open it with openTrainingData.',
  });
}

/** The parts of a data set that are there, at least one. Data that know no parts are the training part. */
export interface DataParts<Data extends TrainingData = Dataset> {
  readonly train?: Data;
  readonly test?: Data;
}

/** Both parts of the data set at a path, in memory, as far as they are there. Throws what `openDataset` throws. */
export const openParts = (path: string, options: Omit<OpenOptions, 'split'> = {}): Promise<DataParts> =>
  partsBy((split) => openDataset(path, { ...options, ...split }));

/** The same for training: pictures that do not fit into memory are read as they are needed. Throws what `openTrainingData` throws. */
export const openTrainingParts = (
  path: string,
  options: Omit<OpenOptions, 'split'> = {},
): Promise<DataParts<TrainingData>> => partsBy((split) => openTrainingData(path, { ...options, ...split }));

async function partsBy<Data extends TrainingData>(
  open: (split: { readonly split?: Split }) => Promise<Data>,
): Promise<DataParts<Data>> {
  const part = async (split: Split) => {
    try {
      return await open({ split });
    } catch (error) {
      if (error instanceof MissingPart) return undefined;
      throw error;
    }
  };
  const train = await part('train');
  const test = await part('test');
  // Where there is no part at all: says so.
  if (!train && !test) return { train: await open({}) };
  // Single files are the same whatever part is asked for.
  return train && test && samePictures(train, test) ? { train } : { train, test };
}

function samePictures(a: TrainingData, b: TrainingData): boolean {
  if (a.count !== b.count) return false;
  if (isStreamed(a) || isStreamed(b)) return isStreamed(a) && isStreamed(b) && a.identity === b.identity;
  return Array.from({ length: a.count }, (_, i) => i).every((i) =>
    a.image(i).every((byte, p) => byte === b.image(i)[p]),
  );
}

/**
 * The data set at a path for training: in memory if its pictures fit into `maxBytes`, else read as they are needed, as are arrays of
 * floats. Throws what `openDataset` throws, but no LimitError where pictures can be read as they are needed.
 */
export const openTrainingData = (path: string, options: OpenOptions = {}): Promise<TrainingData> =>
  open(path, options, false);

/** A file by its first bytes. `files` are it and its fellows, of one format. */
async function openFile(
  path: string,
  files: readonly string[],
  options: OpenOptions,
  whole: boolean,
): Promise<TrainingData> {
  const file = await openRegular(path, failData(path));
  const start = await file.read(0, Math.min(TAR_BLOCK, file.size)).finally(file.close);
  const name = files.length > 1 ? basename(dirname(resolve(path))) : basename(path, extname(path));
  if (isNpy(start)) return readNpyFile(path, await listFolder(dirname(path)), options);
  if (isZip(start)) return readNpzFile(path, options);
  if (new TextDecoder('latin1').decode(start.subarray(0, 4)) === 'PAR1') {
    return decodeSet(await indexParquet(name, files, options), { ...options, whole });
  }
  if (isTar(start) || (path.endsWith('.tar') && files.length > 1)) {
    return decodeSet(await indexTar(name, files, options), { ...options, whole });
  }
  const what = file.size === 0 ? 'is empty' : 'is neither a tar, parquet, .npy nor .npz file';
  throw new DataError(`${path}: ${what}`, { hint: `Understood: ${UNDERSTOOD}.` });
}

/**
 * Opens the part that is asked for of files or folders whose names tell parts, at most `most` of them together; what is left out is said.
 * @throws MissingPart
 */
async function openPart(
  path: string,
  names: readonly string[],
  options: OpenOptions,
  openOwn: (own: readonly string[], options: OpenOptions) => Promise<TrainingData>,
  { partOf = partInName, most = Number.POSITIVE_INFINITY } = {},
): Promise<TrainingData> {
  let unusable: MissingPart | undefined;
  for (const all of namesOfPart(names, partOf, options.split)) {
    const own = all.slice(0, most);
    const taken = new Set(own);
    const rest = names.filter((name) => !taken.has(name)).sort();
    const why = unusable ? ` (${unusable.message})` : '';
    const onRecognised = (what: string) =>
      options.onRecognised?.(rest.length === 0 ? what : `${what}; left out: ${found(rest)}${why}`);
    try {
      return await openOwn(own, { ...options, onRecognised });
    } catch (error) {
      if (!(error instanceof MissingPart)) throw error;
      unusable ??= error;
    }
  }
  throw unusable ?? new MissingPart(`${path}: no ${options.split} part (found ${found(names)})`);
}

/** Shards of one format in a folder. */
const openShards = (folder: string, names: readonly string[], options: OpenOptions, whole: boolean, most?: number) =>
  openPart(
    folder,
    names,
    options,
    (own, rest) => {
      const paths = own.map((name) => join(folder, name));
      return openFile(paths[0]!, paths, rest, whole);
    },
    { most },
  );

/** More sub-folders than this are classes. */
const MOST_CONFIGURATIONS = 32;

/** Sub-folders that hold parquet files, or parts of them: the Hub has one for each configuration of a data set. */
async function configurations(path: string, folders: readonly string[]): Promise<string[]> {
  if (folders.length > MOST_CONFIGURATIONS) return [];
  const holdParquet = async (folder: string): Promise<boolean> => {
    const names = await listFolder(folder);
    if (names.some((name) => name.endsWith('.parquet'))) return true;
    const parts = names.filter((name) => partNamed(name) !== undefined).map((name) => join(folder, name));
    for (const part of parts) {
      if ((await isFolder(part)) && (await listFolder(part)).some((name) => name.endsWith('.parquet'))) return true;
    }
    return false;
  };
  const hold = await Promise.all(folders.map((name) => holdParquet(join(path, name))));
  return folders.filter((_, k) => hold[k]);
}

/** Folders in that of the part to train on: labels are the same in all parts, even where one lacks a class. */
async function trainedClasses(path: string, folders: readonly string[]): Promise<string[] | undefined> {
  const [train] = namesOfPart(folders, partNamed, 'train');
  if (!train) return undefined;
  const own = join(path, train[0]!);
  const names = (await listFolder(own)).filter((name) => !name.startsWith('.')).sort();
  const areFolders = await Promise.all(names.map((name) => isFolder(join(own, name))));
  const classes = names.filter((_, k) => areFolders[k]);
  return classes.length > 0 ? classes : undefined;
}

/** `classes`: those of a folder of pictures, where another part has them. */
async function open(
  path: string,
  options: OpenOptions,
  whole: boolean,
  classes?: readonly string[],
): Promise<TrainingData> {
  const info = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const missing = cause.code === 'ENOENT' || cause.code === 'ENOTDIR';
    const problem = missing ? 'no such file or folder' : `cannot be read: ${cause.message}`;
    throw new DataError(`${path}: ${problem}`, { cause, hint: `Understood: ${UNDERSTOOD}.` });
  });
  if (!info.isDirectory()) return openFile(path, [path], options, whole);
  const names = (await listFolder(path)).filter((name) => !name.startsWith('.'));
  if (names.includes(LATENTS_INDEX)) return openLatents(path, options);
  const missing = (kind: string) =>
    new MissingPart(`${path}: ${kind} without its ${options.split} part (found ${found(names)})`);

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
    options.onRecognised?.(`IDX files: ${images} and ${labels}`);
    return readIdxDataset(name, join(path, images), join(path, labels), { ...options, classNames });
  }

  const cifar = {
    train: names.some((name) => /^data_batch_[1-5]\.bin$/.test(name)),
    test: names.includes('test_batch.bin'),
  };
  if (cifar.train || cifar.test) {
    const split = choose(options.split, (s) => cifar[s]);
    if (!split) throw missing('CIFAR-10');
    return readCifar(path, split, names, CIFAR[10], options);
  }
  if (names.includes('train.bin') || names.includes('test.bin')) {
    const split = choose(options.split, (s) => names.includes(`${s}.bin`));
    if (!split) throw missing('CIFAR-100');
    return readCifar(path, split, names, CIFAR[options.cifar100 ?? 'fine'], options);
  }

  for (const ending of ['.tar', '.parquet']) {
    const shards = names.filter((name) => name.endsWith(ending));
    if (shards.length > 0) return openShards(path, shards, options, whole);
  }
  const array = [...PICTURE_ARRAYS, 'x1'].find((name) => names.includes(`${name}.npy`));
  if (array) return openFile(join(path, `${array}.npy`), [], options, whole);
  const zips = names.filter((name) => name.endsWith('.npz'));
  if (zips.length > 0) return openShards(path, zips, options, whole, 1);

  const areFolders = await Promise.all(names.map((name) => isFolder(join(path, name))));
  const folders = names.filter((_, k) => areFolders[k]);
  if (areParts(folders)) {
    const openOwn = async ([own]: readonly string[], rest: OpenOptions) =>
      open(join(path, own!), { ...rest, split: undefined }, whole, await trainedClasses(path, folders));
    return openPart(path, folders, options, openOwn, { partOf: partNamed, most: 1 });
  }
  const hub = await configurations(path, folders);
  const configuration = hub.find((name, _, { length }) => name === 'data' || length === 1);
  if (configuration) return open(join(path, configuration), options, whole);
  if (hub.length > 0) {
    throw new DataError(`${path}: parquet files are in its folders ${found(hub.sort())}`, {
      hint: 'Give one of these folders.',
    });
  }
  if (folders.length === 0 && !names.some(isPicture)) {
    throw new DataError(`${path}: no data set recognised (found ${found(names)})`, {
      hint: `Understood: ${UNDERSTOOD}.`,
    });
  }
  if (options.split === 'test') throw missing('a folder of pictures');
  return openPictures(path, options, whole, classes);
}

async function openPictures(
  folder: string,
  options: OpenOptions,
  whole: boolean,
  classes?: readonly string[],
): Promise<TrainingData> {
  if (whole || (!options.streamed && (await folderBytes(folder, options)) <= mostBytes(options)))
    return readImageFolder(folder, options, classes);
  return decodeSet(await indexFolder(folder, options, classes), options);
}

function found(names: readonly string[]): string {
  if (names.length === 0) return 'nothing';
  return names.slice(0, 6).join(', ') + (names.length > 6 ? ` and ${names.length - 6} more` : '');
}
