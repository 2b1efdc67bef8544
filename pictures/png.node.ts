/** Writes pictures to PNG files, whole or not at all. */
import { writeAtomically } from '../formats/files.node.ts';
import type { Picture } from './picture.ts';
import { encodePng } from './png.ts';

/** Writes the picture to `file`, making missing folders. Returns the file's size in bytes. @throws OutputError */
export async function writePng(file: string, picture: Picture): Promise<number> {
  const bytes = encodePng(picture);
  await writeAtomically(file, [bytes]);
  return bytes.length;
}
