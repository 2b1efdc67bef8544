/**
 * WebDataset: tar shards whose entries of one name up to its first dot are one sample: a picture (jpg, png, ...) and its class (cls: an
 * integer; or json with `label`). Only headers and labels are read here; pictures when they are wanted.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError } from '../../engine/errors.ts';
import { openRegular, type RegularFile } from '../../formats/files.node.ts';
import { parsePax, parseTarHeader, TAR_BLOCK } from '../../formats/tar.ts';
import type { SkippedFile } from './dataset.ts';
import { type EncodedSet, isPicture, MOST_PICTURE } from './encoded.ts';
import { countClasses, failData, openFiles, type ReadOptions } from './reading.ts';

/** Largest label, and largest pax header or long name, in bytes. */
const MOST_LABEL = 2 ** 20;
/** Bytes that are read at a time: entries smaller than this share a read. */
const AHEAD = 2 ** 16;

interface Entry {
  readonly name: string;
  readonly begin: number;
  readonly size: number;
}

/** The entries of an archive in order, and a way to read the small ones. */
async function* entriesOf(
  path: string,
  file: RegularFile,
): AsyncGenerator<Entry & { readonly read: () => Promise<Uint8Array> }, void> {
  let window = new Uint8Array();
  let windowAt = 0;
  const read = async (begin: number, size: number) => {
    if (begin < windowAt || begin + size > windowAt + window.length) {
      window = await file.read(begin, Math.min(file.size, begin + Math.max(size, AHEAD)));
      windowAt = begin;
    }
    return window.subarray(begin - windowAt, begin - windowAt + size);
  };
  const cutShort = (at: number, what: string) =>
    new DataError(`${path} ends at byte ${file.size}, within ${what} at byte ${at}`, {
      hint: 'The archive is cut short: copy it again.',
    });
  let long: string | undefined;
  let longSize: number | undefined;
  for (let at = 0; ; ) {
    if (at + TAR_BLOCK > file.size) throw cutShort(at, at === file.size ? 'the end mark expected' : 'a header');
    const header = parseTarHeader(await read(at, TAR_BLOCK), path, at);
    if (!header) return;
    const begin = at + TAR_BLOCK;
    const isMeta = 'xgLK'.includes(header.type);
    const size = isMeta ? header.size : (longSize ?? header.size);
    const name = long ?? header.name;
    if (begin + size > file.size) throw cutShort(at, `the entry '${name}' of ${size} bytes`);
    const content = () => {
      if (size <= MOST_LABEL) return read(begin, size);
      throw new DataError(`${path}: '${name}' at byte ${at} has ${size} bytes; at most ${MOST_LABEL} are expected`);
    };
    if (header.type === 'x') {
      const records = parsePax(await content(), path, at);
      long = records.get('path') ?? long;
      longSize = records.has('size') ? Number(records.get('size')) : longSize;
      if (longSize !== undefined && !(Number.isSafeInteger(longSize) && longSize >= 0)) {
        throw new DataError(`${path}: the pax header at byte ${at} says a size of '${records.get('size')}'`);
      }
    } else if (header.type === 'L') {
      long = new TextDecoder().decode(await content()).replace(/\0.*$/s, '');
    } else if (!isMeta) {
      if (header.type === '0' || header.type === '7') yield { name, begin, size, read: content };
      else if (header.type !== '5' && isPicture(name)) {
        throw new DataError(`${path}: '${name}' at byte ${at} is a link or no plain file (type ${header.type})`, {
          hint: 'Write the archive with the files themselves.',
        });
      }
      long = undefined;
      longSize = undefined;
    }
    at = begin + Math.ceil(size / TAR_BLOCK) * TAR_BLOCK;
  }
}

/** A label as it stands beside a picture, and where. */
interface Label {
  readonly value: unknown;
  readonly where: string;
}

const classOf = (bytes: Uint8Array, where: string): Label => {
  const text = new TextDecoder().decode(bytes).trim();
  return { value: /^\d+$/.test(text) ? Number(text) : text, where };
};

/** The label in a .json, which may be about other things alone. @throws DataError for what is no JSON */
function labelIn(bytes: Uint8Array, where: string): Label | undefined {
  try {
    const parsed = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown> | null;
    const value = parsed?.label ?? parsed?.cls ?? parsed?.class;
    return value === undefined ? undefined : { value, where };
  } catch (cause) {
    throw new DataError(`${where} is no JSON`, { cause });
  }
}

