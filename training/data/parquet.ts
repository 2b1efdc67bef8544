/**
 * Parquet files with encoded pictures in a column (`image`: bytes, or a struct with `bytes`, as the Hugging Face Hub has them) and integers
 * in another (`label`). Footers and labels are read here; a row group's pictures when one of them is wanted, in a worker thread.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import * as zlib from 'node:zlib';
import type { AsyncBuffer, FileMetaData, RowGroup } from 'hyparquet/src/index.js';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError, InterruptedError } from '../../engine/errors.ts';
import { openRegular } from '../../formats/files.node.ts';
import { createDecodePool, type DecodePool, type PackedPictures, type RowGroupJob } from './decode-pool.ts';
import type { EncodedSet } from './encoded.ts';
import { countClasses, failData, openFiles, partOf, type ReadOptions } from './reading.ts';
import { MissingPart } from './splits.ts';

const PICTURES = ['image', 'img', 'picture', 'bytes'];
const LABELS = ['label', 'labels', 'fine_label', 'class', 'cls'];
/** Largest footer, and largest column of pictures of one row group, packed or not, in bytes. */
const MOST_FOOTER = 2 ** 26;
const MOST_GROUP = 2 ** 29;
/** Bytes of row groups that are mixed at a time; the same on every machine, as the order depends on it. */
const TOGETHER = 2 ** 27;
/** Most bytes of pictures, as they come out of row groups, that are held at a time, but for a group alone. */
const MOST_HELD = 2 ** 30;

/** Codecs of pages that `decode-worker.js` knows. */
const CODECS = ['UNCOMPRESSED', 'SNAPPY', 'GZIP', 'BROTLI', ...('zstdDecompressSync' in zlib ? ['ZSTD'] : [])];

interface Group {
  readonly path: string;
  readonly fileSize: number;
  readonly metadata: FileMetaData;
  readonly column: string;
  readonly index: number;
  readonly rows: number;
  /** First row, over all files. */
  readonly first: number;
  readonly begin: number;
  readonly end: number;
}

