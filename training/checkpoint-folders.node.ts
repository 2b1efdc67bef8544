/** The folders that checkpoints lie in: which of their entries are whole checkpoints, and how one goes away without ever looking whole. */
import { lstat, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
import { OWN_NAME, syncFolder, TEMPORARY } from '../formats/files.node.ts';
import { SUMS_FILE } from './checksums.node.ts';

/** What a checkpoint must hold; checkpoints of earlier versions have no sums. */
const FILES = ['model.safetensors', 'ema.safetensors', 'optim.safetensors', 'state.json'] as const;
/** What it holds besides where the objective has a teacher. */
export const TEACHER_FILE = 'teacher.safetensors';
const OURS: ReadonlySet<string> = new Set([...FILES, TEACHER_FILE, SUMS_FILE]);
const NAME = /^step-(0|[1-9]\d{0,14})$/;

export interface CheckpointList {
  /** Ascending. */
  readonly steps: number[];
  /** Entries called step-N that are no checkpoints. `reason` follows the name: "has no state.json". */
  readonly skipped: { readonly name: string; readonly reason: string }[];
}

/** What a folder holds under the names of checkpoints. @throws CheckpointError for a folder that cannot be read. */
export async function listCheckpoints(folder: string): Promise<CheckpointList> {
  const names = await entriesOf(folder);
  const list: CheckpointList = { steps: [], skipped: [] };
  for (const name of names) {
    const step = NAME.exec(name)?.[1];
    if (step === undefined) continue;
    const reason = await whyNotWhole(join(folder, name));
    if (reason === null) list.steps.push(Number(step));
    else list.skipped.push({ name, reason });
  }
  list.steps.sort((a, b) => a - b);
  return list;
}

async function entriesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return [];
    throw new CheckpointError(`${folder} cannot be read`, { cause, hint: 'check its permissions' });
  });
}

async function whyNotWhole(at: string): Promise<string | null> {
  const folder = await stat(at).catch(() => null);
  if (!folder?.isDirectory()) return 'is no folder';
  for (const file of FILES) {
    const info = await stat(join(at, file)).catch(() => null);
    if (info === null) return `has no ${file}`;
    if (!info.isFile()) return `has no regular file ${file}`;
  }
  return null;
}

/** Removes a checkpoint: it loses its name first, and for good, so that a half-removed one is not taken for one. */
export async function removeStep(folder: string, step: number): Promise<void> {
  const doomed = await takeName(folder, step);
  await syncFolder(folder);
  await rm(doomed, { recursive: true, force: true });
}

/** Renames a checkpoint to what `removeLeftovers` takes away. Returns its new path. */
async function takeName(folder: string, step: number): Promise<string> {
  const doomed = join(folder, `step-${step}.${OWN_NAME}.old.tmp`);
  await rename(join(folder, `step-${step}`), doomed);
  return doomed;
}

/** Removes what processes that are gone have left half-written or half-removed. The caller must be the only one that writes here. */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await entriesOf(folder)) {
    if (/^step-\d+$/.test(name.replace(TEMPORARY, '')) && TEMPORARY.test(name))
      await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Gives an entry another name, under which nobody looks for a checkpoint. Returns that name. */
export async function moveAside(folder: string, name: string): Promise<string> {
  for (let n = 1; ; n++) {
    const aside = `${name}.aside-${n}`;
    const taken = await lstat(join(folder, aside)).catch(() => null);
    if (taken) continue;
    await rename(join(folder, name), join(folder, aside));
    return aside;
  }
}

/**
 * Frees the name step-N. An earlier checkpoint, whole or in part, is renamed, and returned to be removed once the new one is there;
 * what is not ours is moved aside and `onNotice` told.
 */
export async function clearPlace(
  folder: string,
  step: number,
  onNotice: (text: string) => void,
): Promise<string | null> {
  const name = `step-${step}`;
  const found = await lstat(join(folder, name)).catch(() => null);
  if (!found) return null;
  const isOurs = found.isDirectory() && (await readdir(join(folder, name))).every((entry) => OURS.has(entry));
  if (isOurs) return takeName(folder, step);
  onNotice(`${name} is no checkpoint: moved to ${await moveAside(folder, name)}`);
  return null;
}