function numberIn({ value, where }: Label): number {
  if (typeof value === 'number') return value;
  throw new DataError(`${where} is ${shown(value)}, where a class is expected`, {
    hint: 'Number the classes 0, 1, 2, ...',
  });
}
const shown = (value: unknown) =>
  typeof value === 'string' ? `'${value.slice(0, 40)}'` : JSON.stringify(value).slice(0, 40);

/** The files of one name. */
interface Sample {
  readonly key: string;
  picture?: Entry;
  cls?: Label;
  json?: Label;
}

/** Looks at every header of these archives. @throws DataError naming archive and byte; InterruptedError */
export async function indexTar(name: string, paths: readonly string[], options: ReadOptions = {}): Promise<EncodedSet> {
  const shards: { path: string; size: number }[] = [];
  const skipped: SkippedFile[] = [];
  const pictures: { shard: number; begin: number; size: number; name: string }[] = [];
  const labels: (number | undefined)[] = [];
  const hash = createHash('sha256');
  for (const path of paths) {
    const file = await openRegular(path, failData(path));
    const before = pictures.length;
    try {
      const shard = shards.push({ path, size: file.size }) - 1;
      hash.update(`${basename(path)} ${file.size}\n`);
      let sample: Sample | undefined;
      const endSample = () => {
        if (!sample) return;
        const { picture, cls, json } = sample;
        const label = cls ?? json;
        if (picture) {
          pictures.push({ shard, begin: picture.begin, size: picture.size, name: picture.name });
          labels.push(label && numberIn(label));
          hash.update(`${picture.name} ${picture.begin} ${picture.size}\n`);
        } else if (label) {
          throw new DataError(`${label.where} has no picture next to it`, {
            hint: 'Write the files of a sample one after the other; pictures are .jpg, .png, .webp, .gif, .tiff or .avif.',
          });
        }
      };
      for await (const entry of entriesOf(path, file)) {
        throwIfAborted(options.signal, `reading ${path} was interrupted`);
        const own = basename(entry.name);
        if (own.startsWith('.')) continue;
        const dot = own.indexOf('.');
        const of = entry.name.slice(0, entry.name.length - own.length + (dot < 0 ? own.length : dot));
        if (of !== sample?.key) {
          endSample();
          sample = { key: of };
        }
        const extension = dot < 0 ? '' : own.slice(dot + 1).toLowerCase();
        const where = `${path}: '${entry.name}' at byte ${entry.begin}`;
        if (extension === 'cls') sample.cls = classOf(await entry.read(), where);
        else if (extension === 'json') sample.json = labelIn(await entry.read(), where);
        else if (isPicture(extension)) {
          if (sample.picture)
            throw new DataError(`${where}: the sample has two pictures, also '${sample.picture.name}'`);
          if (entry.size === 0 || entry.size > MOST_PICTURE) throw new DataError(`${where} has ${entry.size} bytes`);
          sample.picture = entry;
        }
      }
      endSample();
    } finally {
      await file.close();
    }
    if (pictures.length === before) skipped.push({ file: path, reason: 'holds no picture' });
  }
  const nameOf = (i: number) => {
    const { shard, begin, name: own } = pictures[i]!;
    return `${shards[shard]!.path}: '${own}' at byte ${begin}`;
  };
  if (pictures.length === 0) throw new DataError(`${name}: ${paths.length} tar archives hold no picture`);
  const labelled = labels.some((label) => label !== undefined);
  const without = labelled ? labels.indexOf(undefined) : -1;
  if (without >= 0) {
    throw new DataError(`${nameOf(without)} has no label, others have`, {
      hint: 'Give each picture a .cls or .json of the same name, next to it in the archive.',
    });
  }
  const values = Uint16Array.from(labels, (label) => label ?? 0);
  const classes = labelled ? countClasses(labels as number[], nameOf) : 1;
  options.onRecognised?.(
    `WebDataset: ${shards.length} tar ${shards.length === 1 ? 'shard' : 'shards'}, ` +
      (labelled ? 'labels in .cls or .json' : 'without labels: one class'),
  );
  return {
    name,
    count: pictures.length,
    labels: values,
    classes,
    skipped,
    identity: hash.digest('hex'),
    nameOf,
    openBytes() {
      const files = openFiles();
      return {
        bytes(i) {
          const { shard, begin, size } = pictures[i]!;
          return files.read(shards[shard]!.path, shards[shard]!.size, begin, begin + size);
        },
        close: files.close,
      };
    },
  };
}
