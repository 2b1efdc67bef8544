/** Folders on disk: the driver's cache and every file that is written begin with one. */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder, and those above it that are missing. Not by Node's own `recursive`, which never returns where the system says
 * that a folder cannot be found whose parent is there, as Linux does in /proc. @throws what the system refuses.
 */
export async function makeFolder(path: string, mode?: number): Promise<void> {
  const make = async () => {
    await mkdir(path, { mode }).catch(async (cause: NodeJS.ErrnoException) => {
      // Of a folder that is there, not every system says EEXIST.
      const isThere = cause.code !== 'ENOENT' && (await stat(path).catch(() => null))?.isDirectory();
      if (!isThere) throw cause;
    });
  };
  await make().catch(async (cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' || dirname(path) === path) throw cause;
    await makeFolder(dirname(path), mode);
    await make();
  });
}
