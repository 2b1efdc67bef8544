/** The directory of a zip file: where the bytes of entries lie that are stored as they are, which is how PyTorch writes; sums of all. */
import { CheckpointError } from '../engine/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { crc32 } from './crc32.ts';

/** The bytes of a stored entry. */
export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  /**
   * Reads bytes [begin, end) of the entry, or all. @throws CheckpointError where the entry's own header is wrong, or all of it has not the
   * sum that the directory states.
   */
  read(begin?: number, end?: number): Promise<Uint8Array>;
}

const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
/** The end record, with the longest comment that it may have. */
const LONGEST_END = 22 + 65_535;
/** Bytes of the wide end record that say where the directory is. */
const WIDE = 56;
const NONE_32 = 0xffffffff;
/** Most bytes of the directory, and most entries: a checkpoint has one per tensor. */
const MOST_DIRECTORY = 2 ** 25;
const MOST_ENTRIES = 2 ** 17;

/** Bytes that are summed at a time. */
const PIECE = 2 ** 23;

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Places and sizes that do not fit 32 bits are in an extra field, in this order. */
function extended(extra: Uint8Array, fields: readonly number[], fail: (problem: string) => never): number[] {
  const view = viewOf(extra);
  const wide: number[] = [];
  for (let at = 0; at + 4 <= extra.length; ) {
    const [id, length] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    if (id === 1) {
      const end = Math.min(extra.length, at + 4 + length);
      for (let i = at + 4; i + 8 <= end; i += 8) wide.push(Number(view.getBigUint64(i, true)));
    }
    at += 4 + length;
  }
  return fields.map((value) => (value === NONE_32 ? (wide.shift() ?? fail('lacks the size of an entry')) : value));
}

/** What the directory says of an entry. */
interface ZipRecord {
  readonly name: string;
  /** 0: stored as it is. */
  readonly method: number;
  readonly encrypted: boolean;
  /** Of the entry unpacked. */
  readonly crc: number;
  readonly size: number;
  readonly packed: number;
  /** Of the entry's own header. */
  readonly place: number;
}

type Fail = (problem: string) => never;
type Read = (begin: number, length: number) => Promise<Uint8Array>;

function* recordsOf(directory: Uint8Array, count: number, fail: Fail): Generator<ZipRecord> {
  const view = viewOf(directory);
  const { length } = directory;
  for (let n = 0, at = 0; n < count; n++) {
    if (at + 46 > length || view.getUint32(at, true) !== CENTRAL) fail(`has no entry ${n} of ${count}`);
    const [names, extras, comments] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [
      number,
      number,
      number,
    ];
    const end = at + 46 + names + extras + comments;
    if (end > length) fail(`has no entry ${n} of ${count}`);
    const name = new TextDecoder().decode(directory.subarray(at + 46, at + 46 + names));
    const extra = directory.subarray(at + 46 + names, at + 46 + names + extras);
    const fields = [24, 20, 42].map((field) => view.getUint32(at + field, true));
    const [size, packed, place] = extended(extra, fields, fail) as [number, number, number];
    const encrypted = (view.getUint16(at + 8, true) & 1) !== 0;
    yield {
      name,
      method: view.getUint16(at + 10, true),
      encrypted,
      crc: view.getUint32(at + 16, true),
      size,
      packed,
      place,
    };
    at = end;
  }
}

/**
 * Entries of a zip file by name. Nothing is unpacked: entries that are packed, and sizes beyond the file's own, are refused.
 * @throws CheckpointError
 */
