/** `odelt data`: makes sets of pictures to train on. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { cacheFolder } from '../engine/folders.node.ts';
import { FACE_CLASSES, FACE_SIDE } from '../training/data/faces.ts';
import { makeFaceFiles } from '../training/data/make-face-files.node.ts';
import { type FacesOptions, makeFaces } from '../training/data/make-faces.node.ts';
import { interruptSignal } from './ends.node.ts';
import { duration, log, ProgressLine, print, printJson } from './output.node.ts';
import { number } from './session.node.ts';

interface FacesFlags {
  count?: number;
  test?: number;
  size?: number;
  json?: boolean;
}

const FACES_HELP = `
Drawn by DiceBear's Pixel Art (designs CC0 1.0) from a number each, so that
everybody gets the same pictures; those of the test part have other numbers. Written
in CIFAR-10's binary layout (184 MB), file by file: an interrupted run goes on. In
another --size each is a PNG file, in train/CLASS/ or test/CLASS/.

Classes: ${FACE_CLASSES.slice(0, 3).join('; ')}; ...

  odelt data faces
  odelt data faces --size 128 --count 2000 --test 200 faces128
  odelt train --data ~/.cache/odelt/data/faces --preset tiny --out runs/faces`;

export function addData(command: Command): void {
  command
    .command('faces')
    .description('draw 50,000 faces of 32 x 32 pixels in colour and 10,000 to test with, ten classes')
    .argument('[folder]', "where to (default: data/faces in odelt's folder in the user's cache)")
    .option(
      '--count <n>',
      'training pictures, a multiple of 5 (default 50,000)',
      number('--count', { min: 5, integer: true }),
    )
    .option('--test <n>', 'test pictures (default 10,000)', number('--test', { min: 1, integer: true }))
    .option(
      '--size <pixels>',
      'side, a multiple of 16 (default 32)',
      number('--size', { min: 16, max: 1024, integer: true }),
    )
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', FACES_HELP)
    .action(faces);
}

async function faces(given: string | undefined, flags: FacesFlags): Promise<void> {
  const { count = 50_000, test = 10_000, size = FACE_SIDE, json } = flags;
  const own = size === FACE_SIDE ? 'faces' : `faces${size}`;
  const folder = resolve(given ?? join(cacheFolder(), 'data', own));
  const signal = interruptSignal('stopping after these pictures');
  const line = new ProgressLine();
  const began = Date.now();
  try {
    const options: FacesOptions = {
      ...{ count, test, signal },
      onProgress(done, total) {
        const seconds = (Date.now() - began) / 1000;
        line.update(`${done} of ${total} faces, ${duration((seconds / done) * (total - done))} left`);
      },
    };
    await (size === FACE_SIDE ? makeFaces(folder, options) : makeFaceFiles(folder, size, options));
  } finally {
    line.end();
  }
  if (json) return printJson({ folder, size, count, test, classes: FACE_CLASSES });
  log(`${count} faces to train on, ${test} to test with, ${FACE_CLASSES.length} classes, in`);
  print(folder);
}
