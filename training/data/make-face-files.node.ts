/** Writes the set of faces in another size than CIFAR-10's: a PNG file each, in train/CLASS/ and test/CLASS/, which `openDataset` reads. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, InterruptedError } from '../../engine/errors.ts';
import { makeFolder } from '../../engine/folders.node.ts';
import { checkOutput, writeAtomically } from '../../formats/files.node.ts';
import { checkFaceSide, FACE_CLASSES, faceClass, facePainter } from './faces.ts';
import type { FacesOptions } from './make-faces.node.ts';
import { loadSharp } from './sharp.ts';

/** Pictures that sharp is asked for at once. */
const AT_ONCE = 16;

/**
 * Makes the set in a folder. Files of an earlier run are kept; their faces would be the same if their size is.
 * @throws ConfigError for a side that is no multiple of 16; OutputError before anything is drawn; UnsupportedError without sharp;
 * InterruptedError, files being whole.
 */
export async function makeFaceFiles(folder: string, side: number, options: FacesOptions = {}): Promise<void> {
  const { count = 50_000, test = 10_000, signal, onProgress } = options;
  checkFaceSide(side);
  for (const n of [count, test])
    if (!Number.isInteger(n) || n < 1) throw new ConfigError(`${n} faces: give a positive integer`);
  await checkOutput('the folder of faces', folder, { folder: true });
  const [sharp, paint] = [await loadSharp(), await facePainter(side)];
  const total = count + test;
  const raw = { width: side, height: side, channels: 3 } as const;
  let done = 0;
  for (const [part, faces] of [['train', count] as const, ['test', test] as const]) {
    for (const name of FACE_CLASSES) await makeFolder(join(folder, part, name));
    for (let first = 0; first < faces; first += AT_ONCE) {
      if (signal?.aborted)
        throw new InterruptedError(`drawing faces was interrupted after ${done} of ${total}; they stay`);
      const some = Array.from({ length: Math.min(AT_ONCE, faces - first) }, (_, k) => first + k);
      await Promise.all(
        some.map(async (i) => {
          const file = join(folder, part, FACE_CLASSES[faceClass(i)]!, `${String(i).padStart(6, '0')}.png`);
          if (await stat(file).catch(() => null)) return;
          await writeAtomically(file, [
            await sharp(await paint(part, i), { raw })
              .png()
              .toBuffer(),
          ]);
        }),
      );
      done += some.length;
      onProgress?.(done, total);
    }
  }
}
