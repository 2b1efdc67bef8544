/** Weight files in the safetensors format: tensors read from bytes in memory, and tensors turned into a file's bytes. */
import { CheckpointError, LimitError, OutOfMemoryError } from '../engine/errors.ts';
import { concatenated } from './bytes.ts';
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from './half.ts';
import {
  headerBytes,
  headerLength,
  LENGTH_BYTES,
  MAX_READ,
  parseHeader,
  type SafetensorsHeader,
  type TensorInfo,
} from './safetensors-header.ts';

export type { Dtype, SafetensorsHeader, TensorInfo } from './safetensors-header.ts';

/** Refuses to read `bytes` at once where no array could hold them; `what` they are begins the message. @throws LimitError. */
export function checkReadable(what: string, bytes: number): void {
  if (bytes <= MAX_READ) return;
  const amounts = { asked: bytes, available: MAX_READ };
  throw new LimitError(`${what} takes ${bytes} bytes; ${MAX_READ} is the most that is read at once`, amounts, {
    hint: 'store it in a shorter type, or as several tensors',
  });
}

/** The OutOfMemoryError for an array that JavaScript found no room for; any other error unchanged. */
export function noRoom(what: string, bytes: number, cause: unknown): unknown {
  if (!(cause instanceof RangeError)) return cause;
  return new OutOfMemoryError(`${what} takes ${bytes} bytes, for which there is no memory`, {
    cause,
    hint: 'close other programs, or use a machine with more memory',
  });
}

/** What a file's tensor is once decoded. @throws OutOfMemoryError, and what `decode` throws. */
export function decoded<T>(
  decode: (info: TensorInfo, bytes: Uint8Array) => T,
  info: TensorInfo,
  bytes: Uint8Array,
  file: string,
): T {
  try {
    return decode(info, bytes);
  } catch (cause) {
    throw noRoom(`${file}: tensor ${JSON.stringify(info.name)}`, bytes.length, cause);
  }
}

function copyOf(info: TensorInfo, bytes: Uint8Array): ArrayBuffer {
  if (bytes.length !== info.end - info.begin) {
    throw new CheckpointError(`tensor ${info.name}: got ${bytes.length} bytes of ${info.end - info.begin}`);
  }
  // A copy, since a tensor may lie at an offset that a typed array cannot view. (Node's Buffer.slice would not copy.)
  return new Uint8Array(bytes).buffer;
}

function wrongType(info: TensorInfo, wanted: string): never {
  throw new CheckpointError(`tensor ${info.name} holds ${info.dtype}; expected ${wanted}`);
}

/** A tensor's values as float32, from its bytes. F32, F16 and BF16 (exact) only, else CheckpointError. */
export function decodeFloats(info: TensorInfo, bytes: Uint8Array): Float32Array {
  switch (info.dtype) {
    case 'F32':
      return new Float32Array(copyOf(info, bytes));
    case 'F16':
      return fromHalf(new Uint16Array(copyOf(info, bytes)));
    case 'BF16':
      return fromBfloat16(new Uint16Array(copyOf(info, bytes)));
    default:
      return wrongType(info, 'F32, F16 or BF16');
  }
}

/** The bits of an F16 tensor's values; CheckpointError for another type. */
export function decodeHalves(info: TensorInfo, bytes: Uint8Array): Uint16Array {
  if (info.dtype !== 'F16') wrongType(info, 'F16');
  return new Uint16Array(copyOf(info, bytes));
}

/** A tensor's values as float64, exact but for 64-bit integers beyond 2^53. CheckpointError for floats of 8 bits or fewer, and pairs. */
export function decodeNumbers(info: TensorInfo, bytes: Uint8Array): Float64Array {
  switch (info.dtype) {
    case 'F64':
      return new Float64Array(copyOf(info, bytes));
    case 'I64':
      return Float64Array.from(new BigInt64Array(copyOf(info, bytes)), Number);
    case 'I32':
      return Float64Array.from(new Int32Array(copyOf(info, bytes)));
    case 'U32':
      return Float64Array.from(new Uint32Array(copyOf(info, bytes)));
    case 'U64':
      return Float64Array.from(new BigUint64Array(copyOf(info, bytes)), Number);
    case 'I16':
      return Float64Array.from(new Int16Array(copyOf(info, bytes)));
    case 'U16':
      return Float64Array.from(new Uint16Array(copyOf(info, bytes)));
    case 'I8':
      return Float64Array.from(new Int8Array(copyOf(info, bytes)));
    case 'U8':
    case 'BOOL':
      return Float64Array.from(bytes);
    default:
      return Float64Array.from(decodeFloats(info, bytes));
  }
}

