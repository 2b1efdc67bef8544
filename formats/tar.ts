/** Headers of tar archives (ustar, with pax and GNU long names): what an entry is called, how long it is. Bytes only, no files. */
import { DataError } from '../engine/errors.ts';

/** Tar archives are made of blocks of this many bytes. */
export const TAR_BLOCK = 512;

/** An entry's header. */
export interface TarHeader {
  readonly name: string;
  /** Bytes of the entry, without the padding to whole blocks. */
  readonly size: number;
  /** One letter: 0 a file, 5 a folder, x and g pax records, L a long name. */
  readonly type: string;
}

const text = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
};

/** Octal digits, or, with the first bit set, a big-endian number (GNU). NaN where it is neither. */
function numberOf(field: Uint8Array): number {
  if (field[0]! >= 0x80) {
    return field.subarray(1).reduce((value, byte) => value * 256 + byte, field[0]! & 0x7f);
  }
  const digits = text(field).trim();
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** Whether bytes begin as a tar archive does: with a header whose sum is right. */
export const isTar = (start: Uint8Array): boolean => start.length >= TAR_BLOCK && sumIsRight(start);

function sumIsRight(block: Uint8Array): boolean {
  let sum = 8 * 32; // its own field counts as spaces
  for (let i = 0; i < TAR_BLOCK; i++) if (i < 148 || i >= 156) sum += block[i]!;
  return numberOf(block.subarray(148, 156)) === sum;
}

/** The header in a block at byte `at` of the archive `archive`; undefined for the block of zeros that ends it. @throws DataError */
export function parseTarHeader(block: Uint8Array, archive: string, at: number): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  if (!sumIsRight(block)) {
    throw new DataError(`${archive}: there is no tar header at byte ${at} (its sum is wrong)`, {
      hint: 'The archive is damaged, or packed as a whole: give plain .tar files.',
    });
  }
  const size = numberOf(block.subarray(124, 136));
  if (!Number.isSafeInteger(size)) throw new DataError(`${archive}: the header at byte ${at} has no size`);
  const ustar = text(block.subarray(257, 262)) === 'ustar';
  const prefix = ustar ? text(block.subarray(345, 500)) : '';
  const name = text(block.subarray(0, 100));
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156]!);
  return { name: prefix === '' ? name : `${prefix}/${name}`, size, type };
}

/** The records of a pax header: `LENGTH KEY=VALUE` and a line feed each. @throws DataError */
export function parsePax(bytes: Uint8Array, archive: string, at: number): Map<string, string> {
  const records = new Map<string, string>();
  for (let begin = 0; begin < bytes.length; ) {
    const space = bytes.indexOf(32, begin);
    const length = Number(text(bytes.subarray(begin, Math.max(begin, space))));
    const record = text(bytes.subarray(space + 1, begin + length - 1));
    const equals = record.indexOf('=');
    if (space < 0 || !Number.isInteger(length) || begin + length > bytes.length || length < 5 || equals < 1) {
      throw new DataError(`${archive}: the pax header at byte ${at} has no record at its byte ${begin}`);
    }
    records.set(record.slice(0, equals), record.slice(equals + 1));
    begin += length;
  }
  return records;
}
