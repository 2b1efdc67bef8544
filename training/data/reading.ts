/** What all readers of data sets take, and how they refuse files and folders. */
import { readdir } from 'node:fs/promises';
import { DataError, InterruptedError, LimitError } from '../../engine/errors.ts';
import { type FailFile, failAs, openRegular, type RegularFile } from '../../formats/files.node.ts';
import type { DataShape } from './dataset.ts';

export interface ReadOptions {
  /** Called once with what was recognised, in words: the format, its parts, what stands for labels. */
  onRecognised?: (what: string) => void;
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

/**
 * The number of classes of labels that were read: 0, 1, ... to the largest. `where` names label i. @throws DataError for labels that are no
 * integers from 0 to 65534
 */
export function countClasses(labels: ArrayLike<number>, where: (i: number) => string): number {
  let most = 0;
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    if (!(Number.isInteger(label) && label >= 0 && label < 65535)) {
      throw new DataError(`${where(i)}: label ${label} is no integer from 0 to 65534`, {
        hint: 'Number the classes 0, 1, 2, ...',
      });
    }
    most = Math.max(most, label);
  }
  return most + 1;
}

/** The last of the parts of a data set that begins at its picture i or before; `starts`: at which each begins, ascending. */
export function partOf(starts: readonly number[], i: number): number {
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= i) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Regular files that are read in pieces for a long time: opened when they are needed, a few kept open, all still as they were. */
export interface OpenFiles {
  /** Bytes [begin, end) of a file that had `size` bytes when it was looked at first. @throws DataError naming the file */
  read(path: string, size: number, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** @throws DataError for a file that has not the size that it had at first. */
export function checkSize(path: string, size: number, first: number): void {
  if (size === first) return;
  throw new DataError(`${path} has ${size} bytes; it had ${first} when it was looked at first`, {
    hint: 'leave the data as they are while a run goes on; start again to take the new ones',
  });
}

/** Files that are kept open at a time. */
const MOST_OPEN = 32;

export function openFiles(): OpenFiles {
  /** Oldest use first; a file is closed once nothing reads from it. */
  const open = new Map<string, { file: Promise<RegularFile>; readers: number }>();
  const closeOne = (path: string) => {
    const closing = open.get(path)!.file;
    open.delete(path);
    return closing.then((file) => file.close()).catch(() => {});
  };
  let closed = false;
  return {
    async read(path, size, begin, end) {
      if (closed) throw new InterruptedError(`reading ${path} was interrupted`);
      const entry = open.get(path) ?? { file: openRegular(path, failData(path)), readers: 0 };
      open.delete(path);
      open.set(path, entry);
      entry.readers += 1;
      try {
        const file = await entry.file.catch((error: unknown) => {
          open.delete(path);
          throw error;
        });
        checkSize(path, file.size, size);
        return await file.read(begin, end);
      } finally {
        entry.readers -= 1;
        for (const [other, { readers }] of [...open]) {
          if (open.size > MOST_OPEN && readers === 0) await closeOne(other);
        }
      }
    },
    async close() {
      closed = true;
      await Promise.all([...open.keys()].map(closeOne));
    },
  };
}
