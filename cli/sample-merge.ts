/** `odelt sample merge`: one sheet, or one array, of samples that were drawn in parts. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { InterruptedError } from '../engine/errors.ts';
import { checkPictureSize, gridSize } from '../pictures/picture.ts';
import { openSamplePart, readPartSamples } from '../sampling/sample-parts.node.ts';
import { checkSampleParts } from '../sampling/sample-parts.ts';
import { interruptSignal } from './ends.node.ts';
import { log, printJson } from './output.node.ts';
import { checkOutputs, isArray, writeSamples } from './sample-output.ts';

export function addSampleMerge(command: Command): void {
  command
    .description('make one file of samples that were drawn with --shard, from all parts')
    .argument('<files...>', 'what --shard wrote, such as out/sample-*-of-4.json; the .npy beside each is read')
    .option('--out <file>', 'PNG to write, or a .npy file of the numbers', join('out', 'sample.png'))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nThe file is the one that `odelt sample` without --shard writes.\n\nExample:\n  odelt sample merge out/sample-*-of-4.json',
    )
    .action((files: string[], flags: { out: string; json?: boolean }) => merge(files, flags));
}

async function merge(files: string[], { out, json }: { out: string; json?: boolean }): Promise<void> {
  await checkOutputs(out);
  const signal = interruptSignal('stopping');
  const parts = checkSampleParts(await Promise.all(files.map(openSamplePart)));
  const { shape, sheet } = parts[0]!.record;
  const [count, height, width, channels] = shape;
  if (!isArray(out)) {
    const size = gridSize(count, { width, height }, sheet);
    checkPictureSize(`a sheet of ${count} pictures`, size.width, size.height);
  }
  const values = new Float32Array(count * height * width * channels);
  let at = 0;
  for (const part of parts) {
    if (signal.aborted) throw new InterruptedError('merging was interrupted; nothing was written');
    const read = await readPartSamples(part);
    values.set(read, at);
    at += read.length;
  }
  await writeSamples(out, values, shape, sheet);
  if (json) printJson({ out, samples: count, parts: parts.length });
  log(`wrote ${count} samples of ${parts.length} parts: ${out}`);
}