export async function readZip(source: ByteSource, file: string): Promise<Map<string, ZipEntry>> {
  const fail: Fail = (problem) => {
    throw new CheckpointError(`${file}: the zip file ${problem}`, {
      hint: 'the file is damaged or truncated (fetch or write it again), or it is no file of torch.save',
    });
  };
  const read: Read = (begin, length) =>
    begin >= 0 && begin + length <= source.size
      ? source.read(begin, begin + length)
      : fail(`points to byte ${begin + length}, but has ${source.size}: it is truncated or damaged`);
  const tail = await source.read(Math.max(0, source.size - LONGEST_END), source.size);
  const { found, wideAt } = directoryOf(tail, fail);
  const { begin, length, count } = wideAt === null ? found : wideOf(await read(wideAt, WIDE), fail);
  if (length > MOST_DIRECTORY || count > MOST_ENTRIES) fail(`announces ${count} entries in ${length} bytes`);
  const entries = new Map<string, ZipEntry>();
  for (const record of recordsOf(await read(begin, length), count, fail)) {
    const { name, method, encrypted, size, packed, place } = record;
    if (method !== 0 || size !== packed) {
      fail(`holds ${name} packed (${packed} bytes for ${size}); PyTorch stores its files as they are`);
    }
    if (encrypted) fail(`holds ${name} encrypted`);
    if (place + size > source.size) fail(`says that ${name} has ${size} bytes; it has ${source.size} itself`);
    if (entries.has(name)) fail(`holds ${name} twice`);
    entries.set(name, entryOf(record, read, fail));
  }
  return entries;
}

/** Sums of the entries of a zip file in memory, unpacked, as its directory states them. Throws what `fail` makes of a directory that is none. */
export function zipSums(file: Uint8Array, fail: Fail): Map<string, number> {
  const read = (begin: number, length: number) =>
    begin >= 0 && begin + length <= file.length
      ? file.subarray(begin, begin + length)
      : fail(`points to byte ${begin + length}, but has ${file.length}`);
  const { found, wideAt } = directoryOf(file.subarray(Math.max(0, file.length - LONGEST_END)), fail);
  const { begin, length, count } = wideAt === null ? found : wideOf(read(wideAt, WIDE), fail);
  return new Map(Array.from(recordsOf(read(begin, length), count, fail), ({ name, crc }) => [name, crc]));
}

function entryOf({ name, size, crc, place }: ZipRecord, read: Read, fail: Fail): ZipEntry {
  let start: Promise<number> | undefined;
  const find = async () => {
    const view = viewOf(await read(place, 30));
    if (view.getUint32(0, true) !== LOCAL) fail(`has no ${name} where it should be`);
    return place + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  };
  const check = (found: number) => {
    // PyTorch can be told to compute no sums, and writes zeros then.
    if (crc !== 0 && found !== crc)
      fail(`holds ${name}, whose CRC-32 is ${hex(found)}; its directory says ${hex(crc)}`);
  };
  const checkAll = async () => {
    let found = 0;
    for (let at = 0; at < size; at += PIECE) {
      found = crc32(await read((await start!) + at, Math.min(PIECE, size - at)), found);
    }
    check(found);
  };
  let checked: Promise<void> | undefined;
  return {
    name,
    size,
    async read(begin = 0, end = size) {
      if (begin < 0 || end > size) fail(`holds ${size} bytes of ${name}; ${end} are wanted`);
      start ??= find();
      const bytes = await read((await start) + begin, end - begin);
      if (end - begin === size) check(crc32(bytes));
      else {
        checked ??= checkAll();
        await checked;
      }
      return bytes;
    },
  };
}

const hex = (sum: number): string => sum.toString(16).padStart(8, '0');

/** Where the directory is, from the record at the file's end, and where a wide record is that says it instead; null: nowhere. */
function directoryOf(tail: Uint8Array, fail: Fail) {
  const view = viewOf(tail);
  let at = tail.length - 22;
  while (at >= 0 && view.getUint32(at, true) !== END) at--;
  if (at < 0) fail('has no directory at its end: it is truncated or damaged');
  const found = {
    count: view.getUint16(at + 10, true),
    length: view.getUint32(at + 12, true),
    begin: view.getUint32(at + 16, true),
  };
  // PyTorch always writes the wide record, too.
  const wide = at >= 20 && view.getUint32(at - 20, true) === LOCATOR_64;
  return { found, wideAt: wide ? Number(view.getBigUint64(at - 12, true)) : null };
}

/** Where the directory is, from the wide record. */
function wideOf(record: Uint8Array, fail: Fail) {
  const wide = viewOf(record);
  if (wide.getUint32(0, true) !== END_64) fail('has no directory at its end: it is truncated or damaged');
  const number = (field: number) => Number(wide.getBigUint64(field, true));
  return { count: number(32), length: number(40), begin: number(48) };
}
