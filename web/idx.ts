/** Pictures and labels in IDX files (MNIST's format), plain or gzipped, read from addresses or blobs and unpacked by the browser. */
import { throwIfAborted } from '../engine/abort.ts';
import { DataError } from '../engine/errors.ts';
import { idxDims, idxHeaderBytes, isGzip } from '../formats/idx.ts';
import { type Dataset, datasetOf } from '../training/data/dataset.ts';

/** A pair of files: pictures [count, height, width] and labels [count], bytes. */
export interface IdxFiles {
  /** What messages and model files call it. */
  readonly name: string;
  /** Addresses, or the files themselves. */
  readonly images: string | Blob;
  readonly labels: string | Blob;
  /** [classes]. Default: classes are numbered, up to the largest label. */
  readonly classNames?: readonly string[];
}

/** Most bytes that are unpacked: four times MNIST's training part. */
const MOST_BYTES = 2 ** 28;

/**
 * Grey pictures with their labels.
 * @throws DataError for files that cannot be read, are damaged or do not belong together; InterruptedError; UsageError for class names
 * that are fewer than the classes.
 */
export async function datasetOfIdx(
  { name, images, labels, classNames }: IdxFiles,
  signal?: AbortSignal,
): Promise<Dataset> {
  const [pictures, classes] = await Promise.all([
    elementsOf(images, 'the pictures', 3, signal),
    elementsOf(labels, 'the labels', 1, signal),
  ]);
  const [count, height, width] = pictures.dims as [number, number, number];
  if (classes.dims[0] !== count) throw new DataError(`${name}: ${count} pictures, ${classes.dims[0]} labels`);
  return datasetOf({
    ...{ name, height, width, channels: 1, classNames },
    classes: classNames?.length ?? classes.values.reduce((most, label) => Math.max(most, label), 0) + 1,
    pixels: pictures.values,
    labels: classes.values,
  });
}

async function elementsOf(from: string | Blob, what: string, rank: number, signal?: AbortSignal) {
  const name = typeof from === 'string' ? from : what;
  try {
    const blob = typeof from === 'string' ? await fetched(from, signal) : from;
    const packed = isGzip(new Uint8Array(await blob.slice(0, 2).arrayBuffer()));
    const header = idxHeaderBytes(rank);
    const start = await leading(blob, packed, header);
    const dims = idxDims(name, start, rank);
    const size = header + dims.reduce((product, n) => product * n, 1);
    if (size > MOST_BYTES) throw new DataError(`${name}: its header says ${dims.join(' x ')}, more than is read here`);
    // One more, if there is one.
    const all = await leading(blob, packed, size + 1);
    signal?.throwIfAborted();
    const asks = `its header (${dims.join(' x ')}) asks for`;
    if (all.length > size) throw new DataError(`${name}: more bytes than the ${size} that ${asks}`);
    if (all.length < size) throw new DataError(`${name}: ${all.length} bytes, where ${asks} ${size}`);
    return { dims, values: all.subarray(header) };
  } catch (cause) {
    throwIfAborted(signal, `reading ${name} was interrupted`);
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${name}: damaged or cut short (gzip)`, { cause });
  }
}

async function fetched(url: string, signal?: AbortSignal): Promise<Blob> {
  const response = await fetch(url, { signal }).catch((cause: unknown) => {
    throw new DataError(`${url}: cannot be read`, { cause });
  });
  if (!response.ok) throw new DataError(`${url}: the server answered ${response.status} ${response.statusText}`);
  return response.blob();
}

/** The first `count` bytes, or all that there are, unpacked where they are packed; no more is unpacked. */
async function leading(blob: Blob, packed: boolean, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const stream = packed ? blob.stream().pipeThrough(new DecompressionStream('gzip')) : blob.stream();
  const reader = stream.getReader();
  const out = new Uint8Array(count);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return out.subarray(0, filled);
    const piece = value.subarray(0, count - filled);
    out.set(piece, filled);
    filled += piece.length;
    if (filled < count) continue;
    await reader.cancel();
    return out;
  }
}
