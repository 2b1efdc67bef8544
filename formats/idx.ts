/**
 * The header of IDX files (MNIST's format) of unsigned bytes: 0, 0, 8 (unsigned byte), the number of dimensions; then their sizes as
 * big-endian 32-bit integers; then the elements, last dimension fastest.
 */
import { DataError } from '../engine/errors.ts';

/** Bytes before the elements of a file with `rank` dimensions. */
export const idxHeaderBytes = (rank: number): number => 4 + 4 * rank;

/** Whether bytes begin as gzip files do. */
export const isGzip = (start: Uint8Array): boolean => start[0] === 0x1f && start[1] === 0x8b;

/** The sizes of the `rank` dimensions, from a file's first bytes. @throws DataError if it is no such file, or an empty one. */
export function idxDims(name: string, start: Uint8Array, rank: number): number[] {
  const header = idxHeaderBytes(rank);
  if (start.length < header) throw new DataError(`${name}: ${start.length} bytes are too few for an IDX header`);
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const magic = view.getUint32(0);
  if (magic !== 0x800 + rank) {
    const hex = (n: number) => `0x${n.toString(16).padStart(8, '0')}`;
    throw new DataError(`${name}: magic ${hex(magic)} is not ${hex(0x800 + rank)} (IDX, unsigned bytes, ${rank} axes)`);
  }
  const dims = Array.from({ length: rank }, (_, k) => view.getUint32(4 + 4 * k));
  if (dims.includes(0)) throw new DataError(`${name}: its header says ${dims.join(' x ')}, which is empty`);
  return dims;
}
