/** Files on disk, whatever their format: written whole or not at all, and looked at before the work whose result they take. */
import { access, constants, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { ConfigError, OdeltError, OutputError } from '../engine/errors.ts';

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

/**
 * Writes a file so that `path` holds either its old content or all of the new: into a temporary neighbour that is synced
 * and then renamed; missing folders are made. The temporary file is removed when something fails.
 * @throws OutputError
 */
export async function writeAtomically(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeAll(temporary, chunks);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (cause instanceof OdeltError) throw cause; // of whoever makes the chunks
    throw new OutputError(`${path} cannot be written`, { cause, hint: 'check free space and permissions' });
  }
  await syncFolder(dirname(path));
}

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
  let at = resolve(path);
  for (let first = true; ; first = false) {
    const info = await stat(at).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return null;
      return refuse(cause.code === 'ENOTDIR' ? 'a file is in the place of a folder' : cause.message, cause);
    });
    if (info) {
      const isTarget = first && !options.folder;
      if (isTarget && info.isDirectory()) refuse('it is a folder');
      if (!isTarget && !info.isDirectory()) refuse(`${at} is no folder`);
      // A file is replaced by a rename: its folder must be writable, and it must not be protected itself.
      await access(at, constants.W_OK).catch((cause: unknown) => refuse(`no permission to write ${at}`, cause));
      if (isTarget)
        await access(dirname(at), constants.W_OK).catch((cause: unknown) =>
          refuse(`no permission to write ${dirname(at)}`, cause),
        );
      return;
    }
    if (dirname(at) === at) return;
    at = dirname(at);
  }
}
