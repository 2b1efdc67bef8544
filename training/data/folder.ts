/** Reads a folder of pictures with one sub-folder per class; a picture that cannot be decoded is skipped and named. */
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { ConfigError, DataError, InterruptedError, LimitError } from '../../engine/errors.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';

export interface FolderOptions {
  /** Side of the square that pictures are cropped (from the centre) and resized to. Default 64. */
  size?: number;
  /** 1: grey, 3: colour (sRGB). Default 3. Transparency is laid over white. */
  channels?: 1 | 3;
  /** Most bytes of decoded pictures to hold in memory. Default 4 GiB. */
  maxBytes?: number;
  /** Called after each picture. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

const visible = (name: string) => !name.startsWith('.');

/** Class sub-folders by name in code-unit order (which fixes the labels), and their files in the same order. */
async function listFiles(folder: string): Promise<{ classNames: string[]; files: { file: string; label: number }[] }> {
  const isFolder = async (name: string) =>
    (await stat(join(folder, name)).catch(() => undefined))?.isDirectory() === true;
  const names = (await readdir(folder)).filter(visible).sort();
  const folders = await Promise.all(names.map(isFolder));
  const classNames = names.filter((_, k) => folders[k]);
  const files: { file: string; label: number }[] = [];
  for (const [label, name] of classNames.entries()) {
    const inside = await readdir(join(folder, name));
    for (const file of inside.filter(visible).sort()) files.push({ file: join(folder, name, file), label });
  }
  return { classNames, files };
}

/**
 * Decodes every picture below folder/CLASS/ with sharp into memory. Bad files are listed in `skipped`. Throws
 * ConfigError (size, channels), DataError (no good picture), LimitError (more than maxBytes), InterruptedError.
 */
export async function readImageFolder(folder: string, options: FolderOptions = {}): Promise<Dataset> {
  const { size = 64, channels = 3, maxBytes = 4 * 2 ** 30, onProgress, signal } = options;
  if (!(Number.isInteger(size) && size > 0 && size <= 4096)) {
    throw new ConfigError(`picture size must be an integer from 1 to 4096, not ${size}`);
  }
  if (channels !== 1 && channels !== 3) throw new ConfigError(`pictures have 1 or 3 channels, not ${channels}`);
  const { classNames, files } = await listFiles(folder);
  if (classNames.length > 65535) throw new DataError(`${folder}: ${classNames.length} classes are more than 65535`);
  const bytes = size * size * channels;
  if (files.length * bytes > maxBytes) {
    throw new LimitError(
      `${folder}: ${files.length} pictures of ${size} x ${size} x ${channels} need ${files.length * bytes} bytes`,
      { asked: files.length * bytes, available: maxBytes },
      { hint: 'Choose a smaller size, or raise maxBytes.' },
    );
  }

  const { default: sharp } = await import('sharp');
  const decode = async (file: string) => {
    const upright = sharp(file, { failOn: 'error' }).rotate().flatten({ background: 'white' });
    const cropped = upright.resize(size, size, { fit: 'cover', position: 'centre' });
    const { data, info } = await cropped
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== channels) throw new Error(`decoded to ${info.channels} channels`);
    return data;
  };

  const pixels = new Uint8Array(files.length * bytes);
  const labels = new Uint16Array(files.length);
  const skipped: SkippedFile[] = [];
  let good = 0;
  // A few at a time keep sharp's threads busy; results are taken in order, so the data set is the same every time.
  const ahead = 8;
  for (let first = 0; first < files.length; first += ahead) {
    if (signal?.aborted) throw new InterruptedError(`reading ${folder} was interrupted`);
    const group = files.slice(first, first + ahead);
    const results = await Promise.allSettled(group.map(({ file }) => decode(file)));
    for (const [k, result] of results.entries()) {
      const { file, label } = group[k]!;
      if (result.status === 'fulfilled') {
        pixels.set(result.value, good * bytes);
        labels[good++] = label;
      } else {
        skipped.push({ file, reason: firstLine(result.reason) });
      }
      onProgress?.(first + k + 1, files.length);
    }
  }
  if (good === 0) {
    const why = skipped.slice(0, 3).map(({ file, reason }) => `${basename(file)}: ${reason}`);
    throw new DataError(`${folder}: none of ${files.length} files is a readable picture (${why.join('; ')})`);
  }
  return datasetOf({
    name: basename(resolve(folder)),
    height: size,
    width: size,
    channels,
    classes: classNames.length,
    classNames,
    skipped,
    pixels: pixels.subarray(0, good * bytes),
    labels: labels.subarray(0, good),
  });
}

function firstLine(reason: unknown): string {
  return (reason instanceof Error ? reason.message : String(reason)).split('\n')[0]!;
}
