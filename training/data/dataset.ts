/**
 * What every data set looks like to training: labels, and pictures in memory or read as they are needed; and how bytes become
 * the model's numbers.
 */

import { UsageError } from '../../engine/errors.ts';
import type { LatentsOrigin } from '../../model/autoencoder/origin.ts';
import type { Spread } from '../../model/autoencoder/spread.ts';

/** A file that was left out, and why. */
export interface SkippedFile {
  file: string;
  reason: string;
}

/** What a model must fit: the size of the pictures and the number of their classes. */
export interface DataShape {
  readonly name: string;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly classes: number;
}

/** What is known of all pictures of a data set, wherever they lie. */
export interface LabelledData extends DataShape {
  readonly count: number;
  /** [classes] */
  readonly classNames?: readonly string[];
  /** Files that were expected or found but not used, by the names they have on disk; empty when all is well. */
  readonly skipped: readonly SkippedFile[];
  /** Class of picture i, in [0, classes). */
  label(i: number): number;
}

/** Labelled pictures of one size, held in memory as bytes. */
export interface Dataset extends LabelledData {
  /** Picture i as a view of height * width * channels bytes, rows of pixels of channels (HWC). Not to be written to. */
  image(i: number): Uint8Array;
}

/** Runs of neighbouring pictures that can only be read together, such as the row groups of a parquet file. */
export interface PictureGroups {
  /** Pictures of each group; group 0 has pictures 0, 1, ... */
  readonly sizes: ArrayLike<number>;
  /** Groups that are held, and mixed, at a time. */
  readonly together: number;
}

/** Which sample of training a picture is read for: of encoded latents every one is a draw of its own. */
export interface PictureDraw {
  /** Of the run; an integer in [0, 2^32). */
  readonly seed: number;
  /** The sample's position in the order of all epochs. */
  readonly position: number;
  /** Whether the mirrored picture is wanted. */
  readonly mirrored: boolean;
}

/** Reads the pictures of a `StreamedDataset`. */
export interface PictureReader {
  /**
   * Picture i, [height, width, channels]: bytes, or numbers as the model takes them. Of a paired set: noise, then picture, each of
   * that shape. Of encoded latents: the draw, or without one the mean. Several may be asked for at a time. @throws DataError naming the file
   */
  read(i: number, draw?: PictureDraw): Promise<Uint8Array | Float32Array>;
  /** Ends what is being read, workers included. */
  close(): Promise<void>;
}

/** Labelled pictures, or latents, that lie elsewhere and are read as they are needed. */
export interface StreamedDataset extends LabelledData {
  /** What is read: bytes 0 to 255, or numbers as the model takes them. */
  readonly elements: 'bytes' | 'numbers';
  /** Whether each picture x1 comes with the noise x0 that it is to be trained with (the reference's latent sets). */
  readonly paired: boolean;
  /** SHA-256 of what tells these files from others: names and sizes of pictures, or samples of them; hexadecimal. */
  readonly identity: string;
  readonly groups?: PictureGroups;
  /** Of numbers: whether the reader has each picture mirrored as well, encoded for itself. Default false. */
  readonly flips?: boolean;
  /** Of numbers: how far they spread, all or some of them together. */
  readonly spread?: Spread;
  /** Of encoded latents: the autoencoder that made them. */
  readonly latents?: LatentsOrigin;
  /** Starts to read; to be closed. */
  open(): PictureReader;
}

/** What training takes: pictures in memory or elsewhere. */
export type TrainingData = Dataset | StreamedDataset;

/** Whether the pictures are read as they are needed. */
export const isStreamed = (data: TrainingData): data is StreamedDataset => 'open' in data;

/** Whether each picture comes with the noise that it is to be trained with. */
export const isPaired = (data: TrainingData): boolean => isStreamed(data) && data.paired;

/** The autoencoder that made the latents; undefined for pictures, and for latents that do not say. */
export const latentsOrigin = (data: TrainingData): LatentsOrigin | undefined =>
  isStreamed(data) ? data.latents : undefined;

