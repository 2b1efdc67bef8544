/** The folder of a part of an evaluation: what it is and which cells it has (shard.json), and a file of features for each cell. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../engine/errors.ts';
import { type FailFile, failAs, readRegular, writeAtomically, writeText } from '../formats/files.node.ts';
import { readNpy } from '../formats/npy.ts';
import { writeNpy } from '../formats/npy-write.ts';
import type { Drawn } from './draw.ts';
import type { ShardCell, ShardPart, ShardRecord } from './shards.ts';

/** Larger than any list of cells, and than the features of a part. */
const [MOST_RECORD, MOST_FEATURES] = [2 ** 26, 2 ** 32];

/** The file that says what a part is. */
export const shardFile = (folder: string): string => join(folder, 'shard.json');

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The part in a folder; undefined where there is none. @throws ConfigError for a file that is none */
export async function readShard(folder: string): Promise<ShardRecord | undefined> {
  const path = shardFile(folder);
  const there = await stat(path).catch((cause: NodeJS.ErrnoException) => (cause.code === 'ENOENT' ? null : undefined));
  if (there === null) return undefined;
  const fail: FailFile = failAs(ConfigError, path, 'draw that part again, into another folder');
  const text = new TextDecoder().decode(await readRegular(path, { most: MOST_RECORD, fail }));
  let json: Partial<ShardRecord> | null;
  try {
    json = JSON.parse(text) as Partial<ShardRecord> | null;
  } catch (cause) {
    return fail('is no JSON', cause);
  }
  const { shard, range, shape, provenance, cells } = json ?? {};
  const isCell = (cell: Partial<ShardCell>) =>
    typeof cell?.file === 'string' &&
    /^[\w.-]+\.npy$/.test(cell.file) &&
    typeof cell.key === 'object' &&
    typeof cell.sha256 === 'string';
  const whole =
    [shard?.index, shard?.of, range?.[0], range?.[1], shape?.imageSize, shape?.channels].every(Number.isInteger) &&
    Number.isInteger(provenance?.features?.width) &&
    Array.isArray(cells) &&
    cells.every(isCell);
  return whole ? (json as ShardRecord) : fail('does not describe a part of an evaluation');
}

/** The part in a folder, for merging. @throws ConfigError where there is none */
export async function openShard(folder: string): Promise<ShardPart> {
  const record = await readShard(folder);
  if (record) return { name: folder, record };
  throw new ConfigError(`${folder} holds no part of an evaluation: there is no shard.json in it`, {
    hint: 'odelt eval --shard makes such folders',
  });
}

/** The features of a cell. @throws ConfigError for a file that is missing, damaged, or not of this cell */
export async function readShardFeatures({ name, record }: ShardPart, cell: ShardCell): Promise<Float32Array> {
  const path = join(name, cell.file);
  const fail: FailFile = failAs(ConfigError, path, 'draw that part again, into another folder');
  const bytes = await readRegular(path, { most: MOST_FEATURES, fail });
  if (hash(bytes) !== cell.sha256) fail('is not the file that was written: its checksum differs');
  const { values } = readNpy(bytes, path);
  const [from, to] = record.range;
  const wanted = (to - from) * record.provenance.features.width;
  if (!(values instanceof Float32Array) || values.length !== wanted) return fail(`does not hold ${wanted} features`);
  return values;
}

/** Adds a cell to a part's folder: first its features, then the record. @throws OutputError */
export async function writeShardCell(
  folder: string,
  record: ShardRecord,
  { features, ...drawn }: Drawn,
): Promise<ShardRecord> {
  const { steps, tolerance, blocks, along, refresh, guidance, solver, level } = drawn.key;
  const told = level === undefined ? '' : `-level${level}`;
  const how = `${steps === null ? `tol${tolerance}` : `T${steps}`}${told}`;
  const own = along ? along.map((part) => `${part.blocks}from${part.from}`).join('_') : String(blocks);
  const depth = refresh ? `${own}-refresh${refresh.blocks}x${refresh.every}` : own;
  const file = `features-${solver}-${how}-L${depth}-w${guidance}.npy`;
  const { width } = record.provenance.features;
  const bytes = writeNpy({ shape: [features.length / width, width], values: features });
  await writeAtomically(join(folder, file), [bytes]);
  const cells = [...record.cells, { ...drawn, file, sha256: hash(bytes) }];
  const now = { ...record, cells };
  await writeText(shardFile(folder), `${JSON.stringify(now, null, 1)}\n`);
  return now;
}
