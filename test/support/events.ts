/** Reads TensorBoard's event files, sharing nothing with what writes them: records, checksums bit by bit, protocol buffers by field. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Checksum of Castagnoli's polynomial, most significant bit first over mirrored bits: the plainest form there is. */
export function castagnoli(bytes: Uint8Array): bigint {
  const mirrored = (x: bigint, bits: number) => {
    let out = 0n;
    for (let i = 0; i < bits; i++) out |= ((x >> BigInt(i)) & 1n) << BigInt(bits - 1 - i);
    return out;
  };
  let rest = 0xffffffffn;
  for (const byte of bytes) {
    rest ^= mirrored(BigInt(byte), 8) << 24n;
    for (let bit = 0; bit < 8; bit++)
      rest = rest & 0x80000000n ? ((rest << 1n) ^ 0x1edc6f41n) & 0xffffffffn : rest << 1n;
  }
  return mirrored(rest ^ 0xffffffffn, 32);
}

/** The data of each record. Throws for a checksum that does not fit, and for an end within a record. */
export function recordsOf(bytes: Uint8Array, { checked = true } = {}): Uint8Array[] {
  const check = (data: Uint8Array, stored: Uint8Array) => {
    const crc = castagnoli(data);
    const masked = (((crc >> 15n) | (crc << 17n)) & 0xffffffffn) + 0xa282ead8n;
    if (BigInt(Buffer.from(stored).readUInt32LE()) !== masked % 2n ** 32n) throw new Error('a checksum does not fit');
  };
  const records: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 12 > bytes.length) throw new Error(`the file ends within record ${records.length}`);
    if (checked) check(bytes.subarray(at, at + 8), bytes.subarray(at + 8, at + 12));
    const length = Number(Buffer.from(bytes).readBigUInt64LE(at));
    const end = at + 12 + length + 4;
    if (end > bytes.length) throw new Error(`the file ends within record ${records.length}`);
    const data = bytes.subarray(at + 12, at + 12 + length);
    if (checked) check(data, bytes.subarray(end - 4, end));
    records.push(data);
    at = end;
  }
  return records;
}

type Field = { readonly field: number; readonly value: number | Uint8Array };

/** The fields of a message: numbers as they are encoded (varints, doubles, floats), or bytes. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const buffer = Buffer.from(bytes);
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = buffer[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  const skip = (bytes: number) => {
    at += bytes;
    return at - bytes;
  };
  while (at < buffer.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    const wire = key % 8;
    if (wire === 0) fields.push({ field, value: varint() });
    else if (wire === 1) fields.push({ field, value: buffer.readDoubleLE(skip(8)) });
    else if (wire === 5) fields.push({ field, value: buffer.readFloatLE(skip(4)) });
    else if (wire === 2) {
      const length = varint();
      const begin = skip(length);
      fields.push({ field, value: new Uint8Array(buffer.subarray(begin, at)) });
    } else throw new Error(`wire type ${wire}`);
  }
  return fields;
}

const numberAt = (fields: Field[], field: number) => fields.find((f) => f.field === field)?.value as number | undefined;
const bytesAt = (fields: Field[], field: number) =>
  fields.find((f) => f.field === field)?.value as Uint8Array | undefined;
const textAt = (fields: Field[], field: number) => {
  const bytes = bytesAt(fields, field);
  return bytes && new TextDecoder().decode(bytes);
};
const doublesOf = (bytes: Uint8Array | undefined) => (bytes ? [...new Float64Array(bytes.slice().buffer)] : []);

export interface ReadHistogram {
  readonly min: number;
  readonly max: number;
  readonly num: number;
  readonly sum: number;
  readonly sumSquares: number;
  readonly limits: number[];
  readonly counts: number[];
}

export interface ReadEvent {
  readonly time: number;
  readonly step: number;
  readonly version?: string;
  /** Status of a session log. */
  readonly session?: number;
  readonly scalars: Record<string, number>;
  readonly histograms: Record<string, ReadHistogram>;
  readonly images: Record<string, { height: number; width: number; colours: number; png: Uint8Array }>;
}

export function eventOf(record: Uint8Array): ReadEvent {
  const fields = fieldsOf(record);
  const event: ReadEvent = {
    time: numberAt(fields, 1)!,
    step: numberAt(fields, 2)!,
    version: textAt(fields, 3),
    session: bytesAt(fields, 7) && numberAt(fieldsOf(bytesAt(fields, 7)!), 1),
    scalars: {},
    histograms: {},
    images: {},
  };
  for (const { field, value } of fieldsOf(bytesAt(fields, 5) ?? new Uint8Array())) {
    if (field !== 1) continue;
    const summary = fieldsOf(value as Uint8Array);
    const tag = textAt(summary, 1)!;
    const scalar = numberAt(summary, 2);
    if (scalar !== undefined) event.scalars[tag] = scalar;
    const image = bytesAt(summary, 4) && fieldsOf(bytesAt(summary, 4)!);
    if (image) {
      const [height, width, colours] = [1, 2, 3].map((n) => numberAt(image, n)!) as [number, number, number];
      event.images[tag] = { height, width, colours, png: bytesAt(image, 4)! };
    }
    const histogram = bytesAt(summary, 5) && fieldsOf(bytesAt(summary, 5)!);
    if (!histogram) continue;
    const [min, max, num, sum, sumSquares] = [1, 2, 3, 4, 5].map((n) => numberAt(histogram, n)!) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const [limits, counts] = [6, 7].map((n) => doublesOf(bytesAt(histogram, n))) as [number[], number[]];
    event.histograms[tag] = { min, max, num, sum, sumSquares, limits, counts };
  }
  return event;
}

/** The event files of a folder, in the order that TensorBoard reads them. */
export function eventFiles(folder: string, options?: { checked?: boolean }): ReadEvent[][] {
  const names = readdirSync(folder).filter((name) => name.includes('tfevents'));
  return names.sort().map((name) => recordsOf(readFileSync(join(folder, name)), options).map(eventOf));
}

/** A Python that has TensorBoard: $ODELT_TENSORBOARD names it, or the one in the path. */
export const TENSORBOARD_PYTHON = process.env.ODELT_TENSORBOARD ?? 'python3';
