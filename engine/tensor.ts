/**
 * Tensors: a shape over a piece of storage. Storage gets its place (buffer and offset) at once when it is persistent,
 * and from the planner when it belongs to a recording. Only the first dimension may be symbolic: it counts the valid
 * leading rows, and memory is reserved for its maximum.
 */
import { UsageError } from './errors.ts';
import { maxOf, nameOf, type Scalar, times } from './scalar.ts';

/**
 * Types of elements. 'f16' (weights, activations) and 'i8' (weights) are for inference and packed into words of 32 bits, low bits first:
 * two IEEE halves, or four signed bytes; a matrix [K, N] of 'i8' ends with N scales (f32, from the next whole word): element
 * [k, n] is byte * scale[n].
 */
export const DTYPES = ['f32', 'u32', 'i32', 'f16', 'i8'] as const;
/** One of `DTYPES`. */
export type DType = (typeof DTYPES)[number];

/** Memory behind tensors, wherever it lies. */
export interface Storage {
  readonly label: string;
  readonly bytes: number;
  /** Planned storage has none until its program is compiled. */
  place: { buffer: GPUBuffer; offset: number } | null;
}

/** A shape and an element type over a piece of storage. Several tensors may share one. */
export interface Tensor {
  readonly label: string;
  readonly shape: readonly [Scalar, ...number[]];
  readonly dtype: DType;
  readonly storage: Storage;
  /** Elements from the start of the storage to the first element, and from one row to the next (columns of a matrix). */
  readonly view: { readonly offset: number; readonly stride: number } | null;
}

/** Sizes of the dimensions, outermost first; only the first may be symbolic. */
export type Shape = Tensor['shape'];

/** Whether a value is a tensor: no other object has a storage. */
export const isTensor = (value: unknown): value is Tensor =>
  typeof value === 'object' && value !== null && 'storage' in value && 'dtype' in value;

/** Elements in one row: the product of all dimensions but the first. */
export const rowSize = (t: Pick<Tensor, 'shape'>): number =>
  t.shape.slice(1).reduce<number>((n, d) => n * (d as number), 1);

/** Number of elements, symbolic when the first dimension is. */
export const sizeOf = (t: Pick<Tensor, 'shape'>): Scalar => times(t.shape[0], rowSize(t));

/** Largest number of elements. */
export const maxSize = (t: Pick<Tensor, 'shape'>): number => maxOf(t.shape[0]) * rowSize(t);

export const isPacked = (t: Pick<Tensor, 'dtype'>): boolean => t.dtype === 'f16' || t.dtype === 'i8';

/** Largest number of bytes, whole words. */
export function byteSize(t: Pick<Tensor, 'shape' | 'dtype'>): number {
  const n = maxSize(t);
  if (t.dtype === 'f16') return Math.ceil(n / 2) * 4;
  if (t.dtype === 'i8') return (Math.ceil(n / 4) + lastDim(t)) * 4;
  return n * 4;
}

/** Bytes to reserve: an empty tensor is bound as well, perhaps as one vector of four. */
export const storageBytes = (t: Pick<Tensor, 'shape' | 'dtype'>): number => byteSize(t) || 16;

/** A shape for messages, such as [rows, 64]. */
export const shapeText = (t: Pick<Tensor, 'shape'>): string => `[${t.shape.map((d) => nameOf(d)).join(', ')}]`;

/** Size of the last dimension. */
export const lastDim = (t: Pick<Tensor, 'shape'>): number => {
  const last = t.shape[t.shape.length - 1]!;
  if (typeof last !== 'number') throw new UsageError(`a one-dimensional symbolic tensor has no last dimension`);
  return last;
};

