/**
 * Files on disk, whatever their format: read only where they are regular files, written whole or not at all, and looked at
 * before the work whose result they take.
 */
import { createHash, randomBytes } from 'node:crypto';
import { access, constants, type FileHandle, lstat, mkdtemp, open, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { ConfigError, OdeltError, type OdeltErrorOptions, OutputError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';

/** Throws the caller's kind of error. `problem` follows the file's name: "is a folder". */
export type FailFile = (problem: string, cause?: unknown) => never;

/** Problems with the file at `path` as errors of this class that name it. */
export const failAs =
  (Refusal: new (message: string, options: OdeltErrorOptions) => OdeltError, path: string, hint?: string): FailFile =>
  (problem, cause) => {
    throw new Refusal(`${path} ${problem}`, { cause, hint });
  };

/** Most bytes of one read: Node 20 ends the process at more than 2^31 - 1. */
const MOST_READ = 2 ** 30;

/** A regular file that is open for reading. */
export interface RegularFile {
  /** In bytes, when it was opened. */
  readonly size: number;
  /** Bytes [begin, end). Fails when the file has become shorter or has been written to since it was opened. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** May be called more than once. */
  close(): Promise<void>;
}

function whyNotOpened(cause: NodeJS.ErrnoException): string {
  if (cause.code === 'ENOENT') return 'cannot be read: there is no such file, or it is a link to nothing';
  if (cause.code === 'ENOTDIR') return 'cannot be read: a file is in the place of a folder';
  if (cause.code === 'ELOOP') return 'cannot be read: it is a link that leads to itself';
  if (cause.code === 'EACCES' || cause.code === 'EPERM') return 'cannot be read: no permission';
  return `cannot be read: ${cause.message}`;
}

/**
 * Opens a file for reading if it is a regular one. A pipe is not waited for, and a device or a folder not read: each goes to
 * `fail`, as does whatever the system refuses.
 */
export async function openRegular(path: string, fail: FailFile): Promise<RegularFile> {
  // Without O_NONBLOCK, opening a pipe that nobody writes to never returns. Windows has neither.
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  const handle: FileHandle = await open(path, flags).catch((cause: NodeJS.ErrnoException) =>
    cause.code === 'ENXIO' ? fail('is no regular file', cause) : fail(whyNotOpened(cause), cause),
  );
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= handle.close();
    return closing;
  };
  const info = await handle.stat();
  if (!info.isFile()) {
    await close();
    fail(info.isDirectory() ? 'is a folder' : 'is no regular file');
  }
  return {
    size: info.size,
    close,
    async read(begin, end) {
      const bytes = new Uint8Array(end - begin);
      for (let at = 0; at < bytes.length; ) {
        const { bytesRead } = await handle
          .read(bytes, at, Math.min(bytes.length - at, MOST_READ), begin + at)
          .catch((cause: NodeJS.ErrnoException) => fail(whyNotOpened(cause), cause));
        if (bytesRead === 0) fail(`ends at byte ${begin + at}, expected more until ${end}`);
        at += bytesRead;
      }
      const now = await handle.stat();
      if (now.size !== info.size || now.mtimeMs !== info.mtimeMs) fail('was written to while it was being read');
      return bytes;
    },
  };
}

/** Bytes that are read at a time: a file may be larger than what one buffer holds. */
const PIECE = 8 << 20;

/** SHA-256 of a regular file, hexadecimal. @throws what `fail` makes, as `openRegular`. */
export async function digestOfFile(path: string, fail: FailFile): Promise<string> {
  const file = await openRegular(path, fail);
  try {
    const hash = createHash('sha256');
    for (let at = 0; at < file.size; at += PIECE) hash.update(await file.read(at, Math.min(file.size, at + PIECE)));
    return hash.digest('hex');
  } finally {
    await file.close();
  }
}

/** The whole of a regular file; see `openRegular`. A file of more than `most` bytes goes to `fail` before it is read. */
export async function readRegular(
  path: string,
  { most = Number.POSITIVE_INFINITY, fail }: { most?: number; fail: FailFile },
): Promise<Uint8Array<ArrayBuffer>> {
  const file = await openRegular(path, fail);
  try {
    if (file.size > most) fail(`has ${file.size} bytes; at most ${most} are expected`);
    return await file.read(0, file.size);
  } finally {
    await file.close();
  }
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
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** This process in the names of temporary files: its pid, and what tells it from one of another machine or container that has the same. */
export const OWN_NAME = `${process.pid}-${randomBytes(4).toString('hex')}`;
/** The end of such names, those of earlier versions too. */
export const TEMPORARY = /\.\d+(-[0-9a-f]{8})?(\.old)?\.tmp$/;

const temporaryOf = (path: string): string => `${path}.${OWN_NAME}.tmp`;

/**
 * Writes a file so that `path` holds either its old content or all of the new: into a temporary neighbour that is synced
 * and then renamed; missing folders are made. The temporary file is removed when something fails.
 * @throws OutputError
 */
export async function writeAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = temporaryOf(path);
  try {
    await makeFolder(dirname(path));
    await writeAll(temporary, chunks);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (cause instanceof OdeltError) throw cause; // of whoever makes the chunks
    throw new OutputError(`${path} cannot be written`, { cause, hint: 'check free space and permissions' });
  }
  await syncFolder(dirname(path));
}

/** Writes a text file as `writeAtomically` does. @throws OutputError */
export const writeText = (path: string, text: string): Promise<void> =>
  writeAtomically(path, [new TextEncoder().encode(text)]);

/**
 * Checks, before the work, that a file can be written at `path` (or, with `folder`, files below it): folders that are missing
 * will be made. `name` is what the user called it, such as --out.
 * @throws ConfigError for an empty path; OutputError for a folder in a file's place or a file in a folder's, no permission, and the like.
 */
export async function checkOutput(name: string, path: string, options: { folder?: boolean } = {}): Promise<void> {
  if (path === '')
    throw new ConfigError(`${name} is empty`, { hint: `give the path of a ${options.folder ? 'folder' : 'file'}` });
  const refuse = (why: string, cause?: unknown): never => {
    throw new OutputError(`${name} '${path}' cannot be written: ${why}`, { cause, hint: 'give another path' });
  };
  if (!options.folder && (path.endsWith('/') || path.endsWith(sep))) refuse('it names a folder');
  let at = resolve(path);
  // Its temporary neighbour's name is the longer one.
  await stat(temporaryOf(at)).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENAMETOOLONG') refuse('its name is too long', cause);
  });
  for (let first = true; ; first = false) {
    const info = await stat(at).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return null;
      return refuse(cause.code === 'ENOTDIR' ? 'a file is in the place of a folder' : cause.message, cause);
    });
    if (info) {
      const isTarget = first && !options.folder;
      if (isTarget && info.isDirectory()) refuse('it is a folder');
      // A rename would put a file in the place of a device.
      if (isTarget && !info.isFile()) refuse('it is no regular file');
      if (!isTarget && !info.isDirectory()) refuse(`${at} is no folder`);
      // A file is replaced by a rename: its folder must be writable, and it must not be protected itself.
      for (const place of isTarget ? [at, dirname(at)] : [at]) {
        await access(place, constants.W_OK).catch((cause: unknown) => refuse(`no permission to write ${place}`, cause));
      }
      // Some systems' folders, such as /proc, take nothing new whatever the permissions say.
      if (!isTarget) {
        const tried = await mkdtemp(join(at, '.odelt-')).catch((cause: Error) => refuse(cause.message, cause));
        await rmdir(tried);
      }
      return;
    }
    // A file takes the place of a link to nothing, a folder cannot.
    if ((!first || options.folder) && (await lstat(at).catch(() => null))) refuse(`${at} is a link to nothing`);
    if (dirname(at) === at) return;
    at = dirname(at);
  }
}
