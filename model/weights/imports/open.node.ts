/** Checkpoints of other programs on disk: one file, or an index with the files beside it. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CheckpointError } from '../../../engine/errors.ts';
import { failAs, openRegular, type RegularFile } from '../../../formats/files.node.ts';
import { beginsSafetensors, LENGTH_BYTES } from '../../../formats/safetensors-header.ts';
import { type Checkpointed, openCheckpoint } from './open.ts';

/** What a folder of safetensors in many files has. */
const INDEX = 'model.safetensors.index.json';

/** A checkpoint whose files stay open until `close`. */
export interface CheckpointOnDisk extends Checkpointed {
  /** The file that was opened. */
  readonly path: string;
  /** Closes all of its files; may be called more than once. */
  close(): Promise<void>;
}

/** The file of a checkpoint at a path, which may be a folder with an index; undefined for a folder without one. */
export async function checkpointFile(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => null);
  if (!info?.isDirectory()) return path;
  const index = join(path, INDEX);
  return (await stat(index).catch(() => null))?.isFile() ? index : undefined;
}

/** Opens a checkpoint file; see `openCheckpoint`. @throws CheckpointError, for what cannot be read too. */
export async function openCheckpointFile(path: string): Promise<CheckpointOnDisk> {
  const opened: RegularFile[] = [];
  const open = async (file: string): Promise<RegularFile> => {
    const hint = 'give a checkpoint that you may read and that stays as it is meanwhile';
    const found = await openRegular(file, failAs(CheckpointError, file, hint));
    opened.push(found);
    return found;
  };
  const close = async () => {
    await Promise.all(opened.map((file) => file.close()));
  };
  try {
    const found = await openCheckpoint(await open(path), path, (name) => open(join(dirname(path), name)));
    return { ...found, path, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Whether a file's first bytes are those of safetensors. @throws CheckpointError for what cannot be read. */
export async function isSafetensors(path: string): Promise<boolean> {
  const file = await openRegular(path, failAs(CheckpointError, path));
  try {
    return beginsSafetensors(await file.read(0, Math.min(LENGTH_BYTES + 1, file.size)));
  } finally {
    await file.close();
  }
}
