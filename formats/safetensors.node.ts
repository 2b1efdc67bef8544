/** Weight files on disk: tensors read one by one by their place in the file, and files that appear whole or not at all. */
import { type FileHandle, open } from 'node:fs/promises';
import { CheckpointError } from '../engine/errors.ts';
import { writeAtomically } from './files.node.ts';
import {
  decodeFloats,
  decodeIntegers,
  decodeNumbers,
  type SafetensorsHeader,
  safetensorsChunks,
  type TensorInfo,
  type TensorToWrite,
  tensorInfo,
} from './safetensors.ts';
import { headerLength, LENGTH_BYTES, parseHeader } from './safetensors-header.ts';

/** An open weight file. Readers throw CheckpointError; `close` may be called more than once. */
export interface SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  /** Bytes [begin, end) of the file: one tensor's, or several neighbours' in one read. */
  bytes(begin: number, end: number): Promise<Uint8Array>;
  floats(name: string): Promise<Float32Array>;
  numbers(name: string): Promise<Float64Array>;
  integers(name: string): Promise<Int32Array>;
  close(): Promise<void>;
}

async function readExactly(handle: FileHandle, begin: number, end: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - begin);
  let at = 0;
  while (at < bytes.length) {
    const { bytesRead } = await handle.read(bytes, at, bytes.length - at, begin + at);
    if (bytesRead === 0) throw new CheckpointError(`${path}: ends at byte ${begin + at}, expected more until ${end}`);
    at += bytesRead;
  }
  return bytes;
}

async function readHeader(handle: FileHandle, path: string): Promise<SafetensorsHeader> {
  const stat = await handle.stat();
  if (!stat.isFile()) throw new CheckpointError(`${path}: is no regular file`);
  const first = await readExactly(handle, 0, Math.min(LENGTH_BYTES, stat.size), path);
  const length = headerLength(first, stat.size, path);
  return parseHeader(await readExactly(handle, LENGTH_BYTES, LENGTH_BYTES + length, path), stat.size, path);
}

/** Opens a weight file and checks its header; no tensor is read yet. Throws CheckpointError. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw new CheckpointError(`${path}: cannot be opened`, { cause, hint: 'check the path and its permissions' });
  });
  let header: SafetensorsHeader;
  try {
    header = await readHeader(handle, path);
  } catch (error) {
    await handle.close();
    throw error;
  }
  const bytes = (begin: number, end: number) => readExactly(handle, begin, end, path);
  const read = async <T>(decode: (info: TensorInfo, bytes: Uint8Array) => T, name: string): Promise<T> => {
    const info = tensorInfo(header, name, path);
    return decode(info, await bytes(info.begin, info.end));
  };
  let closing: Promise<void> | undefined;
  return {
    path,
    header,
    bytes,
    floats: (name) => read(decodeFloats, name),
    numbers: (name) => read(decodeNumbers, name),
    integers: (name) => read(decodeIntegers, name),
    close: () => {
      closing ??= handle.close();
      return closing;
    },
  };
}

/** Writes tensors, in the given order, as a weight file; whole or not at all. Throws CheckpointError for tensors that make no file, OutputError. */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeAtomically(path, safetensorsChunks(tensors, metadata));
}
