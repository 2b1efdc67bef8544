/**
 * Sets of NumPy arrays: pictures (uint8, or floats from -1 to 1) or latents (floats), [N, H, W, C], [N, C, H, W] or [N, H, W], with
 * labels beside them. Arrays x0 and x1, or one called x0x1 whose channels are both, are the reference's latent sets: noise and
 * what it is to become, paired.
 */
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { throwIfAborted } from '../../engine/abort.ts';
import { DataError } from '../../engine/errors.ts';
import { openRegular, readRegular } from '../../formats/files.node.ts';
import {
  checkNpySize,
  decodeNpy,
  MOST_NPY_HEADER,
  type NpyArray,
  type NpyHeader,
  parseNpyHeader,
  readNpy,
  readNpz,
} from '../../formats/npy.ts';
import { addToSums, spreadOf } from '../../model/autoencoder/spread.ts';
import { datasetOf, type TrainingData } from './dataset.ts';
import { countClasses, failData, mostBytes, type OpenFiles, openFiles, type ReadOptions } from './reading.ts';

/** Names of arrays, in the order in which they are looked for. */
export const PICTURE_ARRAYS = ['images', 'latents', 'x0x1', 'image', 'data', 'x', 'arr_0'] as const;
const LABEL_ARRAYS = ['labels', 'label', 'y', 'arr_1'] as const;
/** Largest file of labels, in bytes. */
const MOST_LABELS = 2 ** 30;

/** An array whose elements are read when they are needed. */
interface Source {
  /** File, and array within it. */
  readonly name: string;
  readonly header: NpyHeader;
  /** Elements [begin, end). */
  read(files: OpenFiles, begin: number, end: number): Promise<NpyArray['values']>;
}

async function fileSource(path: string): Promise<Source> {
  const file = await openRegular(path, failData(path));
  try {
    const header = parseNpyHeader(await file.read(0, Math.min(file.size, MOST_NPY_HEADER)), path);
    checkNpySize(header, file.size, path);
    const { offset, bytes } = header;
    return {
      name: path,
      header,
      read: async (files, begin, end) =>
        decodeNpy(header, await files.read(path, file.size, offset + begin * bytes, offset + end * bytes)),
    };
  } finally {
    await file.close();
  }
}

const memorySource = (name: string, { header, values }: NpyArray): Source => ({
  name,
  header,
  read: async (_, begin, end) => values.subarray(begin, end),
});

/** Where the elements of pictures of an array lie. */
interface Layout {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Whether channels come before rows. */
  readonly planes: boolean;
}

/** More channels than this are taken for rows. */
const MOST_CHANNELS = 64;

function layoutOf({ name, header }: Source): Layout {
  const { shape } = header;
  const [, a, b, c] = shape as [number, number, number, number];
  if (shape.includes(0)) throw new DataError(`${name}: its shape is ${shape.join(' x ')}: it holds nothing`);
  if (shape.length === 3) return { height: a, width: b, channels: 1, planes: false };
  if (shape.length !== 4) {
    throw new DataError(`${name}: its shape is ${shape.join(' x ')}, where pictures have 3 or 4 axes`, {
      hint: 'Store [N, H, W, C], [N, C, H, W] or [N, H, W].',
    });
  }
  // Where both fit, the channels are last, as in the reference. Of what is not square, channels are the shorter axis.
  const last = a === b && c <= MOST_CHANNELS;
  const first = b === c ? a <= MOST_CHANNELS : a !== b && a < c;
  if (!last && !first && c > MOST_CHANNELS) {
    throw new DataError(
      `${name}: its shape is ${shape.join(' x ')}: neither its last axis nor its second holds channels`,
      {
        hint: `Store square pictures of at most ${MOST_CHANNELS} channels as [N, H, W, C] or [N, C, H, W].`,
      },
    );
  }
  return !last && first
    ? { height: b, width: c, channels: a, planes: true }
    : { height: a, width: b, channels: c, planes: false };
}

/** Channels [begin, end) of a picture as rows of pixels of channels. */
function pixelsOf<T extends Uint8Array | Float32Array>(
  from: ArrayLike<number>,
  layout: Layout,
  begin: number,
  out: T,
): T {
  const { height, width, channels, planes } = layout;
  const area = height * width;
  const wanted = out.length / area;
  for (let p = 0; p < area; p++) {
    for (let c = 0; c < wanted; c++) {
      const at = begin + c;
      out[p * wanted + c] = planes ? from[at * area + p]! : from[p * channels + at]!;
    }
  }
  return out;
}

