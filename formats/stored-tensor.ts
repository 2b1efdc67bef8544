/** A tensor as somebody's file holds it, in any number type and order: checked against its bytes, and read when asked for. */
import { CheckpointError } from '../engine/errors.ts';
import { fromBfloat16, fromHalf } from './half.ts';
import { checkReadable, noRoom } from './safetensors.ts';
import { bytesOfElements, type Dtype } from './safetensors-header.ts';

/** A tensor of a checkpoint, whose values are still in the file. */
export interface StoredTensor {
  readonly type: Dtype;
  readonly shape: readonly number[];
  /** Elements from one to the next along each axis. */
  readonly strides: readonly number[];
  /** Its bytes in the file: those from the first element to the last, whatever their order. */
  readonly bytes: number;
  /** Reads them. */
  load(): Promise<Uint8Array>;
}

/** Most axes of a tensor. */
const MAX_RANK = 32;

/** Product of a shape. */
export const elementCount = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Bytes of one element. */
export const elementBytes = (type: Dtype): number => bytesOfElements(type, 1);

/** Strides of a tensor whose elements lie in order: the last axis the fastest, or the first (`columns`, as in Fortran). */
export function contiguousStrides(shape: readonly number[], columns = false): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let n = 0; n < shape.length; n++) {
    const axis = columns ? n : shape.length - 1 - n;
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/** A list of whole numbers from 0 that a file gave as a shape or as strides; `fail` for anything else. */
export function counts(value: unknown, what: string, fail: (problem: string) => never): number[] {
  if (!Array.isArray(value) || value.length > MAX_RANK || !value.every(isCount)) {
    return fail(`${what} is no list of at most ${MAX_RANK} whole numbers`);
  }
  return value;
}

/**
 * Elements from the first to the last of a tensor. Goes to `fail` for one that has more elements than `stored`: what lies on
 * itself (a stride of 0) could be of any size.
 */
export function spanOf(
  shape: readonly number[],
  strides: readonly number[],
  stored: number,
  fail: (problem: string) => never,
): number {
  const size = elementCount(shape);
  if (strides.length !== shape.length) fail(`has ${strides.length} strides for ${shape.length} axes`);
  if (!Number.isSafeInteger(size) || size > stored)
    fail(`of shape [${shape}] has ${size} elements; its storage has ${stored}`);
  if (size === 0) return 0;
  const span = 1 + shape.reduce((sum, length, axis) => sum + (length - 1) * strides[axis]!, 0);
  return span <= stored ? span : fail(`of shape [${shape}] ends at element ${span}; its storage has ${stored}`);
}

const isContiguous = ({ shape, strides }: StoredTensor): boolean => {
  const wanted = contiguousStrides(shape);
  return shape.every((length, axis) => length === 1 || strides[axis] === wanted[axis]);
};

/** The values of bytes of that type; exact but for 64-bit integers beyond 2^53. `name` is for messages. @throws CheckpointError */
function decode(type: Dtype, stored: Uint8Array, name: string): Float32Array | Float64Array {
  // A copy, since a typed array cannot begin at any byte.
  const { buffer } = new Uint8Array(stored);
  switch (type) {
    case 'F32':
      return new Float32Array(buffer);
    case 'F16':
      return fromHalf(new Uint16Array(buffer));
    case 'BF16':
      return fromBfloat16(new Uint16Array(buffer));
    case 'F64':
      return new Float64Array(buffer);
    case 'I64':
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case 'U64':
      return Float64Array.from(new BigUint64Array(buffer), Number);
    case 'I32':
      return Float64Array.from(new Int32Array(buffer));
    case 'U32':
      return Float64Array.from(new Uint32Array(buffer));
    case 'I16':
      return Float64Array.from(new Int16Array(buffer));
    case 'U16':
      return Float64Array.from(new Uint16Array(buffer));
    case 'I8':
      return Float64Array.from(new Int8Array(buffer));
    case 'U8':
    case 'BOOL':
      return Float64Array.from(stored);
    default:
      throw new CheckpointError(`${name} holds ${type}, which is not read here`, {
        hint: 'store it as F16, BF16 or F32',
      });
  }
}

/** Puts strided values into row-major order. */
function gathered<T extends Float32Array | Float64Array>(values: T, { shape, strides }: StoredTensor, out: T): T {
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0, from = 0; i < out.length; i++) {
    out[i] = values[from]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** Reads the values, row-major. `name` is for messages. @throws CheckpointError, LimitError, OutOfMemoryError. */
async function values(tensor: StoredTensor, name: string): Promise<Float32Array | Float64Array> {
  checkReadable(name, tensor.bytes);
  try {
    const stored = await tensor.load();
    if (stored.length !== tensor.bytes) {
      throw new CheckpointError(`${name}: got ${stored.length} bytes of ${tensor.bytes}`);
    }
    const found = decode(tensor.type, stored, name);
    if (isContiguous(tensor)) return found;
    const size = elementCount(tensor.shape);
    return found instanceof Float32Array
      ? gathered(found, tensor, new Float32Array(size))
      : gathered(found, tensor, new Float64Array(size));
  } catch (cause) {
    throw noRoom(name, tensor.bytes, cause);
  }
}

/** Values as float32, row-major, rounded where the file has more bits. @throws CheckpointError, LimitError, OutOfMemoryError. */
export async function floatsOf(tensor: StoredTensor, name: string): Promise<Float32Array> {
  const found = await values(tensor, name);
  return found instanceof Float32Array ? found : Float32Array.from(found);
}

/** Values as float64, row-major. @throws CheckpointError, LimitError, OutOfMemoryError. */
export async function numbersOf(tensor: StoredTensor, name: string): Promise<Float64Array> {
  return Float64Array.from(await values(tensor, name));
}
