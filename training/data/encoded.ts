/**
 * Sets of encoded pictures (PNG, JPEG, ...) whose places and labels are known: decoded into memory where all fit, else as training
 * needs them.
 */
import { throwIfAborted } from '../../engine/abort.ts';
import { ConfigError } from '../../engine/errors.ts';
import { type Dataset, datasetOf, type PictureGroups, type SkippedFile, type StreamedDataset } from './dataset.ts';
import { createDecodePool, type DecodePool } from './decode-pool.ts';
import { checkBytes, mostBytes, type ReadOptions } from './reading.ts';

/** How encoded pictures become pixels. */
export interface PictureOptions extends ReadOptions {
  /** Side of the square that pictures are cropped (from the centre) and resized to. Default 64. */
  size?: number;
  /** 1: grey, 3: colour (sRGB). Default: 3, or 1 where every picture is grey and all are in memory. Transparency is laid over white. */
  channels?: 1 | 3;
  /** Read pictures as they are needed, although they would fit into memory. Default false. */
  streamed?: boolean;
}

/** Whether a file's name, or its ending, is that of an encoded picture. */
export const isPicture = (name: string): boolean => /(^|\.)(jpe?g|png|webp|gif|tiff?|avif)$/.test(name.toLowerCase());

/** Largest file that is taken for a picture, in bytes. */
export const MOST_PICTURE = 2 ** 28;

/** Where encoded pictures lie, and what is known of them. */
export interface EncodedSet {
  readonly name: string;
  readonly count: number;
  readonly labels: Uint16Array;
  readonly classes: number;
  readonly classNames?: readonly string[];
  readonly skipped: readonly SkippedFile[];
  readonly identity: string;
  readonly groups?: PictureGroups;
  /** What errors call picture i. */
  nameOf(i: number): string;
  /** Starts to read; bytes are given away. */
  openBytes(pool: DecodePool): { bytes(i: number): Promise<Uint8Array<ArrayBuffer>>; close(): Promise<void> };
}

/** Size and channels as they were given, or their defaults. @throws ConfigError */
export function checkPictureOptions({ size = 64, channels = 3 }: PictureOptions): { size: number; channels: 1 | 3 } {
  if (!(Number.isInteger(size) && size > 0 && size <= 4096)) {
    throw new ConfigError(`picture size must be an integer from 1 to 4096, not ${size}`);
  }
  if (channels !== 1 && channels !== 3) throw new ConfigError(`pictures have 1 or 3 channels, not ${channels}`);
  return { size, channels };
}

function openPictures(set: EncodedSet, size: number, channels: 1 | 3) {
  const pool = createDecodePool(size, channels);
  const source = set.openBytes(pool);
  return {
    read: (i: number) => pool.decode(() => source.bytes(i), set.nameOf(i)),
    async close() {
      await pool.close();
      await source.close();
    },
  };
}

/** The set in memory if it fits into `maxBytes`, else read as it is needed. `whole`: in memory, or a LimitError. */
export async function decodeSet(
  set: EncodedSet,
  options: PictureOptions & { whole?: boolean },
): Promise<Dataset | StreamedDataset> {
  const { size, channels } = checkPictureOptions(options);
  const bytes = set.count * size * size * channels;
  const most = mostBytes(options);
  if (options.whole) {
    checkBytes(
      `${set.name}: ${set.count} pictures of ${size} x ${size} x ${channels}`,
      bytes,
      most,
      'fewer or smaller',
    );
  }
  const { name, count, classes, classNames, skipped, labels } = set;
  const shape = { name, height: size, width: size, channels, classes };
  options.onShape?.(shape);
  if (bytes > most || (options.streamed && !options.whole)) {
    const { identity, groups } = set;
    return {
      ...{ ...shape, count, classNames, skipped, identity, groups },
      elements: 'bytes',
      paired: false,
      label: (i) => labels[i]!,
      open: () => openPictures(set, size, channels),
    };
  }
  const pixels = new Uint8Array(bytes);
  const reader = openPictures(set, size, channels);
  try {
    const ahead: Promise<Uint8Array>[] = [];
    for (let i = 0; i < count; i++) {
      throwIfAborted(options.signal, `reading ${name} was interrupted`);
      for (let next = i + ahead.length; next < count && ahead.length < 64; next++) {
        const picture = reader.read(next);
        picture.catch(() => {}); // told when its turn has come
        ahead.push(picture);
      }
      pixels.set(await ahead.shift()!, i * size * size * channels);
      options.onProgress?.(i + 1, count);
    }
  } finally {
    await reader.close();
  }
  const seen = options.channels === undefined ? withoutColour(pixels) : undefined;
  return datasetOf({ ...shape, channels: seen ? 1 : channels, classNames, skipped, pixels: seen ?? pixels, labels });
}

/** One channel of three where red, green and blue are equal in every pixel; undefined where they are not. */
export function withoutColour(pixels: Uint8Array): Uint8Array | undefined {
  for (let i = 0; i < pixels.length; i += 3) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return undefined;
  }
  const out = new Uint8Array(pixels.length / 3);
  for (let i = 0; i < out.length; i++) out[i] = pixels[3 * i]!;
  return out;
}