async function readLabels(source: Source, count: number): Promise<ArrayLike<number>> {
  const { name, header } = source;
  if (header.shape.length !== 1 || header.kind === 'f') {
    const type = `${header.kind}${8 * header.bytes} of shape ${header.shape.join(' x ')}`;
    throw new DataError(`${name}: ${type}, where labels are integers with one axis`);
  }
  if (header.count !== count) throw new DataError(`${name} has ${header.count} labels for ${count} pictures`);
  const files = openFiles();
  try {
    return await source.read(files, 0, count);
  } finally {
    await files.close();
  }
}

/** What stands for pictures: one array, or noise and pictures in two. */
type Pictures = { readonly one: Source } | { readonly x0: Source; readonly x1: Source };

/** Opens `NAME.npy`, with its labels in `NAME-labels.npy`, `NAME_labels.npy` or `labels.npy` beside it, if they are there. */
export async function readNpyFile(
  path: string,
  found: readonly string[],
  options: ReadOptions = {},
): Promise<TrainingData> {
  const own = basename(path).replace(/\.npy$/, '');
  const beside = (name: string) => (found.includes(`${name}.npy`) ? join(dirname(path), `${name}.npy`) : undefined);
  const labels = [`${own}-labels`, `${own}_labels`, 'labels'].map(beside).find((at) => at !== undefined);
  const other = own === 'x0' ? beside('x1') : own === 'x1' ? beside('x0') : undefined;
  const one = await fileSource(path);
  const pictures = other
    ? { x0: own === 'x0' ? one : await fileSource(other), x1: own === 'x1' ? one : await fileSource(other) }
    : { one };
  return makeSet(own, pictures, labels === undefined ? undefined : await labelSource(labels), options);
}

async function labelSource(path: string): Promise<Source> {
  return memorySource(path, readNpy(await readRegular(path, { most: MOST_LABELS, fail: failData(path) }), path));
}

/** Opens a `.npz` file, which is unpacked into memory. */
export async function readNpzFile(path: string, options: ReadOptions = {}): Promise<TrainingData> {
  const most = mostBytes(options);
  const found: string[] = [];
  const isWanted = (name: string) => {
    found.push(name);
    return ([...PICTURE_ARRAYS, ...LABEL_ARRAYS, 'x0', 'x1'] as readonly string[]).includes(name);
  };
  const file = await readRegular(path, { most: most + 2 ** 20, fail: failData(path) });
  const arrays = readNpz(file, path, most, isWanted);
  const named = (name: string) => (arrays.has(name) ? memorySource(`${path}, ${name}`, arrays.get(name)!) : undefined);
  const labels = LABEL_ARRAYS.map(named).find((source) => source !== undefined);
  const [x0, x1] = [named('x0'), named('x1')];
  const one = PICTURE_ARRAYS.map(named).find((source) => source !== undefined);
  const name = basename(path).replace(/\.npz$/, '');
  if (x0 && x1) return makeSet(name, { x0, x1 }, labels, options);
  if (one) return makeSet(name, { one }, labels, options);
  throw new DataError(`${path}: none of its arrays (${found.slice(0, 10).join(', ')}) stands for pictures`, {
    hint: `Call them ${PICTURE_ARRAYS.join(', ')}, or x0 and x1.`,
  });
}

