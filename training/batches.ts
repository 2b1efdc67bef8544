/**
 * Batches in the order of training: from memory at once, from elsewhere read ahead of need. How far ahead is bounded in bytes, and
 * changes no number.
 */
import { ConfigError, DataError, UsageError } from '../engine/errors.ts';
import {
  isStreamed,
  type PictureDraw,
  type PictureReader,
  type TrainingData,
  toUnit,
  toUnitFlipped,
} from './data/dataset.ts';
import { dataOrder, fillBatch } from './data/order.ts';

/** Most bytes of pictures that are read ahead, and most pictures. */
const MOST_AHEAD = 64 * 2 ** 20;
const MOST_PICTURES = 4096;

/** Pictures after one that cannot be read which are tried in its place: where none of so many can be, it is not the pictures. */
const MOST_TRIED = 16;

/** What decides which pictures come. */
export interface BatchOptions {
  /** Integer in [0, 2^32). */
  readonly seed: number;
  /** Mirror half of the samples. */
  readonly flip?: boolean;
  /** Only so many pictures, as in DataOrderOptions. Default 0: all. */
  readonly only?: number;
  /** Position, in the order of all epochs, of the first sample to come. Default 0. */
  readonly first?: number;
  /** Of every `of` pictures only these, by their numbers among them, ascending: one process' part of each batch. Default: all. */
  readonly part?: { readonly of: number; readonly pictures: Uint32Array };
  /**
   * Told of a picture that cannot be read from disk, for which the next one of the data that can be stands in, label and all: the same one
   * wherever and whenever the sample is read, as long as the files are the same. Default: `next` throws what the reader throws.
   */
  readonly onBadPicture?: (error: DataError) => void;
  /** Bytes of pictures to read ahead of need; one picture at least. Default 64 MiB, and 4,096 pictures at most. */
  readonly maxAhead?: number;
}

/** Gives one batch after the other. */
export interface BatchReader {
  /**
   * The next labels.length samples: images [rows, H, W, C] as the model takes them, labels [rows] and, of a paired set, the noise
   * that belongs to them, in the same shape. @throws what the data set's reader throws
   */
  next(images: Float32Array, labels: Uint32Array, noise?: Float32Array): Promise<void>;
  /** Ends reading ahead. */
  close(): Promise<void>;
}

/**
 * Reads the batches of a data set. Nothing is read before the first is asked for.
 * @throws ConfigError for no pictures, a bad seed, and for latents that are to be mirrored: a mirrored latent is no latent of the mirrored picture
 */
export function readBatches(data: TrainingData, options: BatchOptions): BatchReader {
  const { seed, flip = false, only = 0, first = 0, part, onBadPicture, maxAhead = MOST_AHEAD } = options;
  let taken = 0;
  /** Position of the next picture. */
  const nextPosition = () => {
    const n = taken++;
    if (!part) return first + n;
    const { length } = part.pictures;
    return first + Math.floor(n / length) * part.of + part.pictures[n % length]!;
  };
  if (!isStreamed(data)) {
    const order = dataOrder({ count: data.count, seed, flip, only });
    return {
      async next(images, labels, noise) {
        if (noise) throw new UsageError(`${data.name} has no noise`);
        fillBatch(data, order, nextPosition, images, labels);
      },
      close: async () => {},
    };
  }

  if (flip && data.elements === 'numbers' && !data.flips) {
    throw new ConfigError(`training.flip: '${data.name}' holds numbers, which are not mirrored`, {
      hint: 'leave training.flip out, or put the mirrored pictures into the data, encoded for themselves: odelt encode --flip',
    });
  }
  const order = dataOrder({ count: data.count, seed, flip, only, groups: data.groups });
  const size = data.height * data.width * data.channels;
  const each = size * (data.elements === 'bytes' ? 1 : 4) * (data.paired ? 2 : 1);
  const ahead = Math.min(Math.max(1, Math.floor(maxAhead / each)), MOST_PICTURES);
  /** A picture that was read, and, where it stands in for another, why. */
  type Read = { readonly index: number; readonly values: Uint8Array | Float32Array; readonly bad?: DataError };
  const queue: { flip: boolean; picture: Promise<Read> }[] = [];
  let reader: PictureReader | undefined;
  const readOne = async (from: PictureReader, wanted: number, draw: PictureDraw): Promise<Read> => {
    let bad: DataError | undefined;
    for (let tried = 0; ; tried++) {
      const index = (wanted + tried) % data.count;
      try {
        return { index, values: await from.read(index, draw), bad };
      } catch (error) {
        if (!onBadPicture || !(error instanceof DataError)) throw error;
        bad ??= error;
        if (tried === MOST_TRIED)
          throw new DataError(`${bad.message}; nor can the ${MOST_TRIED} after it be read`, {
            cause: bad,
            hint: 'see whether the data are still where they were, then go on with --resume',
          });
      }
    }
  };
  const readAhead = () => {
    reader ??= data.open();
    while (queue.length < ahead) {
      const position = nextPosition();
      const { index, flip } = order.at(position);
      const picture = readOne(reader, index, { seed, position, mirrored: flip });
      picture.catch(() => {}); // told when its turn has come
      queue.push({ flip, picture });
    }
  };
  return {
    async next(images, labels, noise) {
      for (const array of noise ? [images, noise] : [images]) {
        if (array.length === labels.length * size) continue;
        throw new UsageError(`${labels.length} pictures of ${size} numbers do not fill ${array.length}`);
      }
      if (noise && !data.paired) throw new UsageError(`${data.name} has no noise`);
      for (let row = 0; row < labels.length; row++) {
        readAhead();
        const { flip: mirrored, picture } = queue[0]!;
        const { index, values, bad } = await picture;
        queue.shift();
        if (bad) onBadPicture?.(bad);
        if (values instanceof Float32Array) {
          images.set(data.paired ? values.subarray(size) : values, row * size);
          noise?.set(values.subarray(0, size), row * size);
        } else if (mirrored) toUnitFlipped(values, data.width, data.channels, images, row * size);
        else toUnit(values, images, row * size);
        labels[row] = data.label(index);
      }
    },
    async close() {
      await reader?.close();
    },
  };
}