/** Checks what a tensor is to be, as callers without types may ask for anything. @throws UsageError */
export function checkTensor(label: string, shape: Shape, dtype: DType): void {
  if (typeof label !== 'string') throw new UsageError(`a tensor's label is ${String(label)}, not a string`);
  if (!Array.isArray(shape) || shape.length === 0) {
    throw new UsageError(`tensor '${label}' has ${Array.isArray(shape) ? 'an empty shape' : 'no array as its shape'}`, {
      hint: 'give at least one dimension; a single number is [1]',
    });
  }
  if (!DTYPES.includes(dtype)) {
    throw new UsageError(`tensor '${label}' is to hold '${dtype}'; it must be one of ${DTYPES.join(', ')}`);
  }
  shape.forEach((d: unknown, i) => {
    // Only rows may be symbolic.
    const n = i === 0 && typeof d === 'object' && d !== null ? maxOf(d as Scalar) : d;
    if (!(Number.isInteger(n) && (n as number) >= 0)) {
      throw new UsageError(`tensor '${label}' has a dimension of ${String(n)}`);
    }
  });
  const size = maxSize({ shape });
  if (!Number.isSafeInteger(size))
    throw new UsageError(`tensor '${label}' ${shapeText({ shape })} has ${size} elements`);
}

export function tensor(label: string, shape: Shape, dtype: DType, storage: Storage): Tensor {
  checkTensor(label, shape, dtype);
  const t: Tensor = { label, shape, dtype, storage, view: null };
  if (byteSize(t) > storage.bytes) {
    throw new UsageError(`tensor '${label}' ${shapeText(t)} does not fit its ${storage.bytes} bytes of storage`);
  }
  return t;
}

/** The same elements under another shape; the storage is shared. */
export function reshaped(t: Tensor, shape: Shape): Tensor {
  const next: Tensor = { ...t, shape };
  if (t.view || t.dtype === 'i8' || maxSize(next) > maxSize(t)) {
    throw new UsageError(`cannot view '${t.label}' ${shapeText(t)} as ${shapeText(next)}`);
  }
  return next;
}

/**
 * Elements first .. end - 1 of a flat tensor of words that has its place, as a tensor of their own; where it is bound, `first` must be a
 * multiple of 64. @throws UsageError
 */
export function range(t: Tensor, first: number, end: number): Tensor {
  if (t.view || isPacked(t) || t.shape.length > 1 || !(0 <= first && first <= end && end <= maxSize(t))) {
    throw new UsageError(`cannot take elements ${first}..${end} of '${t.label}' ${shapeText(t)}`);
  }
  const { buffer, offset } = placeOf(t);
  const storage: Storage = { label: t.label, bytes: 4 * (end - first), place: { buffer, offset: offset + 4 * first } };
  return tensor(`${t.label}[${first}..${end}]`, [end - first], t.dtype, storage);
}

/** Columns [offset, offset + width) of a matrix, or of every matrix in a stack of them, as a strided view. */
export function columns(t: Tensor, offset: number, width: number): Tensor {
  const stride = lastDim(t);
  if (t.view || isPacked(t) || t.shape.length < 2 || offset + width > stride) {
    throw new UsageError(`cannot take columns ${offset}..${offset + width} of '${t.label}' ${shapeText(t)}`);
  }
  return { ...t, shape: [t.shape[0], ...(t.shape.slice(1, -1) as number[]), width], view: { offset, stride } };
}

/** Where the rows of a matrix start and how far apart they are, in elements. */
export const rowLayout = (t: Tensor): { offset: number; stride: number } => t.view ?? { offset: 0, stride: lastDim(t) };

/** Where a tensor lies. @throws UsageError when it has no memory: planned but not compiled or never written, or evicted. */
export function placeOf(t: Tensor): { buffer: GPUBuffer; offset: number } {
  if (!t?.storage) throw new UsageError(`a tensor is wanted, not ${t === null ? 'null' : typeof t}`);
  if (!t.storage.place) {
    throw new UsageError(`'${t.label}' has no memory`, {
      hint: 'a recorded tensor gets it when its program is compiled and something writes it; evicted weights must be placed again',
    });
  }
  return t.storage.place;
}