async function makeSet(
  name: string,
  pictures: Pictures,
  labelsFrom: Source | undefined,
  options: ReadOptions,
): Promise<TrainingData> {
  const main = 'one' in pictures ? pictures.one : pictures.x1;
  const layout = layoutOf(main);
  const count = main.header.shape[0]!;
  const { height, width } = layout;
  const together = 'one' in pictures && /(^|[ /\\])x0x1(\.npy)?$/.test(main.name);
  const paired = together || !('one' in pictures);
  if (together && layout.channels % 2 !== 0) {
    throw new DataError(
      `${main.name}: ${layout.channels} channels are not noise and pictures of as many channels each`,
    );
  }
  if (!('one' in pictures) && String(pictures.x0.header.shape) !== String(main.header.shape)) {
    const [a, b] = [pictures.x0.header.shape, main.header.shape].map((shape) => shape.join(' x '));
    throw new DataError(`${pictures.x0.name} is ${a}, ${main.name} is ${b}: they are no pairs`);
  }
  const numbers = main.header.kind === 'f';
  if (!numbers && (paired || main.header.kind !== 'u' || main.header.bytes !== 1)) {
    throw new DataError(`${main.name}: elements of type ${main.header.kind}${main.header.bytes}`, {
      hint: paired ? 'Pairs are floats.' : 'Pictures are uint8 or floats.',
    });
  }
  const channels = together ? layout.channels / 2 : layout.channels;
  const labels = labelsFrom ? await readLabels(labelsFrom, count) : new Uint8Array(count);
  const classes = countClasses(labels, (i) => `${labelsFrom?.name}, element ${i}`);
  const shape = { name, height, width, channels, classes };
  const what = numbers ? (paired ? 'pairs of noise and latents' : 'numbers') : 'pictures';
  options.onRecognised?.(
    `NumPy arrays of ${what}, [N, ${layout.planes ? 'C, H, W' : main.header.shape.length === 3 ? 'H, W' : 'H, W, C'}], ` +
      (labelsFrom ? `labels in ${basename(labelsFrom.name)}` : 'without labels: one class'),
  );
  options.onShape?.(shape);
  const size = height * width * channels;
  const each = height * width * layout.channels;

  const read = async (files: OpenFiles, i: number): Promise<Uint8Array | Float32Array> => {
    const values = await main.read(files, i * each, (i + 1) * each);
    if (!numbers) return pixelsOf(values, layout, 0, new Uint8Array(size));
    const out = new Float32Array(paired ? 2 * size : size);
    if (paired) {
      const noise = 'one' in pictures ? values : await pictures.x0.read(files, i * each, (i + 1) * each);
      pixelsOf(noise, layout, 0, out.subarray(0, size));
    }
    pixelsOf(values, layout, together ? channels : 0, out.subarray(paired ? size : 0));
    const bad = out.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      throw new DataError(`${main.name}: picture ${i} holds ${out[bad]}`, { hint: 'Training needs finite numbers.' });
    return out;
  };
  const files = openFiles();
  try {
    if (numbers && !paired && (channels === 1 || channels === 3))
      await checkScale(main.name, count, (i) => read(files, i));
    // Bytes that fit are held, as those of other small sets are.
    if (!numbers && count * size <= mostBytes(options)) {
      const pixels = new Uint8Array(count * size);
      for (let i = 0; i < count; i++) {
        pixels.set((await read(files, i)) as Uint8Array, i * size);
        throwIfAborted(options.signal, `reading ${main.name} was interrupted`);
        options.onProgress?.(i + 1, count);
      }
      return datasetOf({ ...shape, pixels, labels: Uint16Array.from(labels) });
    }
    const hash = createHash('sha256').update(JSON.stringify([shape, count, paired, main.header]));
    const sums = { count: 0, sum: 0, squares: 0 };
    for (let k = 0; k < SAMPLES; k++) {
      const values = await read(files, Math.floor((k * (count - 1)) / (SAMPLES - 1)));
      hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      addToSums(sums, paired ? values.subarray(size) : values);
    }
    const areLatents = numbers && channels !== 1 && channels !== 3;
    const kept = Uint16Array.from(labels);
    return {
      ...shape,
      count,
      skipped: [],
      elements: numbers ? 'numbers' : 'bytes',
      paired,
      identity: hash.digest('hex'),
      ...(areLatents ? { spread: spreadOf(sums) } : {}),
      label: (i) => kept[i]!,
      open() {
        const own = openFiles();
        return { read: (i) => read(own, i), close: () => own.close() };
      },
    };
  } finally {
    await files.close();
  }
}

/** Pictures that a set's identity is made of. */
const SAMPLES = 64;

/** Refuses pictures from 0 to 1, as other libraries have them: they would train, and look washed out. */
async function checkScale(
  name: string,
  count: number,
  read: (i: number) => Promise<Uint8Array | Float32Array>,
): Promise<void> {
  for (let i = 0; i < Math.min(count, 16); i++) {
    if ((await read(i)).some((value) => value < 0)) return;
  }
  throw new DataError(`${name}: its first pictures have no number below 0`, {
    hint: 'Pictures of floats go from -1 to 1: store x * 2 - 1 for those from 0 to 1, or bytes as uint8.',
  });
}
