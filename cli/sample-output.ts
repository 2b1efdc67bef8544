/** What `odelt sample` writes: a sheet, an array, or the files of a part, with all that decided its numbers. */
import { basename, extname } from 'node:path';
import { describeMachine } from '../bench/machine.node.ts';
import { ConfigError } from '../engine/errors.ts';
import { weightsDigest } from '../evaluation/evaluate.ts';
import { checkOutput, writeAtomically } from '../formats/files.node.ts';
import { writeNpy } from '../formats/npy-write.ts';
import type { GroupSource } from '../model/weights/source.ts';
import { fromUnit, grid } from '../pictures/picture.ts';
import { writePng } from '../pictures/png.node.ts';
import type { SampleRequest } from '../sampling/request.ts';
import { partFiles, writeSamplePart } from '../sampling/sample-parts.node.ts';
import type { SamplePart } from '../sampling/sample-parts.ts';
import type { Samples } from '../sampling/sampler.ts';
import { describeShard, type Shard } from '../sampling/shards.ts';
import type { Session } from './session.node.ts';

/** Whether a file is to hold samples as numbers. */
export const isArray = (out: string): boolean => out.endsWith('.npy');

/** @throws ConfigError for a file whose name says that it is neither a PNG nor, with `numbers`, a .npy; one without an ending is a PNG */
export function checkEnding(out: string, { numbers = true } = {}): void {
  const ending = extname(out);
  const isFile = basename(out) !== '-' && ['', '.png', '.PNG', ...(numbers ? ['.npy'] : [])].includes(ending);
  if (isFile) return;
  const known = numbers ? 'a PNG, or as .npy the numbers,' : 'a PNG';
  throw new ConfigError(`--out is '${out}'; ${known} can be written`, {
    hint: `give a file that ends with .png${numbers ? ' or .npy' : ''}`,
  });
}

/** Samples as a sheet, or as numbers where the file's name says so. @throws OutputError */
export async function writeSamples(
  out: string,
  values: Float32Array,
  shape: readonly [number, number, number, number],
  sheet: { readonly columns: number; readonly scale: number },
): Promise<void> {
  if (isArray(out)) return writeAtomically(out, [writeNpy({ shape, values })]);
  await writePng(out, grid(fromUnit(values, shape[2], shape[1], shape[3]), sheet));
}

/** @throws as checkEnding and as checkOutput, for each file that is to be written */
export async function checkOutputs(out: string, shard?: Shard): Promise<void> {
  checkEnding(out);
  for (const file of shard ? Object.values(partFiles(out, shard)) : [out]) await checkOutput('--out', file);
}

/** A part that is to be kept. */
interface Part {
  readonly out: string;
  readonly shard: Shard;
  readonly samples: Samples;
  /** How many samples there are in all. */
  readonly count: number;
  readonly sheet: SamplePart['sheet'];
  /** The request and the settings: all that decides numbers, but for what this adds. */
  readonly how: Readonly<Record<string, unknown>>;
}

/** Writes the files of a part and returns the one that says what it is. @throws OutputError, InterruptedError */
export async function writePart(
  { engine, adapter: { adapter } }: Session,
  source: GroupSource,
  { out, shard, samples, count, sheet, how }: Part,
  signal: AbortSignal,
): Promise<string> {
  const { values, shape, range } = samples;
  const [, height, width, channels] = shape;
  const { odelt } = describeMachine().versions as { odelt: string };
  const settings = {
    model: await weightsDigest(source, signal),
    ...how,
    tuning: engine.tuning?.choices,
    adapter: [adapter.name, adapter.driver].filter(Boolean).join(', '),
    odelt,
  };
  const files = partFiles(out, shard);
  if (!isArray(out)) await writeSamples(files.sheet, values, shape, sheet);
  await writeSamplePart(out, { shard, range, shape: [count, height, width, channels], sheet, settings }, values);
  return files.record;
}

/** How many pictures, or which part of them. */
export const picturesText = ({ labels: { length }, shard }: SampleRequest): string =>
  shard ? `part ${describeShard(shard)} of ${length} pictures` : `${length} pictures`;
