/**
 * How parameters are stored for inference: as they are (f32), as IEEE halves (f16), or the matrices that every token passes in a block
 * as signed bytes with one scale per output column (int8). Says what every parameter becomes, where it lies in its group's buffer to the byte, and converts.
 */
import { NonFiniteError } from '../engine/errors.ts';
import { byteSize, type DType } from '../engine/tensor.ts';
import { fromHalf, toHalf } from './half.ts';
import { ALIGNMENT, type ParamGroup, type ParamSpec } from './params.ts';

export const PRECISIONS = ['f32', 'f16', 'int8'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Values of a group of parameters at the layout's offsets: floats, or the bits of halves (what an F16 file holds). */
export type GroupValues = Float32Array | Uint16Array;

/** One parameter as it is stored; `offset` in bytes from the start of its group's buffer. */
export interface StoredParam {
  readonly spec: ParamSpec;
  /** The spec's, but the patch embedding's convolution kernel is a matrix to us. */
  readonly shape: readonly [number, ...number[]];
  readonly dtype: DType;
  readonly offset: number;
}

export interface StoredGroup {
  readonly params: readonly StoredParam[];
  /** Bytes of the group's buffer, padding included. */
  readonly bytes: number;
}

/**
 * Where the parameters of a group lie at a precision. Biases are always f32; f16 packs every matrix and table. int8 packs the blocks
 * themselves, while embedders, modulations and head stay f16: they are few bytes (modulations can be computed ahead), but the
 * velocity of a test network was 1.7e-2 off with them in bytes, 0.4e-2 without.
 */
export function storedGroup(group: ParamGroup, precision: Precision): StoredGroup {
  const matrices: DType = precision === 'int8' ? (/^block\d+$/.test(group.name) ? 'i8' : 'f16') : precision;
  let bytes = 0;
  const params = group.specs.map((spec): StoredParam => {
    const columns = spec.shape.at(-1)!;
    const shape: readonly [number, ...number[]] = spec.shape.length > 1 ? [spec.size / columns, columns] : [spec.size];
    const dtype = shape.length > 1 ? matrices : 'f32';
    const offset = bytes;
    bytes += Math.ceil(byteSize({ shape, dtype }) / (4 * ALIGNMENT)) * 4 * ALIGNMENT;
    return { spec, shape, dtype, offset };
  });
  return { params, bytes };
}

export const toFloats = (values: GroupValues): Float32Array =>
  values instanceof Float32Array ? values : fromHalf(values);

/**
 * The words that store one parameter of a group.
 * @throws NonFiniteError for values that a half cannot hold, or that have no scale.
 */
export function pack(spec: ParamSpec, dtype: DType, group: GroupValues): Float32Array | Uint32Array {
  const values = group.subarray(spec.offset, spec.offset + spec.size);
  if (dtype === 'f32') return toFloats(values);
  if (dtype === 'i8') {
    const { bytes, scales } = quantizeColumns(toFloats(values), spec.shape.at(-1)!);
    if (!scales.every(Number.isFinite)) throw unfit(spec, 'a value that is not finite');
    const start = Math.ceil(bytes.length / 4);
    const words = new Uint32Array(start + scales.length);
    new Int8Array(words.buffer).set(bytes);
    new Float32Array(words.buffer).set(scales, start);
    return words;
  }
  const words = new Uint32Array(Math.ceil(spec.size / 2));
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
