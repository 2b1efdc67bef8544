/** Files of data sets, byte by byte: tar archives and NumPy arrays. */

/** One 512-byte header of a ustar archive. */
export function tarHeader(name: string, size: number, type = '0'): Buffer {
  const block = Buffer.alloc(512);
  block.write(name, 0, 100);
  block.write('0000644\0', 100);
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  block.write('        ', 148);
  block.write(type, 156);
  block.write('ustar\x0000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

/** An entry: header, content, zeros to a whole block. */
export function tarEntry(name: string, content: Uint8Array | string, type = '0'): Buffer {
  const bytes = Buffer.from(content as Uint8Array);
  return Buffer.concat([tarHeader(name, bytes.length, type), bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** An archive of these entries, with its end mark. */
export const tar = (
  entries: readonly (readonly [name: string, content: Uint8Array | string, type?: string])[],
): Buffer =>
  Buffer.concat([...entries.map(([name, content, type]) => tarEntry(name, content, type)), Buffer.alloc(1024)]);

/** A `.npy` file as NumPy writes it: version 1, header padded to 64 bytes. */
export function npy(descr: string, shape: readonly number[], data: ArrayBufferView, fortran = false): Buffer {
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': (${dims}), }`;
  const padded = `${text}${' '.repeat(63 - ((10 + text.length) % 64))}\n`;
  const head = Buffer.from(`\x93NUMPY\x01\0\0\0${padded}`, 'latin1');
  head.writeUInt16LE(padded.length, 8);
  return Buffer.concat([head, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}
