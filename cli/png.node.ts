/** Writes pictures to PNG files, whole or not at all. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Picture } from '../sampling/picture.ts';
import { encodePng } from '../sampling/png.ts';

/** Writes to a temporary name beside `file`, then renames; makes missing folders. Returns the file's size in bytes. */
export function writePng(file: string, picture: Picture): number {
  const bytes = encodePng(picture);
  mkdirSync(dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, bytes);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  return bytes.length;
}
