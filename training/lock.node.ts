/**
 * One process that writes per folder: of a run, of latents, of results. The lock is a folder `lock` that holds one entry, named
 * after its owner's pid and start: it is taken by renaming a prepared folder to that name, which the system refuses while `lock` has
 * an entry, so of several starters one wins. A dead owner's entry is removed by its own name, which can never be that of a newer
 * owner. Whether an owner lives can be told by its pid only where that means the same process; one of another machine or container
 * lives as long as it touches its entry now and then.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, readlink, rename, rm, rmdir, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { CheckpointError, ConfigError, OutputError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';

const ENTRY = /^pid-(\d+)-start-(\d+)-[0-9a-f-]+$/;
/**
 * Milliseconds between two signs of life, and after how many without one an owner elsewhere counts as gone. Long, as one may compute for
 * minutes without a turn for anything else, and clocks of machines differ.
 */
const LIFE = { sign: 15_000, gone: 300_000 } as const;
/** Looks at a lock that others take and give back meanwhile. */
const ATTEMPTS = 50;
const PREPARED = /^lock\.(\d+)(?:-([0-9a-f]{8}))?\.[0-9a-f-]+\.tmp$/;

/** Where a pid means something; entries of earlier versions do not say it, and count as of here. */
interface Place {
  readonly host: string;
  /** Of this start of the system, and of the machine whichever its start; '' where the system does not say. */
  readonly boot: string;
  readonly machine: string;
  /** Of pids, as containers have one each. */
  readonly namespace: string;
}

async function ownPlace(): Promise<Place> {
  const of = (text: Promise<string>) => text.then((all) => all.trim()).catch(() => '');
  return {
    host: hostname(),
    boot: await of(readFile('/proc/sys/kernel/random/boot_id', 'utf8')),
    machine: await of(readFile('/etc/machine-id', 'utf8')),
    namespace: await of(readlink('/proc/self/ns/pid')),
  };
}

/** Whether its pids are those of here; 'ended': all processes of then are gone, as the machine has been started anew. */
function relation(its: Place, own: Place): 'here' | 'elsewhere' | 'ended' {
  if (its.boot === own.boot) {
    const same = own.boot === '' ? its.host === own.host : its.namespace === own.namespace;
    return same ? 'here' : 'elsewhere';
  }
  return its.machine !== '' && its.machine === own.machine && its.host === own.host ? 'ended' : 'elsewhere';
}

/** What an entry says; null of earlier versions, which say nothing. */
async function placeOf(entry: string): Promise<Place | null> {
  const text = await readFile(entry, 'utf8');
  const place = (text === '' ? null : JSON.parse(text)) as Place | null;
  return typeof place?.host === 'string' ? place : null;
}

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
  const here = await ownPlace();
  const own = `pid-${process.pid}-start-${(await startOf(process.pid)) ?? '0'}-${id}`;
  const place = createHash('sha256').update(JSON.stringify(here)).digest('hex').slice(0, 8);
  const prepared = `${lock}.${process.pid}-${place}.${id}.tmp`;
  const writing = (cause: unknown): never => {
    throw new CheckpointError(`${lock} could not be written`, { cause, hint: 'free disk space or check permissions' });
  };
  for (const name of await readdir(folder).catch(writing)) {
    const [, pid, mark = place] = PREPARED.exec(name) ?? [];
    if (pid && mark === place && !exists(Number(pid)))
      await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
  try {
    await mkdir(prepared);
    await writeFile(join(prepared, own), JSON.stringify(here));
    for (let attempt = 1; ; attempt++) {
      const owner = await removeDead(lock, here);
      if (owner?.elsewhere !== undefined) {
        throw new ConfigError(
          `process ${owner.pid} on ${owner.elsewhere} is writing into ${folder}, or was ${owner.ago} s ago`,
          {
            hint: `wait for it, stop it, or choose another --out; if it is gone, remove ${lock}, or wait: without a sign of life for ${LIFE.gone / 60_000} minutes it counts as gone`,
          },
        );
      }
      if (owner) {
        throw new ConfigError(`process ${owner.pid} is writing into ${folder}`, {
          hint: `wait for it, stop it (kill ${owner.pid}), or choose another --out`,
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
  const living = setInterval(() => {
    const now = new Date();
    utimes(join(lock, own), now, now).catch(() => undefined);
  }, LIFE.sign);
  living.unref();
  return async () => {
    clearInterval(living);
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

/** A living owner; of one elsewhere its host, and the seconds since its last sign of life. */
interface Owner {
  readonly pid: string;
  readonly elsewhere?: string;
  readonly ago?: number;
}

/** Removes the entries of dead owners. */
async function removeDead(lock: string, here: Place): Promise<Owner | null> {
  const entries = await readdir(lock).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    const [, pid, start] = ENTRY.exec(entry) ?? [];
    if (pid === undefined || start === undefined) throw new Error(`${join(lock, entry)} is no owner of a lock`);
    const place = await placeOf(join(lock, entry)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined; // given back meanwhile
      throw error;
    });
    if (place === undefined) continue;
    const where = place ? relation(place, here) : 'here';
    if (where === 'elsewhere') {
      const sign = await stat(join(lock, entry)).catch(() => null);
      const since = Math.max(0, Date.now() - (sign?.mtimeMs ?? 0));
      if (since < LIFE.gone) return { pid, elsewhere: place!.host, ago: Math.round(since / 1000) };
    }
    if (where === 'here' && (await isAlive(Number(pid), start))) return { pid };
    await rm(join(lock, entry), { force: true });
  }
  return null;
}
