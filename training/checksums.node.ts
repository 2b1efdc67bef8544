/**
 * Checksums of a folder's files, kept beside them in `SHA256SUMS` as the command sha256sum reads it: taken while the files are
 * written, and compared when they are read.
 */
import { createHash, type Hash } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from '../engine/errors.ts';
import { digestOfFile, failAs, readRegular, writeAtomically, writeText } from '../formats/files.node.ts';

export const SUMS_FILE = 'SHA256SUMS';

/** Name of a file to its sha256 in hexadecimal. */
export type Sums = ReadonlyMap<string, string>;

function* digesting(chunks: Iterable<Uint8Array>, hash: Hash): Generator<Uint8Array> {
  for (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

/** Writes files into one folder and keeps their sums; `finish` writes them down. @throws OutputError */
export function summedFolder(folder: string) {
  const sums = new Map<string, string>();
  return {
    async write(name: string, chunks: Iterable<Uint8Array>): Promise<void> {
      const hash = createHash('sha256');
      await writeAtomically(join(folder, name), digesting(chunks, hash));
      sums.set(name, hash.digest('hex'));
    },
    async finish(): Promise<void> {
      const text = Array.from(sums, ([name, sum]) => `${sum}  ${name}\n`).join('');
      await writeText(join(folder, SUMS_FILE), text);
    },
  };
}

/** A folder's sums; null where it has none, as folders of earlier versions. @throws CheckpointError for lines that are no sums. */
export async function readSums(folder: string): Promise<Sums | null> {
  const path = join(folder, SUMS_FILE);
  const missing = await lstat(path).then(
    () => false,
    (cause: NodeJS.ErrnoException) => cause.code === 'ENOENT' || cause.code === 'ENOTDIR',
  );
  if (missing) return null;
  const text = new TextDecoder().decode(
    await readRegular(path, { most: 1 << 16, fail: failAs(CheckpointError, path) }),
  );
  const sums = new Map<string, string>();
  for (const line of text.split('\n').slice(0, -1)) {
    const [, sum, name] = /^([0-9a-f]{64}) {2}(\S+)$/.exec(line) ?? [];
    if (sum === undefined || name === undefined) {
      throw new CheckpointError(`${path} is damaged: line ${sums.size + 1} is no checksum`);
    }
    sums.set(name, sum);
  }
  return sums;
}

/** Reads a file and compares it with its sum. @throws CheckpointError naming the file, what was expected and what was found. */
export async function checkSum(folder: string, name: string, sums: Sums): Promise<void> {
  const path = join(folder, name);
  const expected = sums.get(name);
  if (expected === undefined)
    throw new CheckpointError(`${join(folder, SUMS_FILE)} is damaged: it has no sum of ${name}`);
  const found = await digestOfFile(path, failAs(CheckpointError, path));
  if (found !== expected) {
    throw new CheckpointError(`${path} is damaged: its sha256 is ${found}, and ${expected} when it was written`, {
      hint: 'use another checkpoint, or bring the file back from a copy',
    });
  }
}