const damaged = (what: string, cause: unknown, hint = 'The file is damaged or cut short: copy or write it again.') => {
  if (cause instanceof DataError || cause instanceof InterruptedError) return cause;
  return new DataError(`${what} cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause, hint });
};

/** Class names in what the Hub's `datasets` writes into files. */
function namesIn(metadata: FileMetaData, label: string): string[] | undefined {
  const text = metadata.key_value_metadata?.find(({ key }) => key === 'huggingface')?.value;
  try {
    const names = JSON.parse(text ?? 'null')?.info?.features?.[label]?.names;
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : undefined;
  } catch {
    return undefined;
  }
}

/** Where a column of a row group lies in its file, and the bytes that it says it unpacks to. */
function bytesOf(group: RowGroup, column: string): { begin: number; end: number; unpacked: number } {
  const chunks = group.columns.map((c) => c.meta_data!).filter((c) => c?.path_in_schema[0] === column);
  const starts = chunks.map((c) => Number(c.dictionary_page_offset || c.data_page_offset));
  return {
    begin: Math.min(...starts, ...chunks.map((c) => Number(c.data_page_offset))),
    end: Math.max(...chunks.map((c, k) => starts[k]! + Number(c.total_compressed_size))),
    unpacked: Math.max(0, ...chunks.map((c) => Number(c.total_uncompressed_size))),
  };
}

/** @throws DataError for pages of a column of a row group that cannot be unpacked here */
function checkCodecs(group: RowGroup, column: string, what: string): void {
  const known: readonly string[] = CODECS;
  const codec = group.columns
    .map((c) => c.meta_data!)
    .find((c) => c?.path_in_schema[0] === column && !known.includes(c.codec))?.codec;
  if (codec === undefined) return;
  const newer = codec === 'ZSTD' ? 'Use Node 22.15 or newer, or write' : 'Write';
  throw new DataError(`${what}: its column '${column}' is packed as ${codec}, which this Node cannot unpack`, {
    hint: `${newer} the file again with ${CODECS.slice(1).join(', ')}.`,
  });
}

/** The job with a footer that knows of this row group alone. */
const jobOf = (metadata: FileMetaData, index: number, rest: Omit<RowGroupJob, 'metadata' | 'most'>): RowGroupJob => {
  const group = metadata.row_groups[index]!;
  return { ...rest, metadata: { ...metadata, row_groups: [group], num_rows: group.num_rows }, most: MOST_GROUP };
};

/** What is wrong with a row group is no picture's fault. */
const ofGroup = (error: unknown): never => {
  if (!(error instanceof DataError)) throw error;
  const hint =
    'Write the file again, with a picture in each row and row groups of 1,000 rows or fewer; if it is damaged, copy it again.';
  throw new DataError(error.message, { cause: error.cause, hint });
};

/** Looks at the footers and labels of these files. @throws DataError, InterruptedError */
export async function indexParquet(
  name: string,
  paths: readonly string[],
  options: ReadOptions = {},
): Promise<EncodedSet> {
  const pool = createDecodePool(1, 3); // for labels: what is damaged must not hold this thread
  try {
    return await indexWith(pool, name, paths, options);
  } finally {
    await pool.close();
  }
}

async function indexWith(
  pool: DecodePool,
  name: string,
  paths: readonly string[],
  options: ReadOptions,
): Promise<EncodedSet> {
  const { parquetMetadataAsync } = await import('hyparquet/src/index.js');
  const groups: Group[] = [];
  const labels: number[] = [];
  const hash = createHash('sha256');
  const skipped: { file: string; reason: string }[] = [];
  let classNames: string[] | undefined;
  let count = 0;
  let columns: { column: string; label: string | undefined } | undefined;
  for (const path of paths) {
    throwIfAborted(options.signal, `reading ${path} was interrupted`);
    const file = await openRegular(path, failData(path));
    try {
      const { size } = file;
      const tail = await file.read(Math.max(0, size - 8), size);
      const footer = tail.length === 8 ? new DataView(tail.buffer).getUint32(0, true) : 0;
      if (new TextDecoder('latin1').decode(tail.subarray(4)) !== 'PAR1' || footer > Math.min(size - 12, MOST_FOOTER)) {
        throw new DataError(`${path}: its last 8 bytes, at byte ${Math.max(0, size - 8)}, do not end a parquet file`, {
          hint: 'The file is cut short: copy it again.',
        });
      }
      const buffer: AsyncBuffer = {
        byteLength: size,
        slice: async (begin, end = size) => (await file.read(begin, Math.max(begin, end))).buffer,
      };
      const metadata = await parquetMetadataAsync(buffer, { initialFetchSize: footer + 8 }).catch((cause: unknown) => {
        throw damaged(`${path}: its footer at byte ${size - 8 - footer}`, cause);
      });
      hash.update(`${basename(path)} ${size}\n`).update(await file.read(size - 8 - footer, size));
      const top = new Set(
        metadata.row_groups.flatMap((g) => g.columns.map((c) => c.meta_data?.path_in_schema[0] ?? '')),
      );
      if (metadata.row_groups.length === 0 || metadata.num_rows === 0n) {
        skipped.push({ file: path, reason: 'holds no rows' });
        continue;
      }
      const column = PICTURES.find((each) => top.has(each));
      const label = LABELS.find((each) => top.has(each));
      if (!column) {
        throw new DataError(`${path}: no column of pictures among ${[...top].slice(0, 10).join(', ')}`, {
          hint: `Call it ${PICTURES.join(', ')}.`,
        });
      }
      if (columns && (columns.column !== column || columns.label !== label)) {
        throw new DataError(
          `${path} has the columns ${column}, ${label}; the files before it ${columns.column}, ${columns.label}`,
        );
      }
      columns = { column, label };
      classNames ??= label === undefined ? undefined : namesIn(metadata, label);
      for (const [index, group] of metadata.row_groups.entries()) {
        const what = `${path}: row group ${index}`;
        const { begin, end, unpacked } = bytesOf(group, column);
        const rows = Number(group.num_rows);
        if (!(begin >= 4 && end > begin && end <= size - 8 - footer && Number.isSafeInteger(rows) && rows >= 0)) {
          throw new DataError(`${what}: bytes ${begin} to ${end} of ${size} cannot hold its ${rows} rows`, {
            hint: 'The file is damaged or cut short: copy or write it again.',
          });
        }
        const most = Math.max(end - begin, unpacked);
        if (most > MOST_GROUP) {
          throw new DataError(`${what}: its pictures have ${most} bytes; at most ${MOST_GROUP} are held`, {
            hint: 'Write the file again with row groups of 1,000 rows or fewer.',
          });
        }
        // Each row is at least its length, so a number of rows that bytes cannot hold is not believed.
        if (rows > most) throw new DataError(`${what}: ${rows} rows in ${most} bytes`);
        if (rows === 0) continue;
        checkCodecs(group, column, what);
        if (label !== undefined) {
          const at = bytesOf(group, label);
          if (!(at.begin >= 4 && at.end > at.begin && at.end <= size && at.unpacked <= MOST_GROUP)) {
            throw new DataError(`${what}: bytes ${at.begin} to ${at.end} of ${size} cannot hold its column ${label}`);
          }
          checkCodecs(group, label, what);
          const bytes = await file.read(at.begin, at.end);
          const job = jobOf(metadata, index, { bytes, begin: at.begin, fileSize: size, column: label });
          const own = await pool.labels(job, what).catch(ofGroup);
          if (own.length !== rows) throw new DataError(`${what}: ${own.length} labels for ${rows} rows`);
          const without = own.findIndex(Number.isNaN);
          if (without >= 0) {
            const type = group.columns.find((c) => c.meta_data?.path_in_schema[0] === label)?.meta_data?.type;
            throw new DataError(`${what}: row ${without} has no number in its column '${label}' (of ${type})`, {
              hint: 'Number the classes 0, 1, 2, ..., and leave rows without a class out.',
            });
          }
          for (const each of own) labels.push(each);
        }
        groups.push({ path, fileSize: size, metadata, column, index, rows, first: count, begin, end });
        count += rows;
      }
    } finally {
      await file.close();
    }
  }
  if (count === 0) throw new DataError(`${name}: ${paths.length} parquet files hold no rows`);
  const starts = groups.map(({ first }) => first);
  const groupOf = (i: number) => partOf(starts, i);
  const nameOf = (i: number) => {
    const { path, index, first } = groups[groupOf(i)]!;
    return `${path}: row ${i - first} of row group ${index}`;
  };
  const label = columns!.label;
  if (label !== undefined && labels.every((each) => each === -1)) {
    const more = paths.length > 1 ? ` and ${paths.length - 1} more` : '';
    throw new MissingPart(`${paths[0]}${more}: every label is -1: they are kept secret`, {
      hint: 'Give a part whose labels are public.',
    });
  }
  const seen = label === undefined ? 1 : countClasses(labels, nameOf);
  if (classNames && classNames.length < seen) {
    throw new DataError(`${name}: labels go to ${seen - 1}, where the file names ${classNames.length} classes`);
  }
  options.onRecognised?.(
    `parquet: ${paths.length} ${paths.length === 1 ? 'file' : 'files'}, ${groups.length} row groups, pictures in column '${columns!.column}', ` +
      (label === undefined ? 'without labels: one class' : `labels in '${label}'`),
  );
  const largest = Math.max(...groups.map(({ begin, end }) => end - begin));
  const together = Math.min(groups.length, Math.max(1, Math.floor(TOGETHER / largest)));
  return {
    name,
    count,
    labels: label === undefined ? new Uint16Array(count) : Uint16Array.from(labels),
    classes: classNames?.length ?? seen,
    classNames,
    skipped,
    identity: hash.digest('hex'),
    groups: { sizes: groups.map(({ rows }) => rows), together },
    nameOf,
    openBytes(pool) {
      const files = openFiles();
      /** Unpacked groups, the least recently used first: those mixed now, and those to come. */
      const held = new Map<number, Promise<PackedPictures>>();
      /** Bytes of those of them that have come. */
      const sizes = new Map<number, number>();
      const release = (g: number) => {
        held.delete(g);
        sizes.delete(g);
      };
      /** Gives up the oldest where there are too many, or too large ones. */
      const evict = () => {
        let bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
        for (const oldest of [...held.keys()].slice(0, -1)) {
          if (held.size <= 2 * together && bytes <= MOST_HELD) return;
          bytes -= sizes.get(oldest) ?? 0;
          release(oldest);
        }
      };
      const unpack = async (g: number) => {
        const { path, fileSize, metadata, column, index, rows, begin, end } = groups[g]!;
        const what = `${path}: row group ${index}`;
        const bytes = await files.read(path, fileSize, begin, end);
        const job = jobOf(metadata, index, { bytes, begin, fileSize, column });
        const pictures = await pool.unpack(job, what).catch(ofGroup);
        if (pictures.ends.length !== rows)
          throw new DataError(`${what}: ${pictures.ends.length} pictures, where ${rows} are expected`);
        if (held.has(g)) sizes.set(g, pictures.packed.length);
        evict();
        return pictures;
      };
      return {
        async bytes(i) {
          const g = groupOf(i);
          const group = held.get(g) ?? unpack(g);
          held.delete(g);
          held.set(g, group);
          evict();
          const { packed, ends } = await group;
          const k = i - groups[g]!.first;
          return packed.slice(k === 0 ? 0 : ends[k - 1]!, ends[k]!) as Uint8Array<ArrayBuffer>;
        },
        async close() {
          held.clear();
          sizes.clear();
          await files.close();
        },
      };
    },
  };
}
