/** Tar headers: names and sizes in every way they are written, and blocks that are no header. */
import { describe, expect, it } from 'vitest';
import { DataError } from '../../engine/errors.ts';
import { isTar, parsePax, parseTarHeader } from '../../formats/tar.ts';
import { tarHeader } from '../support/archives.ts';

/** The header with its sum made right again. */
function summed(block: Buffer): Buffer {
  block.write('        ', 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

describe('tar headers', () => {
  it('give name, size and type', () => {
    expect(parseTarHeader(tarHeader('a/b.png', 1234), 'x', 0)).toEqual({ name: 'a/b.png', size: 1234, type: '0' });
    expect(parseTarHeader(Buffer.alloc(512), 'x', 0)).toBeUndefined();
    const long = tarHeader('b.png', 1);
    long.write('deep/folder', 345);
    expect(parseTarHeader(summed(long), 'x', 0)!.name).toBe('deep/folder/b.png');
    const old = tarHeader('b.png', 1);
    old[156] = 0;
    expect(parseTarHeader(summed(old), 'x', 0)!.type).toBe('0');
  });

  it('give sizes beyond octal digits, and refuse those beyond all files', () => {
    const large = tarHeader('b', 0);
    large.fill(0, 124, 136);
    large[124] = 0x80;
    large.writeUInt32BE(2, 128);
    large.writeUInt32BE(5, 132);
    expect(parseTarHeader(summed(large), 'x', 0)!.size).toBe(2 * 2 ** 32 + 5);
    large.fill(0xff, 125, 136);
    expect(() => parseTarHeader(summed(large), 'x', 512)).toThrow(/^x: the header at byte 512 has no size$/);
    const words = tarHeader('b', 0);
    words.write('no number\0\0\0', 124);
    expect(() => parseTarHeader(summed(words), 'x', 0)).toThrow(DataError);
  });

  it('are refused where any one byte is another', () => {
    for (let i = 0; i < 512; i++) {
      const block = tarHeader('name.png', 77);
      block[i]! ^= 1;
      // The last two bytes of the sum's field are an end mark that nobody reads.
      if (i === 155 || i === 154) continue;
      expect(() => parseTarHeader(block, 'x', 0), `byte ${i}`).toThrow(/no tar header at byte 0/);
      expect(isTar(block)).toBe(false);
    }
    expect(isTar(tarHeader('a', 0))).toBe(true);
    expect(isTar(tarHeader('a', 0).subarray(0, 511))).toBe(false);
  });
});

describe('pax records', () => {
  it('are read, line feeds in values included', () => {
    const text = '19 path=a/b = c.png\n'.replace('19', '20');
    expect([...parsePax(Buffer.from(`${text}12 size=345\n`), 'x', 0)]).toEqual([
      ['path', 'a/b = c.png'],
      ['size', '345'],
    ]);
    expect(parsePax(Buffer.from('10 a=b\nc\nd'.replace('10', '11').concat('\n')), 'x', 0).get('a')).toBe('b\nc\nd');
  });

  it.each(['', 'x'].slice(1).concat(['99 path=a\n', '0 a=b\n', '-5 a=b\n', '4 a\n', '8 nokey\n', 'a=b\n']))(
    'that are none are refused: %j',
    (text) => {
      expect(() => parsePax(Buffer.from(text), 'x', 1024)).toThrow(/^x: the pax header at byte 1024 has no record/);
    },
  );
});
