/**
 * NumPy's files, read: `.npy` (one array) and `.npz` (a zip of them). Bytes to numbers, without files or Node. A header is believed
 * only as far as the bytes can hold what it says; pickled objects are refused.
 */
import { unzipSync } from 'fflate';
import { DataError, LimitError } from '../engine/errors.ts';
import { crc32 } from './crc32.ts';
import { fromHalf } from './half.ts';
import { zipSums } from './zip.ts';

/** What a `.npy` file's header says. */
export interface NpyHeader {
  /** NumPy's letter: u, i (integers), f (floats), b (booleans). */
  readonly kind: 'u' | 'i' | 'f' | 'b';
  /** Bytes of one element: 1, 2, 4 or 8. */
  readonly bytes: number;
  readonly littleEndian: boolean;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly count: number;
  /** Bytes before the first element. */
  readonly offset: number;
}

/** An array and what it was stored as: bytes for u1, float32 for f2 and f4, float64 for the rest. */
export interface NpyArray {
  readonly header: NpyHeader;
  readonly values: Uint8Array | Float32Array | Float64Array;
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
/** Longest header that is read, in bytes: NumPy writes 118 for arrays of numbers. */
export const MOST_NPY_HEADER = 65536;
const HEADER =
  /^\{\s*'descr':\s*'([<>|=])([a-zA-Z])(\d+)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d\s,]*)\),?\s*\}\s*$/;

/** Whether bytes begin as a `.npy` file does. */
export const isNpy = (start: Uint8Array): boolean => MAGIC.every((byte, k) => start[k] === byte);

/** Whether bytes begin as a zip file does. */
export const isZip = (start: Uint8Array): boolean => [0x50, 0x4b, 3, 4].every((byte, k) => start[k] === byte);

/**
 * The header of a `.npy` file, from its first bytes (`MOST_NPY_HEADER` or all). `name` is what errors call the file.
 * @throws DataError for what is no array of numbers in C order.
 */
export function parseNpyHeader(start: Uint8Array, name: string): NpyHeader {
  const refuse = (problem: string, hint = 'Write the file again with numpy.save.'): never => {
    throw new DataError(`${name}: ${problem}`, { hint });
  };
  if (start.length < 10) refuse(`${start.length} bytes are too few for the header of a .npy file`);
  if (!isNpy(start)) refuse('does not begin as a .npy file does');
  const version = start[6]!;
  if (version < 1 || version > 3) refuse(`version ${version}.${start[7]} at byte 6 of its header is unknown`);
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const begin = version === 1 ? 10 : 12;
  if (start.length < begin) refuse(`ends at byte ${start.length}, within its header`);
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const offset = begin + length;
  if (offset > MOST_NPY_HEADER) refuse(`its header says that it is ${length} bytes long`);
  if (offset > start.length) refuse(`ends at byte ${start.length}, within its header of ${offset}`);
  const text = new TextDecoder().decode(start.subarray(begin, offset));
  const match = HEADER.exec(text);
  if (!match)
    return refuse(`its header at byte ${begin} is not that of an array of numbers: ${text.trim().slice(0, 120)}`);
  const [, order, letter, size, fortran, dims] = match;
  const bytes = Number(size);
  const kind = letter as NpyHeader['kind'];
  const known = { u: [1, 2, 4, 8], i: [1, 2, 4, 8], f: [2, 4, 8], b: [1] }[kind] as number[] | undefined;
  if (!known?.includes(bytes)) {
    refuse(`has elements of type ${letter}${size}`, 'Write it as uint8, float16 or float32, labels as integers.');
  }
  const shape = dims!.split(',').flatMap((each) => (each.trim() === '' ? [] : [Number(each)]));
  if (fortran === 'True' && shape.length > 1) {
    refuse('is in Fortran order', 'Write numpy.ascontiguousarray(a) instead of a.');
  }
  const count = shape.reduce((product, n) => product * n, 1);
  if (!Number.isSafeInteger(count * bytes)) refuse(`has the shape (${dims}), which no file can hold`);
  return { kind, bytes, littleEndian: order !== '>', shape, count, offset };
}

/** The elements that `bytes`, whole elements of the file of this header, hold. float64 and large integers lose what a double does. */
export function decodeNpy({ kind, bytes, littleEndian }: NpyHeader, data: Uint8Array): NpyArray['values'] {
  if (bytes === 1 && kind !== 'i') return data;
  const count = data.length / bytes;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (kind === 'f' && bytes === 2) {
    return fromHalf(Uint16Array.from({ length: count }, (_, i) => view.getUint16(2 * i, littleEndian)));
  }
  if (kind === 'f' && bytes === 4) {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = view.getFloat32(4 * i, littleEndian);
    return out;
  }
  const read: Record<string, (at: number) => number> = {
    f8: (at) => view.getFloat64(at, littleEndian),
    i1: (at) => view.getInt8(at),
    i2: (at) => view.getInt16(at, littleEndian),
    i4: (at) => view.getInt32(at, littleEndian),
    i8: (at) => Number(view.getBigInt64(at, littleEndian)),
    u2: (at) => view.getUint16(at, littleEndian),
    u4: (at) => view.getUint32(at, littleEndian),
    u8: (at) => Number(view.getBigUint64(at, littleEndian)),
  };
  const get = read[kind + bytes]!;
  return Float64Array.from({ length: count }, (_, i) => get(i * bytes));
}

/** Throws DataError unless a file of `size` bytes holds exactly what its header says. */
export function checkNpySize({ shape, count, bytes, offset }: NpyHeader, size: number, name: string): void {
  const needed = offset + count * bytes;
  if (size === needed) return;
  throw new DataError(`${name}: ${size} bytes, where its header (${shape.join(' x ')}) asks for ${needed}`, {
    hint: size < needed ? 'The file is cut short: copy or write it again.' : 'Write the file again with numpy.save.',
  });
}

/** A whole `.npy` file in memory. @throws DataError */
export function readNpy(file: Uint8Array, name: string): NpyArray {
  const header = parseNpyHeader(file, name);
  checkNpySize(header, file.length, name);
  return { header, values: decodeNpy(header, file.subarray(header.offset)) };
}

/**
 * The arrays of a `.npz` file by their names, without `.npy`: all, or those `wanted`, which is asked of each name; others are not looked at.
 * What they unpack to is bounded before it is unpacked.
 * @throws DataError; LimitError for more than `maxBytes`.
 */
export function readNpz(
  file: Uint8Array,
  name: string,
  maxBytes: number,
  wanted: (array: string) => boolean = () => true,
): Map<string, NpyArray> {
  let sum = 0;
  const sizes = new Map<string, number>();
  let parts: Record<string, Uint8Array>;
  let sums: Map<string, number>;
  try {
    sums = zipSums(file, (problem) => {
      throw new Error(`the zip file ${problem}`);
    });
    parts = unzipSync(file, {
      filter({ name: part, originalSize }) {
        if (!part.endsWith('.npy') || !wanted(part.slice(0, -4))) return false;
        sum += originalSize;
        sizes.set(part, originalSize);
        if (sum > maxBytes) {
          throw new LimitError(
            `${name}: its arrays need more than ${maxBytes} bytes`,
            { asked: sum, available: maxBytes },
            { hint: 'Write each array as a .npy file of its own: those need not fit into memory.' },
          );
        }
        return true;
      },
    });
  } catch (cause) {
    if (cause instanceof LimitError) throw cause;
    throw new DataError(`${name} is damaged or cut short (zip)`, { cause, hint: 'Copy or write the file again.' });
  }
  const arrays = Object.entries(parts).map(([part, bytes]) => {
    if (bytes.length !== sizes.get(part)) throw new DataError(`${name}, ${part}: cut short`);
    const sum = sums.get(part);
    if (sum !== undefined && crc32(bytes) !== sum) {
      throw new DataError(`${name}, ${part}: damaged; its CRC-32 is not what the file says`, {
        hint: 'Copy or write the file again.',
      });
    }
    return [part.slice(0, -4), readNpy(bytes, `${name}, ${part}`)] as const;
  });
  return new Map(arrays);
}
