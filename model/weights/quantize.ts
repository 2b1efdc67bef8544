/**
 * How parameters are stored for inference: as they are (f32), as IEEE halves (f16), or the matrices that every token passes in a block
 * as signed bytes with one scale per output column (int8). Says what every parameter becomes, where it lies in its group's buffer to the byte, and converts.
 */
import { NonFiniteError } from '../../engine/errors.ts';
import { byteSize, type DType } from '../../engine/tensor.ts';
import { fromHalf, toHalf } from '../../formats/half.ts';
import { ALIGNMENT, type ParamGroup, type ParamSpec } from '../params.ts';

/** How weights may be stored on the GPU; anything but f32 is for inference. */
export const PRECISIONS = ['f32', 'f16', 'int8'] as const;
/** One of `PRECISIONS`. */
export type Precision = (typeof PRECISIONS)[number];

/** Values of a group of parameters at the layout's offsets: floats, or the bits of halves (what an F16 file holds). */
export type GroupValues = Float32Array | Uint16Array;

/** One parameter as it is stored, or some columns of a matrix that is too large for one binding. */
export interface StoredParam {
  readonly spec: ParamSpec;
  /** Of what is stored; the patch embedding's convolution kernel is a matrix to us. */
  readonly shape: readonly [number, ...number[]];
  readonly dtype: DType;
  /** The first of the parameter's columns that are stored. */
  readonly column: number;
  /** Which of the group's buffers it lies in, and bytes from that buffer's start. */
  readonly part: number;
  readonly offset: number;
}

export interface StoredGroup {
  readonly params: readonly StoredParam[];
  /** Bytes of each of the group's buffers, padding included. */
  readonly parts: readonly number[];
}

type Placed = Omit<StoredParam, 'part' | 'offset'>;

/**
 * Where the parameters of a group lie at a precision: one after another, in another buffer where one would grow beyond `largest` bytes (what
 * a binding may have). Biases are always f32; f16 packs every matrix and table. int8 packs the blocks themselves, while embedders,
 * modulations and head stay f16: they are few bytes (modulations can be computed ahead), but the velocity of a test network was
 * 1.7e-2 off with them in bytes, 0.4e-2 without.
 */
export function storedGroup(
  group: ParamGroup,
  precision: Precision,
  largest: number = Number.POSITIVE_INFINITY,
): StoredGroup {
  const matrices: DType = precision === 'int8' ? (/^block\d+$/.test(group.name) ? 'i8' : 'f16') : precision;
  const parts: number[] = [0];
  const params: StoredParam[] = [];
  for (const stored of group.specs.flatMap((spec) => pieces(spec, matrices, largest))) {
    const bytes = paddedBytes(stored);
    if (parts.at(-1)! > 0 && parts.at(-1)! + bytes > largest) parts.push(0);
    params.push({ ...stored, part: parts.length - 1, offset: parts.at(-1)! });
    parts[parts.length - 1]! += bytes;
  }
  return { params, parts };
}

const paddedBytes = (stored: Placed): number => Math.ceil(byteSize(stored) / (4 * ALIGNMENT)) * 4 * ALIGNMENT;

/** A parameter whole, or as the fewest equal blocks of its columns that fit; tables of rows, of which any may be looked up, stay whole. */
function pieces(spec: ParamSpec, matrices: DType, largest: number): Placed[] {
  const columns = spec.shape.at(-1)!;
  if (spec.shape.length === 1) return [{ spec, shape: [columns], dtype: 'f32', column: 0 }];
  const rows = spec.size / columns;
  const block = (column: number, width: number): Placed => ({ spec, shape: [rows, width], dtype: matrices, column });
  const whole = block(0, columns);
  if (paddedBytes(whole) <= largest || spec.name.endsWith('/embedding')) return [whole];
  // Whole vectors of four, so that results can be written as such.
  let width = columns;
  for (let count = 2; width > 4 && paddedBytes(block(0, width)) > largest; count++) {
    width = Math.ceil(columns / count / 4) * 4;
  }
  return Array.from({ length: Math.ceil(columns / width) }, (_, i) =>
    block(i * width, Math.min(width, columns - i * width)),
  );
}

export const toFloats = (values: GroupValues): Float32Array =>
  values instanceof Float32Array ? values : fromHalf(values);

/** The values that are stored, of all the group's. */
function valuesOf({ spec, shape, column }: Placed, group: GroupValues): GroupValues {
  const values = group.subarray(spec.offset, spec.offset + spec.size);
  const [rows, width] = shape;
  const columns = spec.shape.at(-1)!;
  if (width === undefined || width === columns) return values;
  const block = values.slice(0, rows * width);
  for (let r = 0; r < rows; r++) {
    const from = r * columns + column;
    block.set(values.subarray(from, from + width), r * width);
  }
  return block;
}

/**
 * The words that store one parameter of a group, or some of its columns.
 * @throws NonFiniteError for values that a half cannot hold, or that have no scale.
 */
export function pack(stored: Placed, group: GroupValues): Float32Array | Uint32Array {
  const { spec, dtype, shape } = stored;
  const values = valuesOf(stored, group);
  if (dtype === 'f32') return toFloats(values);
  if (dtype === 'i8') {
    const { bytes, scales } = quantizeColumns(toFloats(values), shape.at(-1)!);
    if (!scales.every(Number.isFinite)) throw unfit(spec, 'a value that is not finite');
    const start = Math.ceil(bytes.length / 4);
    const words = new Uint32Array(start + scales.length);
    new Int8Array(words.buffer).set(bytes);
    new Float32Array(words.buffer).set(scales, start);
    return words;
  }
  const words = new Uint32Array(Math.ceil(values.length / 2));
  const halves = new Uint16Array(words.buffer);
  halves.set(values instanceof Float32Array ? toHalf(values) : values);
  if (halves.some((h) => (h & 0x7c00) === 0x7c00)) throw unfit(spec, 'a value that is not finite or beyond 65504');
  return words;
}

const unfit = (spec: ParamSpec, what: string) =>
  new NonFiniteError(`${spec.name} has ${what} and cannot be packed`, { hint: 'use precision f32' });

/**
 * Symmetric quantisation of a matrix [rows, columns], column by column: scale = largest magnitude / 127, byte = value / scale
 * to the nearest integer. A column of zeros has scale 0.
 */
export function quantizeColumns(values: Float32Array, columns: number): { bytes: Int8Array; scales: Float32Array } {
  const scales = new Float32Array(columns);
  for (let i = 0; i < values.length; i += columns) {
    for (let n = 0; n < columns; n++) scales[n] = Math.max(scales[n]!, Math.abs(values[i + n]!));
  }
  for (let n = 0; n < columns; n++) scales[n]! /= 127;
  const bytes = new Int8Array(values.length);
  for (let i = 0; i < values.length; i += columns) {
    for (let n = 0; n < columns; n++) {
      const scale = scales[n]!;
      if (scale > 0) bytes[i + n] = Math.max(-127, Math.min(127, Math.round(values[i + n]! / scale)));
    }
  }
  return { bytes, scales };
}