/** What `datasetOf` makes a data set of. */
export interface DatasetFields extends DataShape {
  /** [classes] */
  classNames?: readonly string[];
  skipped?: readonly SkippedFile[];
  /** [count, height, width, channels] */
  pixels: Uint8Array;
  /** [count] */
  labels: Uint8Array | Uint16Array;
}

/** Throws UsageError unless the fields agree with each other and with their types, which plain JavaScript may ignore. */
function checkFields({ name, classes, classNames, pixels, labels, ...sizes }: DatasetFields): void {
  const refuse = (problem: string): never => {
    throw new UsageError(`${name}: ${problem}`);
  };
  for (const field of ['height', 'width', 'channels'] as const) {
    const value = sizes[field];
    if (!(Number.isInteger(value) && value >= 1)) refuse(`${field} must be an integer, 1 or more, not ${value}`);
  }
  if (!(Number.isInteger(classes) && classes >= 1 && classes <= 65536)) {
    refuse(`classes must be an integer from 1 to 65536, not ${classes}`);
  }
  if (!(pixels instanceof Uint8Array)) refuse('pixels must be a Uint8Array of bytes 0 to 255');
  if (!(labels instanceof Uint8Array || labels instanceof Uint16Array)) {
    refuse('labels must be a Uint8Array or a Uint16Array');
  }
  if (labels.length === 0) refuse('there are no labels, so no pictures');
  const size = sizes.height * sizes.width * sizes.channels;
  if (pixels.length !== labels.length * size) {
    refuse(`${pixels.length} pixel bytes are not ${labels.length} pictures of ${size} bytes`);
  }
  const stranger = labels.findIndex((label) => label >= classes);
  if (stranger >= 0) {
    refuse(`picture ${stranger} has label ${labels[stranger]}; with ${classes} classes labels are 0 to ${classes - 1}`);
  }
  if (classNames === undefined) return;
  if (!Array.isArray(classNames) || !classNames.every((each) => typeof each === 'string')) {
    refuse('classNames must be an array of strings');
  }
  if (classNames.length !== classes) refuse(`${classNames.length} class names are given for ${classes} classes`);
}

/**
 * A Dataset over one array of pixels and one of labels, which are not copied.
 * @throws UsageError for lengths that do not agree, labels out of range, and sizes that are no sizes
 */
export function datasetOf(all: DatasetFields): Dataset {
  checkFields(all);
  const { pixels, labels, skipped = [], ...fields } = all;
  const size = fields.height * fields.width * fields.channels;
  const count = labels.length;
  const check = (i: number) => {
    if (!(Number.isInteger(i) && i >= 0 && i < count)) {
      throw new UsageError(`${fields.name} has pictures 0 to ${count - 1}, not ${i}`);
    }
    return i;
  };
  return {
    ...fields,
    count,
    skipped,
    image: (i) => pixels.subarray(check(i) * size, (i + 1) * size),
    label: (i) => labels[check(i)]!,
  };
}

/** Bytes 0..255 to float32 in [-1, 1]: x / 127.5 - 1. Writes bytes.length numbers to out from offset on. */
export function toUnit(bytes: Uint8Array, out: Float32Array, offset = 0): void {
  if (offset + bytes.length > out.length) {
    throw new UsageError(`${bytes.length} pixels at ${offset} do not fit into ${out.length} numbers`);
  }
  for (let i = 0; i < bytes.length; i++) out[offset + i] = bytes[i]! / 127.5 - 1;
}

/** The same for a picture mirrored left to right; bytes is [height, width, channels]. */
export function toUnitFlipped(bytes: Uint8Array, width: number, channels: number, out: Float32Array, offset = 0): void {
  toUnit(bytes, out, offset);
  const row = width * channels;
  for (let start = offset; start < offset + bytes.length; start += row) {
    for (let left = 0, right = width - 1; left < right; left++, right--) {
      for (let c = 0; c < channels; c++) {
        const a = start + left * channels + c;
        const b = start + right * channels + c;
        const kept = out[a]!;
        out[a] = out[b]!;
        out[b] = kept;
      }
    }
  }
}
