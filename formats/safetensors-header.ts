/**
 * The header of a safetensors file: reading it with every check that keeps a hostile or damaged file from doing harm (all
 * before anything of the data is allocated), and writing it.
 */
import { CheckpointError } from '../engine/errors.ts';

/** Element type of a tensor in a file, by the format's name. Not all are read as numbers: others in the same file are. */
export type Dtype =
  | ('F64' | 'F32' | 'F16' | 'BF16')
  | ('I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL')
  | ('F8_E4M3' | 'F8_E4M3FNUZ' | 'F8_E5M2' | 'F8_E5M2FNUZ' | 'F8_E8M0' | 'F6_E2M3' | 'F6_E3M2' | 'F4' | 'C64');

/** Bits per element of each type. */
const DTYPE_BITS: Readonly<Record<Dtype, number>> = {
  ...{ F64: 64, F32: 32, F16: 16, BF16: 16, C64: 64 },
  ...{ I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8 },
  ...{ F8_E4M3: 8, F8_E4M3FNUZ: 8, F8_E5M2: 8, F8_E5M2FNUZ: 8, F8_E8M0: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
};

/** Bytes of so many elements; no whole number of them for what no file holds. */
export const bytesOfElements = (type: Dtype, count: number): number => (DTYPE_BITS[type] * count) / 8;

/** A tensor's entry in the header. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Byte range in the file: [begin, end). */
  readonly begin: number;
  readonly end: number;
}

