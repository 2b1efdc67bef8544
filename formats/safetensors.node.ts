/** Weight files on disk: tensors read one by one by their place in the file, and files that appear whole or not at all. */
import { CheckpointError } from '../engine/errors.ts';
import { failAs, openRegular, writeAtomically } from './files.node.ts';
import {
  checkReadable,
  decoded,
  decodeFloats,
  decodeIntegers,
  decodeNumbers,
  noRoom,
  type SafetensorsHeader,
  safetensorsChunks,
  type TensorInfo,
  type TensorToWrite,
  tensorInfo,
} from './safetensors.ts';
import { headerLength, LENGTH_BYTES, parseHeader } from './safetensors-header.ts';

/** An open weight file. For what its readers throw see `openSafetensors`; `close` may be called more than once. */
export interface SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  /** Bytes [begin, end) of the file: one tensor's, or several neighbours' in one read. */
  bytes(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Values of a tensor of any float type, as 32-bit floats. */
  floats(name: string): Promise<Float32Array>;
  /** Values of a tensor of any type, as 64-bit floats. */
  numbers(name: string): Promise<Float64Array>;
  /** Values of a tensor of integers. */
  integers(name: string): Promise<Int32Array>;
  /** Closes the file. */
  close(): Promise<void>;
}

/**
 * Opens a weight file and checks its header; no tensor is read yet.
 * @throws CheckpointError for what is no regular file, cannot be read, is damaged or changes; the readers of the result also
 * LimitError for a tensor larger than one read can be, and OutOfMemoryError.
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const hint = 'give a .safetensors file that you may read and that stays as it is meanwhile';
  const file = await openRegular(path, failAs(CheckpointError, path, hint));
  let header: SafetensorsHeader;
  try {
    const length = headerLength(await file.read(0, Math.min(LENGTH_BYTES, file.size)), file.size, path);
    header = parseHeader(await file.read(LENGTH_BYTES, LENGTH_BYTES + length), file.size, path);
  } catch (error) {
    await file.close();
    throw error;
  }
  const bytes = async (begin: number, end: number, what = `${path}: the part from byte ${begin} on`) => {
    checkReadable(what, end - begin);
    try {
      return await file.read(begin, end);
    } catch (cause) {
      throw noRoom(what, end - begin, cause);
    }
  };
  const read = async <T>(decode: (info: TensorInfo, bytes: Uint8Array) => T, name: string): Promise<T> => {
    const info = tensorInfo(header, name, path);
    const stored = await bytes(info.begin, info.end, `${path}: tensor ${JSON.stringify(name)}`);
    return decoded(decode, info, stored, path);
  };
  return {
    path,
    header,
    bytes: (begin, end) => bytes(begin, end),
    floats: (name) => read(decodeFloats, name),
    numbers: (name) => read(decodeNumbers, name),
    integers: (name) => read(decodeIntegers, name),
    close: file.close,
  };
}

/** The tensors of a weight file, in memory. */
export interface ReadTensors {
  readonly names: readonly string[];
  has(name: string): boolean;
  shape(name: string): readonly number[];
  /** Values as 32-bit floats, of a tensor that was wanted. */
  floats(name: string): Float32Array;
}

/** A whole weight file as float32, tensor by tensor: it may be larger than one buffer can be. `wanted`: which; the others have no values. */
export async function readTensors(path: string, wanted: (name: string) => boolean = () => true): Promise<ReadTensors> {
  const file = await openSafetensors(path);
  try {
    const values = new Map<string, Float32Array>();
    const { tensors } = file.header;
    for (const name of tensors.keys()) if (wanted(name)) values.set(name, await file.floats(name));
    return {
      names: [...tensors.keys()],
      has: (name) => tensors.has(name),
      shape: (name) => tensors.get(name)!.shape,
      floats: (name) => values.get(name)!,
    };
  } finally {
    await file.close();
  }
}

/** Writes tensors, in the given order, as a weight file; whole or not at all. Throws CheckpointError for tensors that make no file, OutputError. */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, safetensorsChunks(tensors, metadata));
}