/** An integer tensor (I32, U32, U8, I64) as int32; CheckpointError for another type or a value that does not fit. */
export function decodeIntegers(info: TensorInfo, bytes: Uint8Array): Int32Array {
  if (!['I32', 'U32', 'U8', 'I64'].includes(info.dtype)) wrongType(info, 'I32, U32, U8 or I64');
  const numbers = decodeNumbers(info, bytes);
  const out = Int32Array.from(numbers);
  const bad = out.findIndex((value, i) => value !== numbers[i]);
  if (bad >= 0) throw new CheckpointError(`tensor ${info.name}: element ${bad} (${numbers[bad]}) does not fit 32 bits`);
  return out;
}

/** A parsed file in memory. Its readers throw CheckpointError for a name that it does not hold or a wrong type. */
export interface Tensors {
  readonly header: SafetensorsHeader;
  /** Names of the tensors, in the order of the file. */
  names(): string[];
  /** Whether there is a tensor of that name. */
  has(name: string): boolean;
  /** The tensor's shape; [] for a single number. */
  shape(name: string): readonly number[];
  /** Values of a tensor of any float type, as 32-bit floats. */
  floats(name: string): Float32Array;
  /** Values of a tensor of any type, as 64-bit floats. */
  numbers(name: string): Float64Array;
  /** Values of a tensor of integers. */
  integers(name: string): Int32Array;
}

/** The named tensor's entry, or a CheckpointError that says which file lacks it. */
export function tensorInfo(header: SafetensorsHeader, name: string, file: string): TensorInfo {
  const info = header.tensors.get(name);
  if (info === undefined) throw new CheckpointError(`${file}: there is no tensor ${JSON.stringify(name)}`);
  return info;
}

/** Parses a whole file held in memory; `file` is its name for messages. Throws CheckpointError, see parseHeader. */
export function parseSafetensors(bytes: Uint8Array, file = 'safetensors'): Tensors {
  const length = headerLength(bytes, bytes.length, file);
  const header = parseHeader(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length), bytes.length, file);
  const read = <T>(decode: (info: TensorInfo, bytes: Uint8Array) => T, name: string): T => {
    const info = tensorInfo(header, name, file);
    return decoded(decode, info, bytes.subarray(info.begin, info.end), file);
  };
  return {
    header,
    names: () => [...header.tensors.keys()],
    has: (name) => header.tensors.has(name),
    shape: (name) => tensorInfo(header, name, file).shape,
    floats: (name) => read(decodeFloats, name),
    numbers: (name) => read(decodeNumbers, name),
    integers: (name) => read(decodeIntegers, name),
  };
}

/** A tensor to be written. Float32Array values become F32, or F16 or BF16 by rounding to nearest, ties to even. */
export type TensorToWrite =
  | { name: string; shape: readonly number[]; dtype: 'F32' | 'F16' | 'BF16'; values: Float32Array }
  | { name: string; shape: readonly number[]; dtype: 'U32'; values: Uint32Array }
  | { name: string; shape: readonly number[]; dtype: 'I32'; values: Int32Array };

/** A tensor's bytes in a file. @throws CheckpointError for values that do not match their shape. */
export function encode(tensor: TensorToWrite): Uint8Array {
  const size = tensor.shape.reduce((a, b) => a * b, 1);
  if (size !== tensor.values.length) {
    throw new CheckpointError(`tensor ${tensor.name}: shape [${tensor.shape}] needs ${size} values`, {
      hint: `it was given ${tensor.values.length}`,
    });
  }
  let values: Float32Array | Uint32Array | Int32Array | Uint16Array = tensor.values;
  if (tensor.dtype === 'F16') values = toHalf(tensor.values);
  if (tensor.dtype === 'BF16') values = toBfloat16(tensor.values);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/**
 * The file's bytes in pieces: the header, then one tensor after another in the given order, each encoded when asked for.
 * Throws CheckpointError for a name given twice or values that do not match their shape.
 */
export function* safetensorsChunks(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array> {
  yield headerBytes(tensors, metadata);
  for (const tensor of tensors) yield encode(tensor);
}

/** The whole file's bytes; see safetensorsChunks. */
export function serializeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  return concatenated([...safetensorsChunks(tensors, metadata)]);
}
