/**
 * Reads IDX files (MNIST's format), plain or gzipped. A header is believed only as far as the file can hold what it says, and
 * no more is unpacked than it says.
 */
import { Readable } from 'node:stream';
import { constants, createGunzip, gunzipSync } from 'node:zlib';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError, InterruptedError } from '../../engine/errors.ts';
import { openRegular, type RegularFile } from '../../formats/files.node.ts';
import { idxDims, idxHeaderBytes, isGzip } from '../../formats/idx.ts';
import { type Dataset, datasetOf } from './dataset.ts';
import { checkBytes, failData, mostBytes, type ReadOptions } from './reading.ts';

/** Deflate cannot expand more than this: 258 bytes from two bits. */
const MAX_EXPANSION = 1032;
/** Bytes of a file that are looked at for its header, and that are read at a time. */
const START = 4096;
const CHUNK = 1 << 20;

/** An open IDX file whose header has been read and checked, and nothing else of it. */
export interface IdxFile {
  /** Its path. */
  readonly name: string;
  /** [count], or [count, rows, columns], ... */
  readonly dims: readonly number[];
  /**
   * The elements, last dimension fastest; `onBytes` is told how many have been unpacked.
   * @throws DataError for more or fewer than the header says; InterruptedError.
   */
  elements(signal?: AbortSignal, onBytes?: (bytes: number) => void): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Opens an IDX file of unsigned bytes with `rank` dimensions. @throws DataError if the file is anything else, or no regular file. */
async function openIdx(name: string, rank: number): Promise<IdxFile> {
  const file = await openRegular(name, failData(name));
  try {
    const raw = await file.read(0, Math.min(START, file.size));
    const packed = isGzip(raw);
    const dims = idxDims(name, packed ? gunzipStart(name, raw) : raw, rank);
    const header = idxHeaderBytes(rank);
    const size = header + dims.reduce((product, n) => product * n, 1);
    const most = packed ? file.size * MAX_EXPANSION : file.size;
    if (size > most) {
      throw new DataError(`${name}: its header says ${dims.join(' x ')}, but it holds at most ${most} bytes`, {
        hint: 'The file is cut short or damaged: download it again.',
      });
    }
    if (!packed && file.size !== size) {
      throw new DataError(`${name}: ${file.size} bytes, where its header (${dims.join(' x ')}) asks for ${size}`, {
        hint: 'Download the file again.',
      });
    }
    return {
      name,
      dims,
      async elements(signal, onBytes) {
        throwIfAborted(signal, `reading ${name} was interrupted`);
        const all = packed ? await gunzipExactly(name, file, size, signal, onBytes) : await file.read(0, size);
        return all.subarray(header);
      },
      close: file.close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What the first few KiB of a gzip file unpack to: enough for a header, and little whatever the file. */
function gunzipStart(name: string, packed: Uint8Array): Uint8Array {
  try {
    return gunzipSync(packed, { finishFlush: constants.Z_SYNC_FLUSH });
  } catch (cause) {
    throw new DataError(`${name}: not a readable gzip file`, { cause });
  }
}

/** Unpacks piece by piece into one array of `size` bytes, and stops where there is more. */
async function gunzipExactly(
  name: string,
  file: RegularFile,
  size: number,
  signal?: AbortSignal,
  onBytes?: (bytes: number) => void,
): Promise<Uint8Array> {
  const out = new Uint8Array(size);
  let filled = 0;
  const pieces = async function* () {
    for (let at = 0; at < file.size; at += CHUNK) yield file.read(at, Math.min(at + CHUNK, file.size));
  };
  const source = Readable.from(pieces(), { objectMode: false, highWaterMark: 1 });
  const gunzip = createGunzip({ chunkSize: 1 << 18 });
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  try {
    for await (const piece of gunzip as AsyncIterable<Uint8Array>) {
      throwIfAborted(signal, `reading ${name} was interrupted`);
      if (filled + piece.length > size) {
        throw new DataError(`${name} holds more than the ${size} bytes its header asks for`, {
          hint: 'Download the file again.',
        });
      }
      out.set(piece, filled);
      filled += piece.length;
      onBytes?.(filled);
    }
  } catch (cause) {
    if (cause instanceof DataError || cause instanceof InterruptedError) throw cause;
    throw new DataError(`${name} is damaged or cut short (gzip)`, { cause, hint: 'Download the file again.' });
  } finally {
    source.destroy();
    gunzip.destroy();
  }
  if (filled !== size) {
    throw new DataError(`${name}: ${filled} bytes, where its header asks for ${size}`, {
      hint: 'Download the file again.',
    });
  }
  return out;
}

/**
 * Grey pictures and their labels from a pair of IDX files, whose headers are compared before either is unpacked. The number of
 * classes is that of `classNames` if given and not exceeded, else the largest label plus one.
 * @throws DataError, LimitError (more than maxBytes), InterruptedError
 */
export async function readIdxDataset(
  name: string,
  imagesPath: string,
  labelsPath: string,
  options: ReadOptions & { classNames?: readonly string[] } = {},
): Promise<Dataset> {
  const { classNames, onShape, onProgress, signal } = options;
  const maxBytes = mostBytes(options);
  const images = await openIdx(imagesPath, 3);
  try {
    const labels = await openIdx(labelsPath, 1);
    try {
      const [count, height, width] = images.dims as [number, number, number];
      if (labels.dims[0] !== count) {
        throw new DataError(`${images.name} has ${count} pictures, ${labels.name} has ${labels.dims[0]} labels`);
      }
      const bytes = count * height * width;
      checkBytes(`${images.name}: ${count} pictures of ${height} x ${width}`, bytes, maxBytes);
      const values = await labels.elements(signal);
      const seen = values.reduce((most, label) => Math.max(most, label), 0) + 1;
      const named = classNames !== undefined && seen <= classNames.length;
      const classes = named ? classNames.length : seen;
      onShape?.({ name, height, width, channels: 1, classes });
      return datasetOf({
        name,
        height,
        width,
        channels: 1,
        classes,
        classNames: named ? classNames : undefined,
        pixels: await images.elements(signal, (done) => onProgress?.(Math.floor(done / (height * width)), count)),
        labels: values,
      });
    } finally {
      await labels.close();
    }
  } finally {
    await images.close();
  }
}
