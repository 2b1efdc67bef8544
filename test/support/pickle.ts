/** Pickles and files of torch.save, written byte by byte. */

import { crc32 } from 'node:zlib';
import { concatenated } from '../../formats/bytes.ts';
import { type ParamSet, paramEntries } from '../../model/params.ts';

const encoder = new TextEncoder();
const u16 = (n: number) => [n & 255, n >> 8];
const u32 = (n: number) => [...u16(n & 0xffff), ...u16(n >>> 16)];

/** The pieces of a pickle: texts are SHORT_BINUNICODE, numbers their bytes. */
export const raw = (...pieces: readonly (number | string | Uint8Array)[]): Uint8Array<ArrayBuffer> =>
  concatenated(
    pieces.map((piece) =>
      typeof piece === 'number' ? Uint8Array.of(piece) : typeof piece === 'string' ? encoder.encode(piece) : piece,
    ),
  );

const PROTO = raw(0x80, 4);
const STOP = raw('.');
export const text = (value: string) => raw(0x8c, encoder.encode(value).length, value);
export const int = (value: number) => raw('J', ...u32(value >>> 0));
export const bytes = (value: Uint8Array) => raw('B', ...u32(value.length), value);
export const tuple = (...values: readonly Uint8Array[]) => raw('(', ...values, 't');
export const global = (name: string) => {
  const dot = name.lastIndexOf('.');
  return raw(text(name.slice(0, dot)), text(name.slice(dot + 1)), 0x93);
};
export const call = (name: string, ...args: readonly Uint8Array[]) => raw(global(name), tuple(...args), 'R');
export const dict = (entries: Readonly<Record<string, Uint8Array>>) =>
  raw('}', '(', ...Object.entries(entries).flatMap(([key, value]) => [text(key), value]), 'u');
export const pickle = (value: Uint8Array) => raw(PROTO, value, STOP);

export const TRUE = raw(0x88);
export const FALSE = raw(0x89);
export const NONE = raw('N');

export const dtype = (name: string, order = '<') =>
  raw(
    call('numpy.dtype', text(name), FALSE, TRUE),
    tuple(int(3), text(order), NONE, NONE, NONE, int(-1), int(-1), int(0)),
    'b',
  );

/** An array as NumPy writes it. */
export const ndarray = (
  type: Uint8Array,
  shape: readonly number[],
  data: Uint8Array,
  columns = FALSE,
  core = 'numpy._core',
) =>
  raw(
    call(`${core}.multiarray._reconstruct`, global('numpy.ndarray'), tuple(int(0)), bytes(raw('b'))),
    tuple(int(1), tuple(...shape.map(int)), type, columns, bytes(data)),
    'b',
  );

export const floats = (...values: readonly number[]) => new Uint8Array(Float32Array.from(values).buffer);

/** A tensor as torch.save writes it: its storage has `count` numbers in data/`key`. */
export const tensor = (
  storage: { key: string; count: number; type?: string },
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
) =>
  call(
    'torch._utils._rebuild_tensor_v2',
    raw(
      tuple(
        text('storage'),
        global(`torch.${storage.type ?? 'FloatStorage'}`),
        text(storage.key),
        text('cpu'),
        int(storage.count),
      ),
      'Q',
    ),
    int(offset),
    tuple(...shape.map(int)),
    tuple(...strides.map(int)),
    FALSE,
    call('collections.OrderedDict'),
  );

export interface Entry {
  readonly name: string;
  readonly data: Uint8Array;
  /** What the directory says instead of the truth. */
  readonly claimed?: { size?: number; packed?: number; method?: number; place?: number; crc?: number };
}

/** A zip file whose entries are stored. */
export function zip(entries: readonly Entry[], count = entries.length): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const { name, data, claimed = {} } of entries) {
    const { size = data.length, packed = data.length, method = 0, place = at, crc = crc32(data) } = claimed;
    const named = encoder.encode(name);
    const head = [
      ...u16(20),
      ...u16(0),
      ...u16(method),
      ...u32(0),
      ...u32(crc),
      ...u32(packed),
      ...u32(size),
      ...u16(named.length),
    ];
    const local = raw('PK\x03\x04', ...head, ...u16(0), named, data);
    directory.push(raw('PK\x01\x02', ...u16(20), ...head, ...u32(0), ...u32(0), ...u32(0), ...u32(place), named));
    parts.push(local);
    at += local.length;
  }
  const listed = concatenated(directory);
  const end = raw('PK\x05\x06', ...u32(0), ...u16(count), ...u16(count), ...u32(listed.length), ...u32(at), ...u16(0));
  return concatenated([...parts, listed, end]);
}

/** A file of torch.save. */
export const torchFile = (value: Uint8Array, data: Readonly<Record<string, Uint8Array>>, order = 'little') =>
  zip([
    { name: 'archive/data.pkl', data: pickle(value) },
    { name: 'archive/byteorder', data: encoder.encode(order) },
    ...Object.entries(data).map(([key, bytes]) => ({ name: `archive/data/${key}`, data: bytes })),
  ]);

/** A pickle of the reference's training after `step` updates: both sets of weights, and Adam's moments. */
export function trainingPickle(
  sets: Readonly<Record<'params' | 'ema' | 'm' | 'v', ParamSet>>,
  step: number,
): Uint8Array {
  const tree = (set: ParamSet) => {
    const leaves: Record<string, Record<string, Uint8Array>> = {};
    for (const { spec, values } of paramEntries(set)) {
      const cut = spec.name.lastIndexOf('/');
      const path = spec.name.slice(0, cut);
      const array = ndarray(dtype('f4'), spec.shape, new Uint8Array(values.slice().buffer));
      leaves[path] = { ...leaves[path], [spec.name.slice(cut + 1)]: array };
    }
    return dict(Object.fromEntries(Object.entries(leaves).map(([path, inner]) => [path, dict(inner)])));
  };
  const { params, ema, m, v } = sets;
  const adam = raw(global('optax._src.transform.ScaleByAdamState'), tuple(int(step), tree(m), tree(v)), 0x81);
  return pickle(dict({ params: tree(params), params_ema: tree(ema), opt_state: tuple(adam), step: int(step) }));
}
