/** `odelt data`: makes sets of pictures to train on. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { cacheFolder } from '../engine/folders.node.ts';
import { FACE_CLASSES } from '../training/data/faces.ts';
import { makeFaces } from '../training/data/make-faces.node.ts';
import { interruptSignal } from './ends.node.ts';
import { duration, log, ProgressLine, print, printJson } from './output.node.ts';
import { number } from './session.node.ts';

interface FacesFlags {
  count?: number;
  test?: number;
  json?: boolean;
}

const FACES_HELP = `
Drawn by DiceBear's Pixel Art (designs CC0 1.0) from a number each, so that
everybody gets the same pictures; those of the test part have other numbers. Written
in CIFAR-10's binary layout (184 MB), file by file: an interrupted run goes on.

Classes: ${FACE_CLASSES.slice(0, 3).join('; ')}; ...

  odelt data faces
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
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', FACES_HELP)
    .action(faces);
}

async function faces(given: string | undefined, { count = 50_000, test = 10_000, json }: FacesFlags): Promise<void> {
  const folder = resolve(given ?? join(cacheFolder(), 'data', 'faces'));
  const signal = interruptSignal('stopping after these pictures');
  const line = new ProgressLine();
  const began = Date.now();
  try {
    await makeFaces(folder, {
      ...{ count, test, signal },
      onProgress(done, total) {
        const seconds = (Date.now() - began) / 1000;
        line.update(`${done} of ${total} faces, ${duration((seconds / done) * (total - done))} left`);
      },
    });
  } finally {
    line.end();
  }
  if (json) return printJson({ folder, count, test, classes: FACE_CLASSES });
  log(`${count} faces to train on, ${test} to test with, ${FACE_CLASSES.length} classes, in`);
  print(folder);
}