/** A file's header. */
export interface SafetensorsHeader {
  /** In the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * What a header may ask for, so that reading one takes tens of megabytes at most, whoever wrote it. The format itself allows
 * headers of 100 MB, which would be a million tensors and a gigabyte of memory; the largest preset has about 500.
 */
const MAX_HEADER = 16 * 1024 * 1024;
/** Most fields of one object: tensors, or entries of the metadata. */
const MAX_FIELDS = 65_536;
/** Most characters of a name. */
const MAX_NAME = 1024;
/** Most dimensions of a tensor. */
const MAX_RANK = 32;
/** Most bytes of one tensor that are read, what one read of Node's may ask for and what every engine's arrays can hold. */
export const MAX_READ = 2 ** 31 - 1;
/** Bytes before the header: its length as a 64-bit integer. */
export const LENGTH_BYTES = 8;

/** Throws the CheckpointError for a bad file. */
export type Fail = (problem: string) => never;

function failFor(file: string): Fail {
  return (problem) => {
    throw new CheckpointError(`${file}: ${problem}`, {
      hint: 'the file is damaged, truncated or no safetensors file: fetch or write it again',
    });
  };
}

/**
 * Length of the header in bytes from a file's first 8 bytes and its size. Throws CheckpointError if the file cannot hold
 * such a header, or is what Python's pickle or torch.save writes.
 */
export function headerLength(first: Uint8Array, fileBytes: number, file: string): number {
  const fail = failFor(file);
  if (first.length < LENGTH_BYTES) fail(`has ${first.length} bytes; a safetensors file has at least ${LENGTH_BYTES}`);
  const view = new DataView(first.buffer, first.byteOffset, LENGTH_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  const most = fileBytes - LENGTH_BYTES;
  const pickled = first[0] === 0x80 && first[1]! <= 5;
  const zipped = first[0] === 0x50 && first[1] === 0x4b;
  if (length > most && (pickled || zipped)) {
    throw new CheckpointError(`${file} is ${pickled ? 'a pickle' : 'a zip archive'}, no safetensors file`, {
      hint: '`odelt convert` makes a model file of a checkpoint of another program',
    });
  }
  if (length < 2 || length > most) fail(`claims a header of ${length} bytes; from 2 to ${most} are possible`);
  if (length > MAX_HEADER) {
    throw new CheckpointError(`${file}: claims a header of ${length} bytes; up to ${MAX_HEADER} are read`, {
      hint: 'split it into files of fewer tensors, or keep long texts out of its metadata',
    });
  }
  return length;
}

/**
 * Whether a file's first bytes are those of safetensors: a length below 4 GiB, then an object. To be asked before any other format is
 * looked for, as a length may be of the bytes that a pickle (0x80) or a zip file ('PK') begins with.
 */
export const beginsSafetensors = (first: Uint8Array): boolean =>
  first[LENGTH_BYTES] === 0x7b && first.subarray(4, LENGTH_BYTES).every((byte) => byte === 0);

type Json = string | number | Json[] | Map<string, Json>;

/**
 * Reads the little JSON that a header may contain: objects (as Maps, so that no name is special), arrays, strings and
 * natural numbers. Unlike JSON.parse it refuses a name that occurs twice, deep nesting, and more of anything than a weight file
 * has, when it comes to it and not after all has been read.
 */
function parseHeaderJson(text: string, fail: Fail): Json {
  let at = 0;
  const skipSpace = () => {
    while (at < text.length && ' \t\n\r'.includes(text[at]!)) at++;
  };
  const expect = (token: string) => {
    skipSpace();
    if (text[at] !== token) fail(`header: expected ${token} at character ${at}, found ${text[at] ?? 'the end'}`);
    at++;
  };
  /** Takes the token if it is next. */
  const accept = (token: string) => {
    skipSpace();
    if (text[at] !== token) return false;
    at++;
    return true;
  };
  const string = (): string => {
    expect('"');
    const start = at;
    while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
    if (at >= text.length) fail(`header: the string at character ${start} does not end`);
    at++;
    try {
      return JSON.parse(text.slice(start - 1, at)) as string;
    } catch {
      return fail(`header: the string at character ${start} is malformed`);
    }
  };
  const natural = (): number => {
    const start = at;
    while (at < text.length && at - start <= 16 && text[at]! >= '0' && text[at]! <= '9') at++;
    const digits = text.slice(start, at);
    const value = Number(digits);
    if (digits === '' || !Number.isSafeInteger(value) || (digits.length > 1 && digits[0] === '0')) {
      fail(`header: expected a value at character ${start}, found ${text.slice(start, start + 20) || 'the end'}`);
    }
    return value;
  };
  const object = (depth: number): Map<string, Json> => {
    const fields = new Map<string, Json>();
    expect('{');
    if (accept('}')) return fields;
    do {
      skipSpace();
      if (fields.size === MAX_FIELDS) fail(`header: has more than ${MAX_FIELDS} entries at character ${at}`);
      const start = at;
      const name = string();
      if (name.length > MAX_NAME) {
        fail(`header: the name at character ${start} has ${name.length} characters; up to ${MAX_NAME} are read`);
      }
      if (fields.has(name)) fail(`header: ${JSON.stringify(name)} occurs twice`);
      expect(':');
      fields.set(name, value(depth + 1));
    } while (accept(','));
    expect('}');
    return fields;
  };
  const array = (depth: number): Json[] => {
    const items: Json[] = [];
    expect('[');
    if (accept(']')) return items;
    do {
      if (items.length === MAX_RANK) fail(`header: the list before character ${at} is longer than ${MAX_RANK}`);
      items.push(value(depth + 1));
    } while (accept(','));
    expect(']');
    return items;
  };
  const value = (depth: number): Json => {
    if (depth > 3) fail(`header: nested too deeply at character ${at}`);
    skipSpace();
    if (text[at] === '{') return object(depth);
    if (text[at] === '[') return array(depth);
    if (text[at] === '"') return string();
    return natural();
  };
  if (text[0] !== '{') fail('header: does not start with {');
  const root = value(0);
  skipSpace();
  if (at < text.length) fail(`header: something follows the JSON at character ${at}`);
  return root;
}

function naturals(json: Json | undefined): number[] | undefined {
  return Array.isArray(json) && json.every((n) => typeof n === 'number') ? json : undefined;
}

/** Checks one tensor's entry by itself; `dataStart` is where the data begins in the file. */
function parseTensor(name: string, json: Json, dataStart: number, fail: Fail): TensorInfo {
  const label = `tensor ${JSON.stringify(name)}`;
  if (!(json instanceof Map)) return fail(`${label}: its entry is no object`);
  const dtype = json.get('dtype');
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BITS, dtype)) {
    return fail(`${label}: type ${JSON.stringify(dtype)} is not one of ${Object.keys(DTYPE_BITS).join(', ')}`);
  }
  const shape = naturals(json.get('shape'));
  if (shape === undefined) return fail(`${label}: its shape is no list of integers`);
  const offsets = naturals(json.get('data_offsets'));
  if (offsets?.length !== 2) return fail(`${label}: its data_offsets are no pair of integers`);
  if (json.size !== 3) return fail(`${label}: has fields other than dtype, shape and data_offsets`);
  const bytes = bytesOfElements(
    dtype as Dtype,
    shape.reduce((a, b) => a * b, 1),
  );
  const [begin, end] = offsets as [number, number];
  if (end - begin !== bytes) {
    fail(`${label}: ${dtype} of shape [${shape}] takes ${bytes} bytes, but its offsets span ${end - begin}`);
  }
  return { name, dtype: dtype as Dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** The tensors must cover the data from its first byte to its last, without holes and without overlap. */
function checkCover(tensors: readonly TensorInfo[], dataStart: number, fileBytes: number, fail: Fail): void {
  let at = dataStart;
  for (const { name, begin, end } of tensors) {
    if (begin < at) fail(`tensor ${JSON.stringify(name)} overlaps the one before it by ${at - begin} bytes`);
    if (begin > at) fail(`${begin - at} bytes before tensor ${JSON.stringify(name)} belong to no tensor`);
    at = end;
  }
  if (at > fileBytes) fail(`is truncated: its tensors end at byte ${at}, the file at byte ${fileBytes}`);
  if (at < fileBytes) fail(`${fileBytes - at} bytes after the last tensor belong to no tensor`);
}

/**
 * Reads and checks a header. `json` is the header's bytes (after the length), `fileBytes` the size of the whole file and
 * `file` its name for messages. Throws CheckpointError for whatever is not a well-formed header that covers the file
 * exactly: bad JSON, duplicate names, unknown types, shapes that do not match their bytes, overlaps, holes, truncation.
 */
export function parseHeader(json: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  const fail = failFor(file);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch {
    return fail('header: is not valid UTF-8');
  }
  const root = parseHeaderJson(text, fail) as Map<string, Json>;
  const dataStart = LENGTH_BYTES + json.length;
  const metadata = new Map<string, string>();
  const infos: TensorInfo[] = [];
  for (const [name, entry] of root) {
    if (name !== '__metadata__') {
      infos.push(parseTensor(name, entry, dataStart, fail));
      continue;
    }
    if (!(entry instanceof Map)) return fail('header: __metadata__ is no object');
    for (const [key, text] of entry) {
      if (typeof text !== 'string') return fail(`header: __metadata__ ${JSON.stringify(key)} is no string`);
      metadata.set(key, text);
    }
  }
  infos.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCover(infos, dataStart, fileBytes, fail);
  return { tensors: new Map(infos.map((info) => [info.name, info])), metadata };
}

/**
 * Bytes of the length and header for tensors that follow one another in the given order; padded with spaces so that the
 * data starts at a multiple of 8. Throws CheckpointError for a name given twice or reserved, and for what `parseHeader` refuses:
 * too many tensors, long names, high ranks, a long header.
 */
export function headerBytes(
  tensors: readonly { name: string; dtype: Dtype; shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const most = (what: string, found: number, limit: number) => {
    if (found > limit) throw new CheckpointError(`cannot write ${what} of ${found}; the most is ${limit}`);
  };
  most('a number of tensors', tensors.length, MAX_FIELDS - 1);
  most('a number of metadata entries', Object.keys(metadata).length, MAX_FIELDS);
  const names = new Set<string>(['__metadata__']);
  const entries: string[] = [];
  if (Object.keys(metadata).length > 0) entries.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let at = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw new CheckpointError(`cannot write two tensors named ${JSON.stringify(name)}`);
    names.add(name);
    most('a name with a length', name.length, MAX_NAME);
    most(`tensor ${name} with a rank`, shape.length, MAX_RANK);
    const end =
      at +
      bytesOfElements(
        dtype,
        shape.reduce((a, b) => a * b, 1),
      );
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, end] })}`);
    at = end;
  }
  const json = new TextEncoder().encode(`{${entries.join(',')}}`);
  const length = Math.ceil(json.length / 8) * 8;
  most('a header with a length', length, MAX_HEADER);
  const bytes = new Uint8Array(LENGTH_BYTES + length).fill(0x20, LENGTH_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}
