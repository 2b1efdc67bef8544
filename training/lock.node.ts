/**
 * One process that writes per folder: of a run, of latents, of results. The lock is a folder `lock` that holds one entry, named
 * after its owner's pid and start: it is taken by renaming a prepared folder to that name, which the system refuses while `lock` has
 * an entry, so of several starters one wins. A dead owner's entry is removed by its own name, which can never be that of a newer
 * owner. It guards against processes of this machine only.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError, ConfigError, OutputError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';

const ENTRY = /^pid-(\d+)-start-(\d+)-[0-9a-f-]+$/;
/** Looks at a lock that others take and give back meanwhile. */
const ATTEMPTS = 50;
const PREPARED = /^lock\.(\d+)\.[0-9a-f-]+\.tmp$/;

/**
 * When a process began, as Linux counts it, which tells it from a later one with the same pid; '0' where the system does not say.
 * null: it is dead, though its parent has not noticed yet.
 */
async function startOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name, in brackets, may hold spaces and brackets itself.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  if (fields.length < 20) return '0';
  return fields[0] === 'Z' || fields[0] === 'X' ? null : fields[19]!;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function isAlive(pid: number, start: string): Promise<boolean> {
  if (!exists(pid)) return false;
  const now = await startOf(pid);
  return now !== null && (now === start || now === '0' || start === '0');
}

/** Whether `rename` may have failed because the lock has an owner; the codes differ between systems. */
const isTaken = (error: unknown) =>
  ['ENOTEMPTY', 'EEXIST', 'EPERM', 'EACCES', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? '');

/**
 * Takes the lock of a folder, which must exist. Returns what gives it back; a killed process needs not.
 * @throws ConfigError naming the process that has it; CheckpointError when the folder cannot be written.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const lock = join(folder, 'lock');
  const id = randomUUID();
  const own = `pid-${process.pid}-start-${(await startOf(process.pid)) ?? '0'}-${id}`;
  const prepared = `${lock}.${process.pid}.${id}.tmp`;
  const writing = (cause: unknown): never => {
    throw new CheckpointError(`${lock} could not be written`, { cause, hint: 'free disk space or check permissions' });
  };
  for (const name of await readdir(folder).catch(writing)) {
    const pid = PREPARED.exec(name)?.[1];
    if (pid && !exists(Number(pid)))
      await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
  try {
    await mkdir(prepared);
    await writeFile(join(prepared, own), '');
    for (let attempt = 1; ; attempt++) {
      const owner = await removeDead(lock);
      if (owner !== null) {
        throw new ConfigError(`process ${owner} is writing into ${folder}`, {
          hint: `wait for it, stop it (kill ${owner}), or choose another --out`,
        });
      }
      // Windows renames onto nothing that exists; a lock without an entry belongs to nobody.
      await rmdir(lock).catch(() => undefined);
      try {
        await rename(prepared, lock);
        break;
      } catch (error) {
        // Somebody else was faster, and is found at the next look.
        if (!isTaken(error) || attempt === ATTEMPTS) throw error;
      }
    }
  } catch (error) {
    await rm(prepared, { recursive: true, force: true }).catch(() => undefined);
    if (error instanceof ConfigError) throw error;
    return writing(error);
  }
  return async () => {
    await rm(join(lock, own), { force: true }).catch(() => undefined);
    await rmdir(lock).catch(() => undefined);
  };
}

/**
 * Works in a folder that no other process writes into meanwhile; a missing one is made, and goes again where nothing came of it.
 * @throws OutputError; what lockFolder and `work` throw
 */
export async function inLockedFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const isNew = !(await stat(folder).catch(() => null));
  await makeFolder(folder).catch((cause) => {
    throw new OutputError(`${folder} cannot be written`, { cause, hint: 'check free space and permissions' });
  });
  const unlock = await lockFolder(folder);
  try {
    return await work();
  } finally {
    await unlock();
    if (isNew) await rmdir(folder).catch(() => undefined);
  }
}

/** Removes the entries of dead owners. Returns the pid of a living one. */
async function removeDead(lock: string): Promise<number | null> {
  const entries = await readdir(lock).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    const [, pid, start] = ENTRY.exec(entry) ?? [];
    if (pid === undefined || start === undefined) throw new Error(`${join(lock, entry)} is no owner of a lock`);
    if (await isAlive(Number(pid), start)) return Number(pid);
    await rm(join(lock, entry), { force: true });
  }
  return null;
}
