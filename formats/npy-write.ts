/** NumPy's files, written: `.npy` (one array) and `.npz` (a zip of them, stored as they are, as numpy.savez does). The same bytes every time. */
import { zipSync } from 'fflate';

/** An array to be written, row by row. */
export interface Written {
  readonly shape: readonly number[];
  readonly values: Uint8Array | Float32Array | Float64Array;
}

/** The first time that a zip file can say; in local time, as its format has it. */
const EPOCH = new Date(1980, 0, 1);

const isLittleEndian = (): boolean => new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** A whole `.npy` file: version 1, little-endian, C order. */
export function writeNpy({ shape, values }: Written): Uint8Array {
  const descr = values instanceof Uint8Array ? '|u1' : values instanceof Float32Array ? '<f4' : '<f8';
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }`;
  const padded = `${text}${' '.repeat(63 - ((10 + text.length) % 64))}\n`;
  const head = new TextEncoder().encode(`\0NUMPY\x01\0\0\0${padded}`);
  head[0] = 0x93;
  new DataView(head.buffer).setUint16(8, padded.length, true);
  const file = new Uint8Array(head.length + values.byteLength);
  file.set(head);
  file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), head.length);
  if (!isLittleEndian() && values.BYTES_PER_ELEMENT > 1) {
    const size = values.BYTES_PER_ELEMENT;
    for (let at = head.length; at < file.length; at += size) file.subarray(at, at + size).reverse();
  }
  return file;
}

/** A whole `.npz` file of these arrays, in order. */
export const writeNpz = (arrays: Readonly<Record<string, Written>>): Uint8Array =>
  zipSync(Object.fromEntries(Object.entries(arrays).map(([name, array]) => [`${name}.npy`, writeNpy(array)])), {
    level: 0,
    mtime: EPOCH,
  });
