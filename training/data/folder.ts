/** Reads a folder of pictures with one sub-folder per class; a picture that cannot be decoded is skipped and named. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError } from '../../engine/errors.ts';
import { readRegular } from '../../formats/files.node.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';
import { createDecodePool } from './decode-pool.ts';
import {
  checkPictureOptions,
  type EncodedSet,
  isPicture,
  MOST_PICTURE,
  type PictureOptions,
  withoutColour,
} from './encoded.ts';
import { checkBytes, checkSize, failData, listFolder, mostBytes } from './reading.ts';
import { loadSharp } from './sharp.ts';
import { MissingPart } from './splits.ts';

const visible = (name: string) => !name.startsWith('.');

interface Listed {
  /** Undefined for one class that has no name. */
  readonly classNames?: readonly string[];
  readonly classes: number;
  readonly files: readonly { readonly file: string; readonly label: number }[];
}

/**
 * Class sub-folders by name in code-unit order (which fixes the labels), and their files in the same order; without any sub-folder the
 * pictures of the folder itself, as one class. `known`: the classes that there are, of which this folder may lack some.
 */
async function listPictures(folder: string, known?: readonly string[]): Promise<Listed> {
  const isFolder = async (name: string) =>
    (await stat(join(folder, name)).catch(() => undefined))?.isDirectory() === true;
  const names = (await listFolder(folder)).filter(visible).sort();
  const folders = await Promise.all(names.map(isFolder));
  const own = names.filter((_, k) => folders[k]);
  const classNames = known ?? own;
  if (own.length === 0 && known) {
    throw new MissingPart(`${folder}: no sub-folders say the classes, as they do in the part to train on`);
  }
  if (own.length === 0) {
    const files = names.filter(isPicture).map((name) => ({ file: join(folder, name), label: 0 }));
    if (files.length === 0) throw new DataError(`${folder}: neither sub-folders nor pictures in it`);
    return { classes: 1, files };
  }
  const files: { file: string; label: number }[] = [];
  for (const name of own) {
    const label = classNames.indexOf(name);
    if (label < 0) {
      throw new DataError(`${join(folder, name)} is a class that the part to train on does not have`, {
        hint: 'Name the sub-folders of both parts alike.',
      });
    }
    const inside = await listFolder(join(folder, name));
    for (const file of inside.filter(visible).sort()) files.push({ file: join(folder, name, file), label });
  }
  if (classNames.length > 65535) throw new DataError(`${folder}: ${classNames.length} classes are more than 65535`);
  if (files.length === 0) throw new DataError(`${folder}: no files in its ${classNames.length} sub-folders`);
  return { classNames, classes: classNames.length, files };
}

/**
 * Decodes every picture below folder/CLASS/ with sharp into memory. `known`: the classes, of which some may be missing. Bad files are listed in `skipped`. Throws
 * ConfigError (size, channels), DataError (no good picture), LimitError (more than maxBytes), UnsupportedError (no sharp),
 * InterruptedError.
 */
