/** Pictures as browsers have them, bitmaps, blobs and dropped folders, made into a data set with the browser's own decoders. */
import { throwIfAborted } from '../engine/abort.ts';
import { ConfigError, DataError, UnsupportedError } from '../engine/errors.ts';
import { type Dataset, datasetOf, type SkippedFile } from '../training/data/dataset.ts';
import { byClass, type FileAt, fileAt } from './files.ts';

/** How pictures become a data set. */
export interface PictureOptions {
  /** Side of the square that pictures are cropped to from the centre, and resized to. Default 64. */
  readonly size?: number;
  /** 1: grey, 3: colours. Default 3. */
  readonly channels?: 1 | 3;
  /** What messages and model files call it. Default 'pictures'. */
  readonly name?: string;
  /** One per class; default: of files the names of their folders, else none. */
  readonly classNames?: readonly string[];
  readonly signal?: AbortSignal;
  /** Told after each picture. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/** An ImageBitmap, by what programs without the browser's types know of it. */
export interface Bitmap {
  readonly width: number;
  readonly height: number;
  /** Frees it. */
  close(): void;
}

/** A picture and its class, 0, 1, ... */
export interface LabelledPicture {
  readonly picture: Bitmap | Blob;
  readonly label: number;
}

/** Of a picture: red, green and blue as bytes, [size, size, 3]. */
type Draw = (picture: Bitmap | Blob) => Promise<Uint8ClampedArray>;

/** Luma of BT.601, as grey pictures are made of coloured ones. */
const LUMA = [0.299, 0.587, 0.114] as const;

/**
 * Labelled bitmaps and encoded pictures, decoded and scaled by the browser (whose last bits may differ from sharp's). Bitmaps stay the
 * caller's.
 * @throws DataError for no pictures or one that cannot be decoded; ConfigError for options; UnsupportedError where there is no
 * OffscreenCanvas, as under Node; InterruptedError.
 */
export async function datasetOfPictures(
  pictures: readonly LabelledPicture[],
  options: PictureOptions = {},
): Promise<Dataset> {
  const names = pictures.map((_, i) => `picture ${i}`);
  return decodeAll(pictures, names, options, (name, cause) => {
    throw new DataError(`${name} cannot be decoded`, { cause });
  });
}

/**
 * A chosen folder (`<input type="file" webkitdirectory>`) or a dropped one: pictures in FOLDER/CLASS/FILE, or in CLASS/FILE of several
 * folders, labelled by their class's name in code-unit order. Hidden files, and those beside the classes, are passed over; files that are
 * no pictures, or lie deeper, are listed in `skipped`.
 * @throws as datasetOfPictures; DataError where no file lies in a class's folder, or none can be decoded.
 */
export async function datasetOfFiles(files: Iterable<File | FileAt>, options: PictureOptions = {}): Promise<Dataset> {
  const { root, found, deeper } = byClass(Array.from(files, fileAt));
  if (found.length === 0) {
    throw new DataError('no file lies in a folder of its class', {
      hint: 'choose a folder whose sub-folders hold the pictures of one class each',
    });
  }
  const classNames = [...new Set(found.map(({ of }) => of))];
  const skipped: SkippedFile[] = deeper.map((file) => ({ file, reason: "lies deeper than its class's folder" }));
  const labelled = found.map(({ file, of }) => ({ picture: file, label: classNames.indexOf(of) }));
  const paths = found.map(({ path }) => path);
  const skip = (file: string, cause: unknown): void => {
    skipped.push({ file, reason: cause instanceof Error ? cause.message : String(cause) });
  };
  const name = options.name ?? root ?? 'pictures';
  return decodeAll(labelled, paths, { classNames, ...options, name }, skip, skipped);
}

async function decodeAll(
  pictures: readonly LabelledPicture[],
  names: readonly string[],
  { size = 64, channels = 3, name = 'pictures', classNames, signal, onProgress }: PictureOptions,
  onFailure: (name: string, cause: unknown) => void,
  skipped: readonly SkippedFile[] = [],
): Promise<Dataset> {
  if (!(Number.isInteger(size) && size > 0 && size <= 4096)) {
    throw new ConfigError(`picture size must be an integer from 1 to 4096, not ${size}`);
  }
  if (channels !== 1 && channels !== 3) throw new ConfigError(`pictures have 1 or 3 channels, not ${channels}`);
  if (pictures.length === 0) throw new DataError(`${name}: there are no pictures`);
  const stranger = pictures.findIndex(({ label }) => !(Number.isInteger(label) && label >= 0 && label <= 65535));
  if (stranger >= 0) {
    throw new ConfigError(
      `${names[stranger]} has label ${pictures[stranger]!.label}; labels are integers from 0 to 65535`,
    );
  }
  const draw = drawer(size);
  const each = size * size * channels;
  const pixels = new Uint8Array(pictures.length * each);
  const labels = new Uint16Array(pictures.length);
  let good = 0;
  for (const [i, { picture, label }] of pictures.entries()) {
    throwIfAborted(signal, `reading ${name} was interrupted`);
    try {
      store(await draw(picture), channels, pixels.subarray(good * each, (good + 1) * each));
      labels[good++] = label;
    } catch (cause) {
      onFailure(names[i]!, cause);
    }
    onProgress?.({ done: i + 1, total: pictures.length });
  }
  if (good === 0) {
    const why = skipped.slice(0, 3).map(({ file, reason }) => `${file}: ${reason}`);
    throw new DataError(`${name}: none of ${pictures.length} files is a readable picture (${why.join('; ')})`);
  }
  const classes = classNames?.length ?? Math.max(...labels.subarray(0, good)) + 1;
  return datasetOf({
    ...{ name, height: size, width: size, channels, classes, classNames, skipped: [...skipped] },
    ...{ pixels: pixels.subarray(0, good * each), labels: labels.subarray(0, good) },
  });
}

/** Draws pictures as squares of `size`, cropped from the centre, on white. @throws UnsupportedError */
function drawer(size: number): Draw {
  const canvas = 'OffscreenCanvas' in globalThis ? new OffscreenCanvas(size, size) : undefined;
  const context = canvas?.getContext('2d', { willReadFrequently: true });
  if (!context) {
    throw new UnsupportedError('pictures are decoded by browsers only: there is no OffscreenCanvas', {
      hint: 'under Node open a folder of pictures with openTrainingData of odelt/node, or give pixels to datasetOf',
    });
  }
  context.imageSmoothingQuality = 'high';
  return async (picture) => {
    const isBlob = picture instanceof Blob;
    const bitmap = isBlob ? await createImageBitmap(picture) : (picture as ImageBitmap);
    const side = Math.min(bitmap.width, bitmap.height);
    context.fillStyle = 'white';
    context.fillRect(0, 0, size, size);
    context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, size, size);
    if (isBlob) bitmap.close();
    return context.getImageData(0, 0, size, size).data;
  };
}

/** RGBA to `channels` bytes a pixel. */
function store(rgba: Uint8ClampedArray, channels: 1 | 3, out: Uint8Array): void {
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const [r, g, b] = [rgba[from]!, rgba[from + 1]!, rgba[from + 2]!];
    if (channels === 1) out[to++] = Math.round(LUMA[0] * r + LUMA[1] * g + LUMA[2] * b);
    else {
      out[to++] = r;
      out[to++] = g;
      out[to++] = b;
    }
  }
}
