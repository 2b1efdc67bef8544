/** Reads IDX files (MNIST's format), plain or gzipped; a header is believed only as far as the file can hold it. */
import { readFileSync } from 'node:fs';
import { constants, gunzipSync } from 'node:zlib';
import { DataError } from '../../engine/errors.ts';
import { type Dataset, datasetOf } from './dataset.ts';

/** Deflate cannot expand more than this: 258 bytes from two bits. */
const MAX_EXPANSION = 1032;

export interface IdxArray {
  /** [count], or [count, rows, columns], ... */
  dims: number[];
  bytes: Uint8Array;
}

/** Enough decompressed bytes for a header, from the first few KiB, so that little is allocated for a hostile file. */
function gunzipStart(file: string, packed: Uint8Array): Uint8Array {
  try {
    return gunzipSync(packed.subarray(0, 4096), { finishFlush: constants.Z_SYNC_FLUSH });
  } catch (cause) {
    throw new DataError(`${file}: not a readable gzip file`, { cause });
  }
}

function gunzipExactly(file: string, packed: Uint8Array, size: number): Uint8Array {
  try {
    return gunzipSync(packed, { maxOutputLength: size });
  } catch (cause) {
    const longer = (cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
    const what = longer ? `holds more than the ${size} bytes its header asks for` : 'is damaged or cut short (gzip)';
    throw new DataError(`${file} ${what}`, { cause, hint: 'Download the file again.' });
  }
}

/**
 * An IDX file of unsigned bytes with `rank` dimensions. Layout: bytes 0, 0, 8 (unsigned byte), rank; then rank sizes as
 * big-endian 32-bit integers; then the elements, last dimension fastest. Throws DataError if the file is anything else.
 */
export function readIdx(file: string, rank: number): IdxArray {
  const raw: Uint8Array = readFileSync(file);
  const packed = raw[0] === 0x1f && raw[1] === 0x8b;
  const start = packed ? gunzipStart(file, raw) : raw;
  const header = 4 + 4 * rank;
  if (start.length < header) throw new DataError(`${file}: ${start.length} bytes are too few for an IDX header`);
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const magic = view.getUint32(0);
  if (magic !== 0x800 + rank) {
    const hex = (n: number) => `0x${n.toString(16).padStart(8, '0')}`;
    throw new DataError(`${file}: magic ${hex(magic)} is not ${hex(0x800 + rank)} (IDX, unsigned bytes, ${rank} axes)`);
  }
  const dims = Array.from({ length: rank }, (_, k) => view.getUint32(4 + 4 * k));
  const size = header + dims.reduce((product, n) => product * n, 1);
  if (dims.includes(0)) throw new DataError(`${file}: its header says ${dims.join(' x ')}, which is empty`);
  const most = packed ? raw.length * MAX_EXPANSION : raw.length;
  if (size > most) {
    throw new DataError(`${file}: its header says ${dims.join(' x ')}, but it holds at most ${most} bytes`, {
      hint: 'The file is cut short or damaged: download it again.',
    });
  }
  const all = packed ? gunzipExactly(file, raw, size) : raw;
  if (all.length !== size) {
    throw new DataError(`${file}: ${all.length} bytes, where its header (${dims.join(' x ')}) asks for ${size}`, {
      hint: 'Download the file again.',
    });
  }
  return { dims, bytes: all.subarray(header) };
}

/**
 * Grey pictures and their labels from a pair of IDX files. The number of classes is that of `classNames` if given and
 * not exceeded, else the largest label plus one. Throws DataError.
 */
export function readIdxDataset(
  name: string,
  imagesFile: string,
  labelsFile: string,
  classNames?: readonly string[],
): Dataset {
  const images = readIdx(imagesFile, 3);
  const labels = readIdx(labelsFile, 1);
  const [count, height, width] = images.dims as [number, number, number];
  if (labels.dims[0] !== count) {
    throw new DataError(`${imagesFile} has ${count} pictures, ${labelsFile} has ${labels.dims[0]} labels`);
  }
  const seen = labels.bytes.reduce((most, label) => Math.max(most, label), 0) + 1;
  const named = classNames !== undefined && seen <= classNames.length;
  return datasetOf({
    name,
    height,
    width,
    channels: 1,
    classes: named ? classNames.length : seen,
    classNames: named ? classNames : undefined,
    pixels: images.bytes,
    labels: labels.bytes,
  });
}