export async function readImageFolder(
  folder: string,
  options: PictureOptions = {},
  known?: readonly string[],
): Promise<Dataset> {
  const { channels: wanted, onShape, onProgress, signal } = options;
  const maxBytes = mostBytes(options);
  const { size, channels } = checkPictureOptions(options);
  const { classNames, classes, files } = await listPictures(folder, known);
  const bytes = size * size * channels;
  const what = `${folder}: ${files.length} pictures of ${size} x ${size} x ${channels}`;
  checkBytes(what, files.length * bytes, maxBytes, 'fewer or smaller');

  const name = basename(resolve(folder));
  options.onRecognised?.(recognised(classNames));
  onShape?.({ name, height: size, width: size, channels, classes });
  await loadSharp();
  const pool = createDecodePool(size, channels);
  // Not by name: sharp would wait for a pipe, and print warnings of its own.
  const decode = (file: string) => pool.decode(() => readRegular(file, { most: MOST_PICTURE, fail: failReason }), file);

  const pixels = new Uint8Array(files.length * bytes);
  const labels = new Uint16Array(files.length);
  const skipped: SkippedFile[] = [];
  let good = 0;
  // A few at a time keep sharp's threads busy; results are taken in order, so the data set is the same every time.
  const ahead = 32;
  try {
    for (let first = 0; first < files.length; first += ahead) {
      throwIfAborted(signal, `reading ${folder} was interrupted`);
      const group = files.slice(first, first + ahead);
      const results = await Promise.allSettled(group.map(({ file }) => decode(file)));
      for (const [k, result] of results.entries()) {
        const { file, label } = group[k]!;
        if (result.status === 'fulfilled') {
          pixels.set(result.value, good * bytes);
          labels[good++] = label;
        } else {
          const reason = firstLine(result.reason);
          skipped.push({ file, reason: reason.startsWith(`${file}: `) ? reason.slice(file.length + 2) : reason });
        }
        onProgress?.(first + k + 1, files.length);
      }
    }
  } finally {
    await pool.close();
  }
  if (good === 0) {
    const why = skipped.slice(0, 3).map(({ file, reason }) => `${basename(file)}: ${reason}`);
    throw new DataError(`${folder}: none of ${files.length} files is a readable picture (${why.join('; ')})`);
  }
  const seen = pixels.subarray(0, good * bytes);
  const grey = wanted === undefined ? withoutColour(seen) : undefined;
  return datasetOf({
    name,
    height: size,
    width: size,
    channels: grey ? 1 : channels,
    classes,
    classNames,
    skipped,
    pixels: grey ?? seen,
    labels: labels.subarray(0, good),
  });
}

function recognised(classNames: readonly string[] | undefined): string {
  if (!classNames) return 'a folder of pictures without sub-folders: one class';
  const classes =
    classNames.length === 1 ? 'one sub-folder: one class' : `${classNames.length} sub-folders: as many classes`;
  return `a folder of pictures, ${classes}`;
}

/** The same pictures where they lie, for sets that are not to be held in memory. A bad one is found when its turn comes. */
export async function indexFolder(
  folder: string,
  options: PictureOptions = {},
  known?: readonly string[],
): Promise<EncodedSet> {
  const { classNames, classes, files } = await listPictures(folder, known);
  options.onRecognised?.(recognised(classNames));
  const sizes = await fileSizes(
    files.map(({ file }) => file),
    folder,
    options,
  );
  const hash = createHash('sha256');
  for (const [i, { file, label }] of files.entries()) hash.update(`${label} ${sizes[i]} ${basename(file)}\n`);
  return {
    name: basename(resolve(folder)),
    count: files.length,
    labels: Uint16Array.from(files, ({ label }) => label),
    classes,
    classNames,
    skipped: [],
    identity: hash.digest('hex'),
    nameOf: (i) => files[i]!.file,
    openBytes: () => ({
      async bytes(i) {
        const { file } = files[i]!;
        const bytes = await readRegular(file, { most: MOST_PICTURE, fail: failData(file) });
        checkSize(file, bytes.length, sizes[i]!);
        return bytes;
      },
      close: async () => {},
    }),
  };
}

/** Files that are looked at at a time. */
const LOOKS = 64;

/** Bytes of each file; -1 of what cannot be looked at, which its reading names when its turn comes. @throws InterruptedError */
async function fileSizes(
  files: readonly string[],
  folder: string,
  { signal, onProgress }: PictureOptions,
): Promise<Float64Array> {
  const sizes = new Float64Array(files.length);
  const size = (file: string) =>
    stat(file)
      .then((info) => (info.isFile() ? info.size : -1))
      .catch(() => -1);
  for (let first = 0; first < files.length; first += LOOKS) {
    throwIfAborted(signal, `reading ${folder} was interrupted`);
    sizes.set(await Promise.all(files.slice(first, first + LOOKS).map(size)), first);
    onProgress?.(Math.min(files.length, first + LOOKS), files.length);
  }
  return sizes;
}

/** Bytes that the pictures of a folder take in memory. */
export async function folderBytes(folder: string, options: PictureOptions): Promise<number> {
  const { size, channels } = checkPictureOptions(options);
  return (await listPictures(folder)).files.length * size * size * channels;
}

const failReason = (problem: string, cause?: unknown): never => {
  throw new DataError(problem, { cause });
};

function firstLine(reason: unknown): string {
  return (reason instanceof Error ? reason.message : String(reason)).split('\n')[0]!;
}
