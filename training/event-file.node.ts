/**
 * A TensorBoard event file in a run folder. Each start of a run has one of its own, whose first record says from which update on it
 * counts: TensorBoard then forgets what earlier files say of these updates, so that a run that was killed and goes on has none twice.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { OutputError } from '../engine/errors.ts';
import { makeFolder } from '../engine/folders.node.ts';
import { type EventContent, eventBytes } from '../formats/tensorboard.ts';

/** An event file that is open for writing. */
export interface EventFile {
  readonly path: string;
  /** Writes a record. @throws OutputError */
  write(step: number, content: EventContent): Promise<void>;
  /** Returns once everything is on the disk. May be called more than once. @throws OutputError */
  close(): Promise<void>;
}

const NAME = /^events\.out\.tfevents\.(\d+)\./;

/** Seconds since 1970, or more where a file has that already: TensorBoard reads files in the order of their names. */
async function laterThanAll(folder: string): Promise<number> {
  const times = (await readdir(folder)).map((name) => Number(NAME.exec(name)?.[1] ?? 0));
  return Math.max(Math.floor(Date.now() / 1000), ...times.map((time) => time + 1));
}

/** Starts a file in the folder for the updates after number `done`. @throws OutputError where it cannot be written */
export async function startEventFile(folder: string, done: number): Promise<EventFile> {
  const failed = (path: string, cause: unknown): never => {
    throw new OutputError(`${path} cannot be written`, { cause, hint: 'check free space and permissions' });
  };
  const start = async () => {
    await makeFolder(folder);
    const time = String(await laterThanAll(folder)).padStart(10, '0');
    const name = `events.out.tfevents.${time}.${hostname()}.${process.pid}.0`;
    return { path: join(folder, name), handle: await open(join(folder, name), 'wx') };
  };
  const { path, handle } = await start().catch((cause: unknown) => failed(join(folder, 'events.out.tfevents'), cause));
  let opened: FileHandle | null = handle;
  const file: EventFile = {
    path,
    async write(step, content) {
      const bytes = eventBytes(Date.now() / 1000, step, content);
      try {
        for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
      } catch (cause) {
        failed(path, cause);
      }
    },
    async close() {
      const closing = opened;
      opened = null;
      try {
        await closing?.sync();
      } catch (cause) {
        failed(path, cause);
      } finally {
        await closing?.close();
      }
    },
  };
  try {
    await file.write(0, 'version');
    // The first update to come has this number.
    await file.write(done + 1, 'start');
    return file;
  } catch (error) {
    await file.close().catch(() => {});
    throw error;
  }
}
