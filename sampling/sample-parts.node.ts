/** Parts of samples on disk: a file of the samples for each, and one that says what they are, written last. */
import { createHash } from 'node:crypto';
import { basename, dirname, extname, join } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { type FailFile, failAs, readRegular, writeAtomically, writeText } from '../formats/files.node.ts';
import { readNpy } from '../formats/npy.ts';
import { writeNpy } from '../formats/npy-write.ts';
import type { NamedSamplePart, SamplePart } from './sample-parts.ts';

/** Larger than any list of labels, and than the samples of a request. */
const [MOST_RECORD, MOST_SAMPLES] = [2 ** 28, 2 ** 32];

const AGAIN = 'draw that part again';

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The files of a part, or of all with `*`, of what would be written to `out`: `sample.png` gives `sample-0-of-4.json`, `.npy` and `.png`. */
export function partFiles(
  out: string,
  { index, of }: { readonly index: number | '*'; readonly of: number },
): { record: string; samples: string; sheet: string } {
  const base = `${join(dirname(out), basename(out, extname(out)))}-${index}-of-${of}`;
  return { record: `${base}.json`, samples: `${base}.npy`, sheet: `${base}.png` };
}

/** Writes the samples of a part, then what they are. @throws OutputError */
export async function writeSamplePart(
  out: string,
  part: Omit<SamplePart, 'file' | 'sha256'>,
  values: Float32Array,
): Promise<SamplePart> {
  const files = partFiles(out, part.shard);
  const [from, to] = part.range;
  const bytes = writeNpy({ shape: [to - from, ...part.shape.slice(1)], values });
  await writeAtomically(files.samples, [bytes]);
  const record = { ...part, file: basename(files.samples), sha256: hash(bytes) };
  await writeText(files.record, `${JSON.stringify(record, null, 1)}\n`);
  return record;
}

/** @throws ConfigError for a file that describes no part of samples */
export async function openSamplePart(path: string): Promise<NamedSamplePart> {
  const fail: FailFile = failAs(ConfigError, path, 'odelt sample --shard writes such files, with .json at the end');
  const text = new TextDecoder().decode(await readRegular(path, { most: MOST_RECORD, fail }));
  let json: Partial<SamplePart> | null;
  try {
    json = JSON.parse(text) as Partial<SamplePart> | null;
  } catch (cause) {
    return fail('is no JSON', cause);
  }
  const { shard, range, shape, sheet, settings, file, sha256 } = json ?? {};
  const numbers = [shard?.index, shard?.of, range?.[0], range?.[1], sheet?.columns, sheet?.scale, ...(shape ?? [])];
  const whole =
    numbers.every((n) => Number.isSafeInteger(n) && n! >= 0) &&
    shape?.length === 4 &&
    shard!.index < shard!.of &&
    typeof settings === 'object' &&
    settings !== null &&
    typeof file === 'string' &&
    file === basename(file) &&
    typeof sha256 === 'string';
  if (!whole) return fail('does not describe a part of samples');
  const record = json as SamplePart;
  return { name: path, shard: record.shard, record };
}

/** The samples of a part [samples, H, W, C]. @throws ConfigError for a file that is missing, damaged, or not of this part */
export async function readPartSamples({ name, record }: NamedSamplePart): Promise<Float32Array> {
  const path = join(dirname(name), record.file);
  const fail: FailFile = failAs(ConfigError, path, AGAIN);
  const bytes = await readRegular(path, { most: MOST_SAMPLES, fail });
  if (hash(bytes) !== record.sha256) fail('is not the file that was written: its checksum differs');
  const { values } = readNpy(bytes, path);
  const [from, to] = record.range;
  const wanted = (to - from) * record.shape.slice(1).reduce((product, n) => product * n, 1);
  if (!(values instanceof Float32Array) || values.length !== wanted) return fail(`does not hold ${wanted} numbers`);
  return values;
}
