/** NumPy's files: values of every type, headers that lie, files cut short anywhere. */
import { strToU8, zipSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import { DataError, LimitError } from '../../engine/errors.ts';
import { toHalf } from '../../formats/half.ts';
import { parseNpyHeader, readNpy, readNpz } from '../../formats/npy.ts';
import { npy } from '../support/archives.ts';

const swapped = (array: Int32Array) => Uint8Array.from(Buffer.from(array.buffer).swap32());

describe('.npy', () => {
  it.each<[string, ArrayBufferView, number[]]>([
    ['|u1', Uint8Array.of(0, 7, 255), [0, 7, 255]],
    ['|i1', Int8Array.of(-128, 0, 127), [-128, 0, 127]],
    ['|b1', Uint8Array.of(0, 1, 1), [0, 1, 1]],
    ['<u2', Uint16Array.of(1, 2, 65535), [1, 2, 65535]],
    ['<i2', Int16Array.of(-5, 0, 5), [-5, 0, 5]],
    ['<i4', Int32Array.of(-70000, 0, 70000), [-70000, 0, 70000]],
    ['>i4', swapped(Int32Array.of(-70000, 0, 70000)), [-70000, 0, 70000]],
    ['<i8', BigInt64Array.of(-3n, 0n, 2n ** 40n), [-3, 0, 2 ** 40]],
    ['<f2', toHalf(Float32Array.of(-1, 0.5, 65504)), [-1, 0.5, 65504]],
    ['<f4', Float32Array.of(-1.5, 0, 3e38), [-1.5, 0, Math.fround(3e38)]],
    ['<f8', Float64Array.of(-1.1, 0, 1e300), [-1.1, 0, 1e300]],
  ])('reads %s', (descr, data, values) => {
    const array = readNpy(npy(descr, [3], data), 'a.npy');
    expect(array.header.shape).toEqual([3]);
    expect(Array.from(array.values)).toEqual(values);
  });

  it('reads shapes, and bytes that do not begin at a multiple of their elements', () => {
    expect(readNpy(npy('<f4', [2, 1, 3], new Float32Array(6)), 'a').header.shape).toEqual([2, 1, 3]);
    expect(readNpy(npy('<f4', [], Float32Array.of(4)), 'a')).toMatchObject({ header: { shape: [], count: 1 } });
    const odd = Buffer.concat([Buffer.of(0), npy('<f4', [2], Float32Array.of(1, 2))]).subarray(1);
    expect(Array.from(readNpy(odd, 'a').values)).toEqual([1, 2]);
  });

  it('refuses a file cut short at any byte, naming it', () => {
    const whole = npy('<i2', [4], Int16Array.of(1, 2, 3, 4));
    for (let length = 0; length < whole.length; length++) {
      expect(() => readNpy(whole.subarray(0, length), 'x.npy'), `${length} bytes`).toThrow(DataError);
      expect(() => readNpy(whole.subarray(0, length), 'x.npy')).toThrow(/^x\.npy: /);
    }
    expect(() => readNpy(Buffer.concat([whole, Buffer.of(0)]), 'x.npy')).toThrow(
      /bytes, where its header \(4\) asks for/,
    );
  });

  it.each<[string, Buffer, RegExp]>([
    ['objects', npy('|O8', [1], new Uint8Array(8)), /elements of type O8/],
    ['text', npy('<U4', [1], new Uint8Array(16)), /elements of type U4/],
    ['floats of 3 bytes', npy('<f3', [1], new Uint8Array(3)), /elements of type f3/],
    ['Fortran order', npy('<f4', [2, 2], new Float32Array(4), true), /is in Fortran order/],
    ['more than there can be', npy('<f8', [2 ** 40, 2 ** 40], new Uint8Array(8)), /which no file can hold/],
    ['more than there is', npy('<f8', [2 ** 30], new Uint8Array(8)), /asks for 8589934720/],
    ['a negative size', npy('<f4', [-1], new Float32Array(1)), /is not that of an array of numbers/],
    ['records', npy("<f4', 'x", [1], new Float32Array(1)), /is not that of an array of numbers/],
  ])('refuses %s', (_, file, message) => {
    expect(() => readNpy(file, 'x.npy')).toThrow(message);
    expect(() => readNpy(file, 'x.npy')).toThrow(DataError);
  });

  it('refuses other versions and headers without end', () => {
    const file = npy('<f4', [1], new Float32Array(1));
    file[6] = 9;
    expect(() => parseNpyHeader(file, 'x')).toThrow(/version 9\.0 at byte 6/);
    file[6] = 2;
    file.writeUInt32LE(0xffffffff, 8);
    expect(() => parseNpyHeader(file, 'x')).toThrow(/says that it is 4294967295 bytes long/);
  });
});

const thrown = (body: () => unknown): unknown => {
  try {
    return body();
  } catch (error) {
    return error;
  }
};

describe('.npz', () => {
  const images = npy('|u1', [2, 2], Uint8Array.of(1, 2, 3, 4));
  const labels = npy('<i8', [2], BigInt64Array.of(5n, 6n));
  const parts = { 'images.npy': images, 'labels.npy': labels, 'notes.txt': strToU8('no array') };

  it.each([0, 9] as const)('reads its arrays, packed or not (level %i)', (level) => {
    const arrays = readNpz(zipSync(parts, { level }), 'a.npz', 1e6);
    expect([...arrays.keys()]).toEqual(['images', 'labels']);
    expect(Array.from(arrays.get('images')!.values)).toEqual([1, 2, 3, 4]);
    expect(Array.from(arrays.get('labels')!.values)).toEqual([5, 6]);
  });

  it('is read as far as it is wanted: what else is in it may be anything', () => {
    const file = zipSync({ ...parts, 'arr_0.npy': new Uint8Array(5e6) });
    const asked: string[] = [];
    const arrays = readNpz(file, 'a.npz', 1e3, (name) => {
      asked.push(name);
      return name === 'labels';
    });
    expect(asked).toEqual(['images', 'labels', 'arr_0']);
    expect([...arrays.keys()]).toEqual(['labels']);
    expect(Array.from(arrays.get('labels')!.values)).toEqual([5, 6]);
    expect(() => readNpz(file, 'a.npz', 1e7)).toThrow('a.npz, arr_0.npy: does not begin as a .npy file does');
  });

  it('is never read as something else where it is cut short', () => {
    const whole = zipSync(parts);
    for (let length = 0; length < whole.length; length++) {
      expect(() => readNpz(whole.subarray(0, length), 'a.npz', 1e6), `${length} bytes`).toThrow(DataError);
    }
  });

  it.each([0, 9] as const)('whose numbers are damaged is refused, with the array (level %i)', (level) => {
    const counts = npy(
      '<f4',
      [1000],
      Float32Array.from({ length: 1000 }, (_, i) => i),
    );
    const whole = zipSync({ 'images.npy': counts, 'labels.npy': labels }, { level });
    let named = 0;
    for (let at = 200; at < 1000; at += 50) {
      const file = whole.slice();
      file[at]! ^= 0x40;
      // Packed, a changed bit may also be no packing at all.
      const error = thrown(() => readNpz(file, 'a.npz', 1e6));
      expect(error).toBeInstanceOf(DataError);
      named += Number(
        (error as DataError).message === 'a.npz, images.npy: damaged; its CRC-32 is not what the file says',
      );
    }
    expect(named).toBeGreaterThan(level === 0 ? 15 : 0);
    // What is not wanted is not looked at.
    whole[500]! ^= 0x40;
    if (level === 0) expect([...readNpz(whole, 'a.npz', 1e6, (name) => name === 'labels').keys()]).toEqual(['labels']);
  });

  it('is not unpacked beyond what it may take', () => {
    const bomb = zipSync({ 'x.npy': new Uint8Array(50e6) });
    expect(bomb.length).toBeLessThan(100e3);
    expect(() => readNpz(bomb, 'a.npz', 1e6)).toThrow(LimitError);
  });

  it('does not believe a size that its directory makes up', () => {
    const file = Buffer.from(zipSync({ 'x.npy': npy('|u1', [1000], new Uint8Array(1000)) }));
    const directory = file.lastIndexOf(Buffer.from([0x50, 0x4b, 1, 2]));
    file.writeUInt32LE(500, directory + 24);
    expect(() => readNpz(file, 'a.npz', 1e6)).toThrow(DataError);
  });
});
