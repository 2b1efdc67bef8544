/** Writes the set of faces in CIFAR-10's binary layout, which `openDataset` reads: file by file, so that an interrupted run goes on. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, InterruptedError } from '../../engine/errors.ts';
import { makeFolder } from '../../engine/folders.node.ts';
import { checkOutput, writeAtomically, writeText } from '../../formats/files.node.ts';
import { CIFAR } from './cifar.ts';
import { FACE_CLASSES, FACE_SIDE, faceClass, facePainter } from './faces.ts';

const PIXELS = FACE_SIDE * FACE_SIDE;
const RECORD = 1 + 3 * PIXELS;
/** Pictures that sharp is asked for at once. */
const AT_ONCE = 64;

/** How many faces, and who is told. */
export interface FacesOptions {
  /** Pictures of the training part, a multiple of 5. Default 50,000. */
  readonly count?: number;
  /** Of the test part. Default 10,000. */
  readonly test?: number;
  readonly signal?: AbortSignal;
  /** Told after every few pictures how many there are, those of earlier runs included. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** A file of the set: faces `first` to `first + count` of a part. */
interface Batch {
  readonly name: string;
  readonly part: 'train' | 'test';
  readonly first: number;
  readonly count: number;
}

function batchesOf(count: number, test: number): Batch[] {
  const files = CIFAR[10].files.train;
  const each = count / files.length;
  if (!Number.isInteger(each) || each < 1)
    throw new ConfigError(`${count} training pictures cannot be put into ${files.length} files of as many each`, {
      hint: `give a multiple of ${files.length}`,
    });
  if (!Number.isInteger(test) || test < 1) throw new ConfigError(`${test} test pictures: give a positive integer`);
  return [
    ...files.map((name, k) => ({ name, part: 'train' as const, first: k * each, count: each })),
    { name: CIFAR[10].files.test[0]!, part: 'test', first: 0, count: test },
  ];
}

/**
 * Makes the set in a folder: data_batch_1.bin to 5, test_batch.bin and batches.meta.txt. A file of the right size from an earlier run
 * is kept; its faces would be the same.
 * @throws ConfigError; OutputError before anything is drawn; UnsupportedError without sharp; InterruptedError, files being whole.
 */
export async function makeFaces(folder: string, options: FacesOptions = {}): Promise<void> {
  const { count = 50_000, test = 10_000, signal, onProgress } = options;
  const batches = batchesOf(count, test);
  await checkOutput('the folder of faces', folder, { folder: true });
  await makeFolder(folder);
  const paint = await facePainter();
  const total = count + test;
  let done = 0;
  for (const batch of batches) {
    const path = join(folder, batch.name);
    const known = await stat(path).catch(() => null);
    if (known?.size !== batch.count * RECORD) {
      const records = new Uint8Array(batch.count * RECORD);
      for (let first = 0; first < batch.count; first += AT_ONCE) {
        if (signal?.aborted)
          throw new InterruptedError(`drawing faces was interrupted after ${done} of ${total}; whole files stay`);
        const some = Array.from({ length: Math.min(AT_ONCE, batch.count - first) }, (_, k) => first + k);
        await Promise.all(
          some.map(async (row) => {
            const i = batch.first + row;
            fill(records.subarray(row * RECORD, (row + 1) * RECORD), faceClass(i), await paint(batch.part, i));
          }),
        );
        done += some.length;
        onProgress?.(done, total);
      }
      await writeAtomically(path, [records]);
    } else {
      done += batch.count;
      onProgress?.(done, total);
    }
  }
  await writeText(join(folder, CIFAR[10].names), `${FACE_CLASSES.join('\n')}\n`);
}

/** One record: the label, then the red, the green and the blue plane. */
function fill(record: Uint8Array, label: number, pixels: Uint8Array): void {
  record[0] = label;
  for (let p = 0; p < PIXELS; p++) for (let c = 0; c < 3; c++) record[1 + c * PIXELS + p] = pixels[p * 3 + c]!;
}
