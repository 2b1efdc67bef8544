/** What every data set looks like to training: bytes in memory, labels, and how bytes become the model's numbers. */
import { UsageError } from '../../engine/errors.ts';

/** A file that was left out, and why. */
export interface SkippedFile {
  file: string;
  reason: string;
}

/** Labelled pictures of one size, held in memory as bytes. */
export interface Dataset {
  readonly name: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly classes: number;
  readonly classNames?: readonly string[];
  /** Files that were expected or found but not used; empty when all is well. */
  readonly skipped: readonly SkippedFile[];
  /** Picture i as a view of height * width * channels bytes, rows of pixels of channels (HWC). Not to be written to. */
  image(i: number): Uint8Array;
  /** Class of picture i, in [0, classes). */
  label(i: number): number;
}

export interface DatasetFields {
  name: string;
  height: number;
  width: number;
  channels: number;
  classes: number;
  classNames?: readonly string[];
  skipped?: readonly SkippedFile[];
  /** [count, height, width, channels] */
  pixels: Uint8Array;
  /** [count] */
  labels: Uint8Array | Uint16Array;
}

/** A Dataset over one array of pixels and one of labels. */
export function datasetOf({ pixels, labels, skipped = [], ...fields }: DatasetFields): Dataset {
  const size = fields.height * fields.width * fields.channels;
  const count = labels.length;
  if (pixels.length !== count * size) {
    throw new UsageError(`${fields.name}: ${pixels.length} pixel bytes are not ${count} pictures of ${size} bytes`);
  }
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
