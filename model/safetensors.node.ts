/** Weight files on disk: tensors read one by one by their place in the file, and files that appear whole or not at all. */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
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

async function writeAll(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const handle = await open(path, 'w');
  try {
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at)).bytesWritten;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a rename in this folder survive a power cut, on systems whose folders can be opened. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/**
 * Writes a file so that `path` holds either its old content or all of the new: into a temporary neighbour that is synced
 * and then renamed. The temporary file is removed when something fails.
 */
export async function writeAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeAll(temporary, chunks);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Writes tensors, in the given order, as a weight file; whole or not at all. Throws CheckpointError. */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  try {
    await writeAtomically(path, safetensorsChunks(tensors, metadata));
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${path}: cannot be written`, { cause, hint: 'check free space and permissions' });
  }
}
