/**
 * What a worker thread of the decode pool does: pictures to pixels, row groups of parquet files to the pictures in them. Plain JavaScript:
 * a worker starts from a file as it is, among the sources as in the built package.
 */
import { parentPort, workerData } from 'node:worker_threads';
import * as zlib from 'node:zlib';

/** Crops a picture from its centre to a square of this side, upright, transparency over white; grey or sRGB. */
async function decode({ bytes }) {
  const { size, channels } = workerData;
  const { default: sharp } = await import('sharp');
  const upright = sharp(bytes, { failOn: 'error' }).rotate().flatten({ background: 'white' });
  const cropped = upright.resize(size, size, { fit: 'cover', position: 'centre' });
  const { data, info } = await cropped
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== channels) throw new Error(`decoded to ${info.channels} channels`);
  const pixels = new Uint8Array(data);
  return [pixels, [pixels.buffer]];
}

/** Packed bytes of parquet pages; hyparquet itself knows SNAPPY. */
const compressors = {
  GZIP: (input, length) => zlib.gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => zlib.brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ...(zlib.zstdDecompressSync
    ? { ZSTD: (input, length) => zlib.zstdDecompressSync(input, { maxOutputLength: Math.max(1, length) }) }
    : {}),
};

/** The values of a column of a row group whose bytes [begin, begin + bytes.length) of the file are given. */
async function valuesOf({ bytes, begin, fileSize, metadata, column }) {
  // The package's entry for Node adds helpers for files, which nobody needs here.
  const { parquetReadObjects } = await import('hyparquet/src/index.js');
  const file = {
    byteLength: fileSize,
    slice: (from, to = fileSize) => bytes.buffer.slice(bytes.byteOffset + from - begin, bytes.byteOffset + to - begin),
  };
  const rows = await parquetReadObjects({ file, metadata, columns: [column], compressors, utf8: false });
  return rows.map((row) => row[column]);
}

/** The pictures of a row group, one after the other, and their ends. */
async function unpack(given) {
  // Pages may name one picture many times.
  const pictures = (await valuesOf(given)).map((cell, k) => {
    const value = cell?.bytes ?? cell;
    if (!(value instanceof Uint8Array) || value.length === 0) throw new Error(`its row ${k} holds no picture`);
    return value;
  });
  const ends = new Float64Array(pictures.length);
  let end = 0;
  for (const [k, picture] of pictures.entries()) ends[k] = end += picture.length;
  if (end > given.most) throw new Error(`its pictures have ${end} bytes; at most ${given.most} are held`);
  const packed = new Uint8Array(end);
  for (const [k, picture] of pictures.entries()) packed.set(picture, ends[k] - picture.length);
  return [{ packed, ends }, [packed.buffer, ends.buffer]];
}

/** The labels of a row group; NaN for what is no number. */
async function labels(given) {
  const isNumber = (value) => typeof value === 'number' || typeof value === 'bigint';
  const numbers = Float64Array.from(await valuesOf(given), (value) => (isNumber(value) ? Number(value) : Number.NaN));
  return [numbers, [numbers.buffer]];
}

const jobs = { decode, unpack, labels };

parentPort.on('message', async ({ id, job, ...given }) => {
  try {
    const [result, moved] = await jobs[job](given);
    parentPort.postMessage({ id, result }, moved);
  } catch (error) {
    parentPort.postMessage({ id, failure: String(error?.message ?? error).split('\n')[0] });
  }
});
