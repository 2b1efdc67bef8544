/** Reads a folder of pictures with one sub-folder per class; a picture that cannot be decoded is skipped and named. */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { ConfigError, DataError, InterruptedError } from '../../engine/errors.ts';
import { readRegular } from '../../formats/files.node.ts';
import { type Dataset, datasetOf, type SkippedFile } from './dataset.ts';
import { checkBytes, listFolder, mostBytes, type ReadOptions } from './reading.ts';
import { loadSharp } from './sharp.ts';

/** How a folder of pictures is read. */
export interface FolderOptions extends ReadOptions {
  /** Side of the square that pictures are cropped (from the centre) and resized to. Default 64. */
  size?: number;
  /** 1: grey, 3: colour (sRGB). Default: 3, or 1 where every picture is grey. Transparency is laid over white. */
  channels?: 1 | 3;
}

/** Largest file that is taken for a picture, in bytes. */
const MOST_PICTURE = 2 ** 28;

const visible = (name: string) => !name.startsWith('.');

/** Class sub-folders by name in code-unit order (which fixes the labels), and their files in the same order. */
async function listFiles(folder: string): Promise<{ classNames: string[]; files: { file: string; label: number }[] }> {
  const isFolder = async (name: string) =>
    (await stat(join(folder, name)).catch(() => undefined))?.isDirectory() === true;
  const names = (await listFolder(folder)).filter(visible).sort();
  const folders = await Promise.all(names.map(isFolder));
  const classNames = names.filter((_, k) => folders[k]);
  const files: { file: string; label: number }[] = [];
  for (const [label, name] of classNames.entries()) {
    const inside = await listFolder(join(folder, name));
    for (const file of inside.filter(visible).sort()) files.push({ file: join(folder, name, file), label });
  }
  return { classNames, files };
}

/**
 * Decodes every picture below folder/CLASS/ with sharp into memory. Bad files are listed in `skipped`. Throws
 * ConfigError (size, channels), DataError (no good picture), LimitError (more than maxBytes), UnsupportedError (no sharp),
 * InterruptedError.
 */
export async function readImageFolder(folder: string, options: FolderOptions = {}): Promise<Dataset> {
  const { size = 64, channels: wanted, onShape, onProgress, signal } = options;
  const maxBytes = mostBytes(options);
  const channels = wanted ?? 3;
  if (!(Number.isInteger(size) && size > 0 && size <= 4096)) {
    throw new ConfigError(`picture size must be an integer from 1 to 4096, not ${size}`);
  }
  if (channels !== 1 && channels !== 3) throw new ConfigError(`pictures have 1 or 3 channels, not ${channels}`);
  const { classNames, files } = await listFiles(folder);
  if (classNames.length > 65535) throw new DataError(`${folder}: ${classNames.length} classes are more than 65535`);
  if (files.length === 0) throw new DataError(`${folder}: no files in its ${classNames.length} sub-folders`);
  const bytes = size * size * channels;
  const what = `${folder}: ${files.length} pictures of ${size} x ${size} x ${channels}`;
  checkBytes(what, files.length * bytes, maxBytes, 'fewer or smaller');

  const name = basename(resolve(folder));
  onShape?.({ name, height: size, width: size, channels, classes: classNames.length });
  const sharp = await loadSharp();
  const decode = async (file: string) => {
    // Not by name: sharp would wait for a pipe, and print warnings of its own.
    const packed = await readRegular(file, { most: MOST_PICTURE, fail: failReason });
    const upright = sharp(packed, { failOn: 'error' }).rotate().flatten({ background: 'white' });
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
  const seen = pixels.subarray(0, good * bytes);
  const grey = wanted === undefined && isGrey(seen);
  return datasetOf({
    name,
    height: size,
    width: size,
    channels: grey ? 1 : channels,
    classes: classNames.length,
    classNames,
    skipped,
    pixels: grey ? everyThird(seen) : seen,
    labels: labels.subarray(0, good),
  });
}

const failReason = (problem: string, cause?: unknown): never => {
  throw new DataError(problem, { cause });
};

/** Whether red, green and blue are equal in every pixel. */
function isGrey(pixels: Uint8Array): boolean {
  for (let i = 0; i < pixels.length; i += 3) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}

const everyThird = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(bytes.length / 3);
  for (let i = 0; i < out.length; i++) out[i] = bytes[3 * i]!;
  return out;
};

function firstLine(reason: unknown): string {
  return (reason instanceof Error ? reason.message : String(reason)).split('\n')[0]!;
}
