/** Data sets of numbers in memory: points, latents, anything that is no picture of bytes. */
import { ConfigError, UnsupportedError, UsageError } from '../engine/errors.ts';
import { hasSha256, sha256 } from '../formats/bytes.ts';
import type { DataShape, StreamedDataset } from './data/dataset.ts';

/** What `numbersOf` makes a data set of. A point of n numbers is a "picture" of 1 x 1 x n. */
export interface NumberFields extends DataShape {
  /** [classes] */
  readonly classNames?: readonly string[];
  /** [count, height, width, channels], as the model takes them: about -1 to 1. */
  readonly values: Float32Array;
  /** [count]; each below `classes`. */
  readonly labels: Uint8Array | Uint16Array;
}

/**
 * A data set over one array of numbers and one of labels, which are not copied.
 * @throws UsageError for arrays that do not agree, ConfigError for numbers that are not finite, UnsupportedError without SHA-256.
 */
export async function numbersOf({ values, labels, ...fields }: NumberFields): Promise<StreamedDataset> {
  const { name, height, width, channels, classes } = fields;
  const size = height * width * channels;
  const count = labels.length;
  if (!(values instanceof Float32Array)) throw new UsageError(`${name}: values must be a Float32Array`);
  if (!(count > 0 && Number.isInteger(size) && size > 0 && values.length === count * size)) {
    throw new UsageError(`${name}: ${values.length} numbers are not ${count} of ${height} x ${width} x ${channels}`);
  }
  const stranger = labels.findIndex((label) => label >= classes);
  if (stranger >= 0) throw new UsageError(`${name}: number ${stranger} has label ${labels[stranger]} of ${classes}`);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new ConfigError(`${name}: value ${bad} is ${values[bad]}; training needs finite numbers`);
  if (!hasSha256()) {
    throw new UnsupportedError('numbers cannot be told apart: this page has no crypto.subtle', {
      hint: 'serve it over https, or open it from localhost; WebGPU needs that, too',
    });
  }
  const bytes = new Uint8Array(values.slice().buffer);
  return {
    ...fields,
    count,
    skipped: [],
    elements: 'numbers',
    paired: false,
    identity: await sha256(bytes),
    label: (i) => labels[i]!,
    open: () => ({
      read: async (i) => values.subarray(i * size, (i + 1) * size),
      close: async () => {},
    }),
  };
}
