/** Files of torch.save: tensors in any order and type, and damaged or hostile files. */
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../../engine/errors.ts';
import { bytesSource } from '../../formats/byte-source.ts';
import { dictOf } from '../../formats/pickle-arrays.ts';
import { openPytorch } from '../../formats/pytorch.ts';
import { numbersOf } from '../../formats/stored-tensor.ts';
import {
  call,
  dict,
  type Entry,
  floats,
  global,
  pickle,
  raw,
  tensor,
  text,
  torchFile,
  zip,
} from '../support/pickle.ts';

const open = (file: Uint8Array) => openPytorch(bytesSource(file), 'x.pt');
const valuesOf = async (file: Uint8Array, name = 'a'): Promise<number[]> => {
  const { value, tensor } = await open(file);
  const found = tensor(dictOf(value)?.get(name) ?? null, name);
  return found ? [...(await numbersOf(found, name))] : [];
};
const refusal = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => new Error('it was read'),
    (found: unknown) => found,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return (error as CheckpointError).message;
};

const SIX = floats(1, 2, 3, 4, 5, 6);
const six = (shape: readonly number[], strides: readonly number[], offset = 0) =>
  torchFile(dict({ a: tensor({ key: '0', count: 6 }, shape, strides, offset) }), { 0: SIX });

