/**
 * TensorBoard's event files as bytes: records with masked checksums, each an `Event` in protocol-buffer encoding. Only what TensorBoard
 * shows of a training run: numbers, histograms, PNG pictures, and the mark at which a run goes on.
 */
import { UsageError } from '../engine/errors.ts';
import { concatenated } from './bytes.ts';

/** Counts of values by bins: bin i holds what is above `limits[i - 1]` and up to `limits[i]`. */
export interface HistogramSummary {
  readonly min: number;
  readonly max: number;
  readonly sum: number;
  readonly sumSquares: number;
  /** Right edges, ascending; as many as `counts`. */
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

/** One named value. Names are paths: TensorBoard makes a section of what comes before the first slash. */
export type Summary =
  | { readonly tag: string; readonly scalar: number }
  | { readonly tag: string; readonly histogram: HistogramSummary }
  | { readonly tag: string; readonly png: Uint8Array; readonly width: number; readonly height: number };

/** What one record says. */
export type EventContent =
  /** The first record of every file. */
  | 'version'
  /** A run begins or goes on: TensorBoard drops what earlier files say of this step and later ones. */
  | 'start'
  | readonly Summary[];

/** CRC-32C (Castagnoli): reflected polynomial 0x82f63b78 (RFC 3720, appendix B.4). */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32C of the bytes, as an unsigned integer. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** As records store it: rotated and shifted, so that a checksum of data that hold checksums stays one. */
const masked = (bytes: Uint8Array): number => {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
};

/** One record: length, its checksum, the data, their checksum; little-endian. */
function recordOf(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length, true); // the upper half of 64 bits stays 0
  view.setUint32(8, masked(out.subarray(0, 8)), true);
  out.set(data, 12);
  view.setUint32(12 + data.length, masked(data), true);
  return out;
}

/** The base-128 form of an integer in [0, 2^53). */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Uint8Array.from([...bytes, rest]);
}

/** Wire types of protocol buffers. */
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

const key = (field: number, wire: number) => varint(field * 8 + wire);
const bytesField = (field: number, data: Uint8Array) => concatenated([key(field, BYTES), varint(data.length), data]);
const textField = (field: number, text: string) => bytesField(field, new TextEncoder().encode(text));
const integerField = (field: number, value: number) => concatenated([key(field, VARINT), varint(value)]);
const message = (field: number, ...parts: Uint8Array[]) => bytesField(field, concatenated(parts));

function doubles(values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, i) => {
    view.setFloat64(8 * i, value, true);
  });
  return new Uint8Array(view.buffer);
}

const doubleField = (field: number, value: number) => concatenated([key(field, FIXED64), doubles([value])]);

function floatField(field: number, value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return concatenated([key(field, FIXED32), new Uint8Array(view.buffer)]);
}

function summaryBytes(summary: Summary): Uint8Array {
  const tag = textField(1, summary.tag);
  if ('scalar' in summary) return message(1, tag, floatField(2, summary.scalar));
  if ('png' in summary) {
    const { width, height, png } = summary;
    const image = [integerField(1, height), integerField(2, width), integerField(3, 3), bytesField(4, png)]; // 3: RGB
    return message(1, tag, message(4, ...image));
  }
  const { min, max, sum, sumSquares, limits, counts } = summary.histogram;
  if (limits.length !== counts.length || limits.length === 0) {
    throw new UsageError(`'${summary.tag}' has ${counts.length} counts for ${limits.length} edges of bins`);
  }
  const number = counts.reduce((a, b) => a + b, 0);
  const figures = [min, max, number, sum, sumSquares].map((value, i) => doubleField(1 + i, value));
  const bins = [bytesField(6, doubles(limits)), bytesField(7, doubles(counts))];
  return message(1, tag, message(5, ...figures, ...bins));
}

/**
 * The bytes of one event, to be appended to a file whose name contains `tfevents`. `time`: seconds since 1970; `step`: updates done.
 * @throws UsageError for a step that is no count, and for a histogram whose bins and counts differ in number
 */
export function eventBytes(time: number, step: number, content: EventContent): Uint8Array {
  if (!(Number.isSafeInteger(step) && step >= 0)) throw new UsageError(`an event's step is ${step}, not 0, 1, ...`);
  const what =
    content === 'version'
      ? textField(3, 'brain.Event:2')
      : content === 'start'
        ? message(7, integerField(1, 1))
        : message(5, ...content.map(summaryBytes));
  return recordOf(concatenated([doubleField(1, time), integerField(2, step), what]));
}
