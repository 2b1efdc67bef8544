/** What all readers of data sets take, and how they refuse files and folders. */
import { readdir } from 'node:fs/promises';
import { DataError, LimitError } from '../../engine/errors.ts';
import { type FailFile, failAs } from '../../formats/files.node.ts';
import type { DataShape } from './dataset.ts';

export interface ReadOptions {
  /** Most bytes of pictures to hold in memory. Default 4 GiB; never more than 2^32 - 4096, as they lie in one array. */
  maxBytes?: number;
  /** Called once it is known, before pictures are read (channels: 3 where only the pictures tell). What it throws ends the reading. */
  onShape?: (shape: DataShape) => void;
  /** Called now and then with the number of pictures that have been read, and of all. */
  onProgress?: (done: number, total: number) => void;
  /** Stops the reading with an InterruptedError. */
  signal?: AbortSignal;
}

const MOST_BYTES = 4 * 2 ** 30;
/** What one array can hold in Node 20, less room for a header. */
const MOST_IN_ARRAY = 2 ** 32 - 4096;

/** Most bytes of pictures that a reader may take: what was asked for, and no more than fit into one array. */
export const mostBytes = ({ maxBytes = MOST_BYTES }: ReadOptions): number => Math.min(maxBytes, MOST_IN_ARRAY);

/** For `openRegular` and `readRegular`: problems with a file as DataErrors that name it. */
export const failData = (path: string): FailFile => failAs(DataError, path);

/** Throws LimitError where pictures, which `what` says, take more bytes than are allowed. */
export function checkBytes(what: string, bytes: number, maxBytes: number, fewer = 'fewer'): void {
  if (bytes <= maxBytes) return;
  const amounts = { asked: bytes, available: maxBytes };
  const hint = `Take ${fewer} pictures, or, in a program, raise maxBytes.`;
  throw new LimitError(`${what} need ${bytes} bytes`, amounts, { hint });
}

/** Names in a folder, in no order. @throws DataError when it cannot be read. */
export const listFolder = (path: string): Promise<string[]> =>
  readdir(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'EACCES' || cause.code === 'EPERM' ? 'no permission' : cause.message;
    throw new DataError(`${path} cannot be read: ${why}`, { cause });
  });