describe('a tensor', () => {
  it('is read in the order of rows, by its strides and offset', async () => {
    expect(await valuesOf(six([2, 3], [3, 1]))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await valuesOf(six([3, 2], [1, 3]))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(await valuesOf(six([2, 2], [3, 1], 1))).toEqual([2, 3, 5, 6]);
    expect(await valuesOf(six([3], [2]))).toEqual([1, 3, 5]);
    expect(await valuesOf(six([], [], 4))).toEqual([5]);
    expect(await valuesOf(six([0, 3], [3, 1]))).toEqual([]);
  });

  it.each([
    ['HalfStorage', new Uint16Array([0x3c00, 0xc000]), [1, -2]],
    ['BFloat16Storage', new Uint16Array([0x3f80, 0xc000]), [1, -2]],
    ['DoubleStorage', new Float64Array([0.1, 2]), [0.1, 2]],
    ['LongStorage', new BigInt64Array([-5n, 2n]), [-5, 2]],
    ['BoolStorage', new Uint8Array([1, 0]), [1, 0]],
  ])('of a %s', async (type, stored, expected) => {
    const file = torchFile(dict({ a: tensor({ key: '0', count: 2, type }, [2], [1]) }), {
      0: new Uint8Array(stored.buffer),
    });
    expect(await valuesOf(file)).toEqual(expected);
  });

  it('may lie beside the arguments of a training, of which paths are', async () => {
    const data = call('pathlib.PosixPath', text('/'), text('data'));
    const args = raw(global('argparse.Namespace'), ')', 0x81, dict({ data }), 'b');
    const file = torchFile(dict({ a: tensor({ key: '0', count: 6 }, [6], [1]), args }), { 0: SIX });
    expect(await valuesOf(file)).toEqual([1, 2, 3, 4, 5, 6]);
    const other = torchFile(dict({ args: call('pathlib.Path', text('/')) }), {});
    expect(await refusal(open(other))).toContain('names pathlib.Path, which is no part');
  });

  it('may be a parameter, and share a storage with others', async () => {
    const a = call(
      'torch._utils._rebuild_parameter',
      tensor({ key: '7', count: 6 }, [2], [1], 2),
      raw(0x88),
      call('collections.OrderedDict'),
    );
    const b = tensor({ key: '7', count: 6 }, [2], [1], 4);
    const file = torchFile(dict({ a, b }), { 7: SIX });
    expect(await valuesOf(file, 'a')).toEqual([3, 4]);
    expect(await valuesOf(file, 'b')).toEqual([5, 6]);
  });

  it.each([
    ['a stride of 0', six([1000000], [0]), 'a of shape [1000000] has 1000000 elements; its storage has 6'],
    ['an end beyond its storage', six([2, 3], [4, 1]), 'a of shape [2,3] ends at element 7; its storage has 6'],
    ['an offset beyond its storage', six([6], [1], 1), 'has 6 elements; its storage has 5'],
    ['a negative stride', six([2], [-1]), 'its strides is no list of at most 32 whole numbers'],
    ['strides for other axes', six([2, 3], [1]), 'has 1 strides for 2 axes'],
    [
      'a storage of another size',
      torchFile(dict({ a: tensor({ key: '0', count: 7 }, [7], [1]) }), { 0: SIX }),
      'lies in a storage of 7 numbers (F32), but data/0 has 24 bytes',
    ],
    [
      'no storage',
      torchFile(dict({ a: tensor({ key: '1', count: 6 }, [6], [1]) }), { 0: SIX }),
      'a lies in data/1, which is missing',
    ],
  ])('with %s is refused', async (_, file, message) => {
    expect(await refusal(valuesOf(file))).toContain(message);
  });
});

describe('a file', () => {
  const data = { name: 'x/data.pkl', data: pickle(dict({})) };
  const packed = (claimed: Entry['claimed']) => zip([{ ...data, claimed }]);

  it('that names something else is refused by that name', async () => {
    const message = await refusal(open(torchFile(call('os.system', text('echo')), {})));
    expect(message).toContain("x.pt: the pickle names os.system, which is no part of a checkpoint's weights");
  });

  it.each([
    ['packed, and huge once unpacked', packed({ method: 8, size: 2 ** 31 }), 'holds x/data.pkl packed'],
    ['of another size than it says', packed({ size: 2 ** 31 }), 'holds x/data.pkl packed'],
    ['larger than the file', packed({ size: 2 ** 31, packed: 2 ** 31 }), 'says that x/data.pkl has 2147483648 bytes'],
    ['elsewhere', packed({ place: 5 }), 'has no x/data.pkl where it should be'],
    ['given twice', zip([data, data]), 'holds x/data.pkl twice'],
    [
      'of another zip file',
      zip([{ name: 'word/document.xml', data: SIX }]),
      'holds no data.pkl, so it is no file of torch.save',
    ],
    ['fewer than announced', zip([data], 3), 'has no entry 1 of 3'],
    ['big-endian', torchFile(dict({}), {}, 'big'), 'holds numbers with their highest byte first'],
    ['of nothing but a beginning', raw('PK\x03\x04'), 'has no directory at its end'],
  ])('with entries that are %s is refused', async (_, file, message) => {
    expect(await refusal(open(file))).toContain(message);
  });

  it('is an error wherever it is cut off', async () => {
    const whole = six([2, 3], [3, 1]);
    expect(await valuesOf(whole)).toHaveLength(6);
    for (let length = 0; length < whole.length; length++) {
      expect(await refusal(valuesOf(whole.subarray(0, length)))).toMatch(/truncated|damaged/);
    }
  });

  it('with any byte changed is read or refused, and nothing else', async () => {
    const whole = six([2, 3], [3, 1]);
    for (let at = 0; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at]! ^= 0x81;
      const outcome = await valuesOf(damaged).catch((error: unknown) => error);
      if (!Array.isArray(outcome)) expect(outcome).toBeInstanceOf(CheckpointError);
      // Never as other numbers.
      else expect(outcome).toEqual([1, 2, 3, 4, 5, 6]);
    }
  });

  it('whose numbers are damaged is refused by its sum, of which zero is none', async () => {
    const damaged = (file: Uint8Array<ArrayBuffer>) => {
      file[Buffer.from(file).indexOf(SIX) + 21]! ^= 0x20;
      return file;
    };
    const message =
      /x\.pt: the zip file holds archive\/data\/0, whose CRC-32 is [0-9a-f]{8}; its directory says [0-9a-f]{8}$/;
    expect(await refusal(valuesOf(damaged(six([2, 3], [3, 1]))))).toMatch(message);
    // The first four, which are as they were; the entry is not.
    expect(await refusal(valuesOf(damaged(six([4], [1]))))).toMatch(message);
    const [name, data] = ['x/data.pkl', pickle(dict({ a: tensor({ key: '0', count: 6 }, [6], [1]) }))];
    const unsummed = { name: 'x/data/0', data: SIX, claimed: { crc: 0 } };
    expect(await valuesOf(damaged(zip([{ name, data }, unsummed])))).not.toEqual([1, 2, 3, 4, 5, 6]);
  });
});
