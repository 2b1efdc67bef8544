/** Folders on disk: the user's cache, and every file that is written begins with one. */
import { mkdir, stat } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';

/** Environment variables, as `process.env` holds them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * odelt's folder in the user's cache, for unpacked drivers and tuning: per user, so that nobody else can plant a library in it.
 * Relative paths in the environment are passed over: what lies in the current directory may be anybody's, too.
 */
export function cacheFolder(env: Environment = process.env): string {
  const { XDG_CACHE_HOME: cache = '' } = env;
  if (isAbsolute(cache)) return join(cache, 'odelt');
  const home = env.HOME ?? homedir();
  if (isAbsolute(home) && home !== '/') return join(home, '.cache', 'odelt');
  return join(isAbsolute(tmpdir()) ? tmpdir() : '/tmp', `odelt-${process.getuid?.() ?? 0}`);
}

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
