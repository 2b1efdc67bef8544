/** Pickles: what is read from them, that nothing is run, and that hostile ones end in an error. */
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../../engine/errors.ts';
import { bytesSource } from '../../formats/byte-source.ts';
import { type PickleValue, readPickle } from '../../formats/pickle.ts';
import { ARRAY_NAMES, arrayOf, dictOf, flattened, numberOf, optaxState } from '../../formats/pickle-arrays.ts';
import { floatsOf, numbersOf } from '../../formats/stored-tensor.ts';
import {
  bytes,
  call,
  dict,
  dtype,
  FALSE,
  floats,
  global,
  int,
  NONE,
  ndarray,
  pickle,
  raw,
  TRUE,
  text,
  tuple,
} from '../support/pickle.ts';

const read = (file: Uint8Array) => readPickle(bytesSource(file), { names: ARRAY_NAMES, file: 'x.pkl' });
const refusal = async (file: Uint8Array): Promise<string> => {
  const error = await read(file).then(
    () => new Error('it was read'),
    (found: unknown) => found,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return (error as CheckpointError).message;
};
const valuesOf = async (value: Uint8Array): Promise<number[]> => {
  const file = pickle(value);
  return [...(await numbersOf(arrayOf(await read(file), bytesSource(file), 'x')!, 'x'))];
};

describe('a pickle', () => {
  it('gives plain values', async () => {
    const value = await read(
      pickle(
        raw(
          '(',
          NONE,
          TRUE,
          int(-7),
          raw('K', 200),
          raw('M', 1, 2),
          raw('G', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0),
          text('é'),
          'l',
        ),
      ),
    );
    expect(value).toEqual([null, true, -7, 200, 513, 1.5, 'é']);
  });

  it('reads whole numbers of any length, negative ones too', async () => {
    const long = (...of: number[]) => raw(0x8a, of.length, ...of);
    expect(await read(pickle(long()))).toBe(0);
    expect(await read(pickle(long(0xff)))).toBe(-1);
    expect(await read(pickle(long(0, 1)))).toBe(256);
    expect(await read(pickle(long(0, 0, 0, 0, 0, 0, 0, 0, 1)))).toBe(2n ** 64n);
  });

  it('keeps what was memorised, by number and in order', async () => {
    const value = await read(pickle(raw('(', text('a'), 0x94, text('b'), 'q', 9, 'h', 0, 'h', 9, 't')));
    expect(value).toEqual(['a', 'b', 'a', 'b']);
  });

  it('reads dictionaries of every kind', async () => {
    const ordered = raw(call('collections.OrderedDict'), '(', text('a'), int(1), 'u', dict({ _metadata: NONE }), 'b');
    expect([...dictOf(await read(pickle(ordered)))!]).toEqual([['a', 1]]);
    const frozen = call('flax.core.frozen_dict.FrozenDict', dict({ b: int(2) }));
    expect([...dictOf(await read(pickle(frozen)))!]).toEqual([['b', 2]]);
    const space = raw(global('argparse.Namespace'), ')', 0x81, dict({ model: text('DiT-XL/2') }), 'b');
    expect([...dictOf(await read(pickle(space)))!]).toEqual([['model', 'DiT-XL/2']]);
    const old = call('collections.OrderedDict', raw('(', tuple(text('c'), int(3)), 'l'));
    expect([...dictOf(await read(pickle(old)))!]).toEqual([['c', 3]]);
    expect(dictOf(3)).toBeUndefined();
  });

  it('reads keys such as __proto__ as any other', async () => {
    const value = await read(pickle(dict({ __proto__x: int(1), constructor: int(2) })));
    expect(value).toBeInstanceOf(Map);
    expect((value as Map<string, PickleValue>).get('constructor')).toBe(2);
  });
});

describe('arrays', () => {
  const six = floats(1, 2, 3, 4, 5, 6);

  it('are read in the order of rows, however they lie', async () => {
    expect(await valuesOf(ndarray(dtype('f4'), [2, 3], six))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(await valuesOf(ndarray(dtype('f4'), [2, 3], six, TRUE))).toEqual([1, 3, 5, 2, 4, 6]);
    expect(await valuesOf(ndarray(dtype('f4'), [2, 3], six, FALSE, 'numpy.core'))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(
      await valuesOf(
        call('numpy._core.numeric._frombuffer', bytes(six), dtype('f4'), tuple(int(3), int(2)), text('F')),
      ),
    ).toEqual([1, 4, 2, 5, 3, 6]);
  });

  it.each([
    ['f2', new Uint16Array([0x3c00, 0xc000]), [1, -2]],
    ['f8', new Float64Array([0.1, -3]), [0.1, -3]],
    ['i1', new Int8Array([-1, 2]), [-1, 2]],
    ['i2', new Int16Array([-300, 2]), [-300, 2]],
    ['i4', new Int32Array([-70000, 2]), [-70000, 2]],
    ['i8', new BigInt64Array([-1n, 2n ** 40n]), [-1, 2 ** 40]],
    ['u1', new Uint8Array([255, 2]), [255, 2]],
    ['u2', new Uint16Array([65535, 2]), [65535, 2]],
    ['u4', new Uint32Array([2 ** 32 - 1, 2]), [2 ** 32 - 1, 2]],
    ['b1', new Uint8Array([1, 0]), [1, 0]],
  ])('of %s', async (name, stored, expected) => {
    expect(await valuesOf(ndarray(dtype(name), [2], new Uint8Array(stored.buffer)))).toEqual(expected);
  });

  it('of bfloat16', async () => {
    const type = raw(
      call('numpy.dtype', global('ml_dtypes.bfloat16'), FALSE, TRUE),
      tuple(int(3), text('<'), NONE, NONE, NONE, int(-1), int(-1), int(0)),
      'b',
    );
    expect(await valuesOf(ndarray(type, [2], new Uint8Array(new Uint16Array([0x3f80, 0xc000]).buffer)))).toEqual([
      1, -2,
    ]);
  });

  it('that protocol 2 wrote as text', async () => {
    const data = call('_codecs.encode', raw('X', 5, 0, 0, 0, '\0\0\u0080?'), text('latin1'));
    const array = raw(
      call('numpy.core.multiarray._reconstruct', global('numpy.ndarray'), tuple(int(0)), text('b')),
      tuple(int(1), tuple(int(1)), dtype('f4'), FALSE, data),
      'b',
    );
    expect(await valuesOf(array)).toEqual([1]);
  });

  it('may be single numbers', async () => {
    const file = pickle(
      call('numpy._core.multiarray.scalar', dtype('i4'), bytes(new Uint8Array(Int32Array.of(12).buffer))),
    );
    expect(await numberOf(await read(file), bytesSource(file), 'step')).toBe(12);
    expect(await numberOf(3, bytesSource(file), 'step')).toBe(3);
    expect(await numberOf('3', bytesSource(file), 'step')).toBeUndefined();
  });

  it('of JAX are those of NumPy inside', async () => {
    const inner = tuple(int(1), tuple(int(6)), dtype('f4'), FALSE, bytes(six));
    const array = call(
      'jax._src.array._reconstruct_array',
      global('numpy._core.multiarray._reconstruct'),
      tuple(global('numpy.ndarray'), tuple(int(0)), bytes(raw('b'))),
      inner,
      dict({ weak_type: FALSE }),
    );
    expect(await valuesOf(array)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it.each([
    ['fewer bytes', ndarray(dtype('f4'), [7], six), 'x holds an array of shape [7] in 24 bytes; it takes 28'],
    [
      'a shape beyond all numbers',
      ndarray(dtype('f4'), [0x7fffffff, 0x7fffffff, 0x7fffffff], six),
      'in 24 bytes; it takes 3.96',
    ],
    ['a negative shape', ndarray(dtype('f4'), [-6], six), "an array's shape is no list of at most 32 whole numbers"],
    ['objects', ndarray(dtype('O8', '|'), [3], six), 'holds an array of O8, which is no number'],
    ['the highest byte first', ndarray(dtype('f4', '>'), [6], six), 'holds numbers with their highest byte first'],
    [
      'the name of a property',
      ndarray(dtype('constructor'), [6], six),
      'holds an array of constructor, which is no number',
    ],
  ])('with %s are refused', async (_, array, message) => {
    const file = pickle(array);
    const value = await read(file);
    expect(() => arrayOf(value, bytesSource(file), 'x')).toThrow(CheckpointError);
    expect(() => arrayOf(value, bytesSource(file), 'x')).toThrow(message);
  });

  it('are found in dictionaries by their path', async () => {
    const file = pickle(dict({ a: dict({ b: ndarray(dtype('f4'), [6], six) }), n: int(1) }));
    const found = flattened(await read(file), (value) => arrayOf(value, bytesSource(file), 'x'), 'x');
    expect([...found.keys()]).toEqual(['a/b']);
    expect([...(await floatsOf(found.get('a/b')!, 'x'))]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('may be larger than memory: their bytes are not read until they are wanted', async () => {
    const size = 2 ** 36;
    const count = raw(...Array.from({ length: 8 }, (_, i) => Number((BigInt(size) >> BigInt(8 * i)) & 255n)));
    const head = raw(0x80, 4, '(', text('before'), 0x8e, count);
    const tail = raw(text('after'), 't.');
    const read: [number, number][] = [];
    const source = {
      size: head.length + size + tail.length,
      async read(begin: number, end: number) {
        read.push([begin, end]);
        expect(end - begin).toBeLessThanOrEqual(2 ** 18);
        return Uint8Array.from({ length: end - begin }, (_, i) => {
          const at = begin + i;
          return (at < head.length ? head[at] : tail[at - head.length - size]) ?? 0;
        });
      },
    };
    expect(await readPickle(source, { names: ARRAY_NAMES })).toEqual([
      'before',
      { kind: 'bytes', begin: head.length, end: head.length + size },
      'after',
    ]);
    expect(read).toHaveLength(2);
  });

  it('of an optimiser are in a named tuple', async () => {
    const state = raw(global('optax._src.transform.ScaleByAdamState'), tuple(int(1), text('mu'), text('nu')), 0x81);
    expect(optaxState(await read(pickle(state)), 'ScaleByAdamState')).toEqual([1, 'mu', 'nu']);
    expect(optaxState(await read(pickle(state)), 'TraceState')).toBeUndefined();
  });
});

describe('a hostile pickle', () => {
  it.each(['os.system', 'posix.system', 'builtins.eval', 'builtins.getattr', 'subprocess.Popen', 'numpy.load'])(
    'that names %s is refused by that name',
    async (name) => {
      expect(await refusal(pickle(call(name, text('echo'))))).toContain(
        `x.pkl: the pickle names ${name}, which is no part of a checkpoint's weights`,
      );
      const dot = name.lastIndexOf('.');
      const line = `c${name.slice(0, dot)}\n${name.slice(dot + 1)}\n`;
      expect(await refusal(pickle(raw(line, '(', text('echo'), 'tR')))).toContain(`names ${name}`);
    },
  );

  it.each([
    ['a text longer than the file', raw('X', 255, 255, 255, 0, 'a'), 'wants 16777215 bytes where'],
    ['a text of 4 GiB', raw('X', 255, 255, 255, 255, 'a'), 'a text of 4294967295 bytes; 268435456 are the most'],
    ['bytes longer than the file', raw('B', 255, 255, 255, 127), 'wants 2147483647 bytes where'],
    ['bytes of 2^63', raw(0x8e, 0, 0, 0, 0, 0, 0, 0, 128), 'wants 9223372036854776000 bytes where'],
    ['a frame longer than the file', raw(0x95, 0, 0, 0, 0, 1, 0, 0, 0), 'announces more bytes than there are'],
    [
      'a whole number of 256 bytes',
      raw(0x8b, 0, 1, 0, 0, new Uint8Array(256)),
      'a whole number of 256 bytes; 255 are the most',
    ],
    ['a name without end', raw('c', 'a'.repeat(5000)), 'a name of more than 4096 characters'],
    ['a value that was not kept', raw('h', 3), 'refers to value 3, which it has not kept'],
    ['nothing on the stack', raw('0'), 'takes a value where there is none'],
    ['a group without beginning', raw('t'), 'has no beginning for a group of values'],
    ['a key without value', raw('}', '(', text('a'), 'u'), 'holds a key without a value'],
    ['a key that is a list', raw('}', ']', int(1), 's'), 'holds a key that is neither text nor number'],
    ['entries of a list', raw(']', text('a'), int(1), 's'), 'sets entries of what is no dictionary'],
    ['values added to a number', raw(int(1), int(1), 'a'), 'adds values to what is no list'],
    ['a call of a text', raw(text('os'), ')', 'R'), 'calls what is no name'],
    ['a call with no list', raw(global('numpy.dtype'), int(1), 'R'), 'calls numpy.dtype with what is no list'],
    ['a state for a name', raw(global('numpy.dtype'), int(1), 'b'), 'gives a state to what has none'],
    ['a name that is a number', raw(int(1), text('a'), 0x93), 'names something by what is no text'],
    ['a text that is no UTF-8', raw(0x8c, 1, 255), 'holds a text that is no UTF-8'],
    ['something kept elsewhere', raw(text('a'), 'Q'), 'refers to something that is kept elsewhere'],
    ['buffers kept elsewhere', raw(0x97), 'keeps its arrays elsewhere'],
    ['an extension', raw(0x82, 1), 'holds the operation 0x82, which no checkpoint needs'],
    ['an instance by text', raw('(', 'ios\nsystem\n'), 'holds the operation 0x69, which no checkpoint needs'],
    ['values left over', raw(int(1), int(2)), 'ends with 1 values left over'],
  ])('with %s ends in an error', async (_, inner, message) => {
    expect(await refusal(pickle(inner))).toContain(message);
  });

  it('of protocol 0 or 6, or none at all, is told from one', async () => {
    for (const file of [raw('(lp0\n.'), raw(0x80, 1, 'N.'), raw(0x80, 6, 'N.'), raw('N'), raw()]) {
      expect(await refusal(file)).toContain('is none of protocol 2 to 5');
    }
  });

  it('of millions of operations ends', async () => {
    const many = new Uint8Array(2 ** 21 + 8).fill(0x7d);
    expect(await refusal(raw(0x80, 4, many))).toContain('has more than 2097152 operations');
  });

  it('whose values hold themselves, or one another a million times, ends', async () => {
    const self = pickle(raw('}', 0x94, text('a'), 'h', 0, 's'));
    const value = await read(self);
    expect(() => flattened(value, () => undefined, 'x')).toThrow('x holds more than 32 dictionaries in one another');
    // Each of 24 dictionaries holds the one before twice: 2^24 ways to the first.
    const levels = Array.from({ length: 24 }, (_, i) =>
      raw('}', 'q', i + 1, text('a'), 'h', i, 's', text('b'), 'h', i, 's'),
    );
    const laughs = await read(
      pickle(raw('}', 'q', 0, '0', ...levels.flatMap((level, i) => (i < 23 ? [level, raw('0')] : [level])))),
    );
    expect(() => flattened(laughs, () => undefined, 'x')).toThrow('x holds more than 65536 values');
    const deep = await read(
      pickle(raw(...Array.from({ length: 20_000 }, () => raw(']')), ...Array.from({ length: 19_999 }, () => raw('a')))),
    );
    expect(Array.isArray(deep)).toBe(true);
  });

  it('is an error at every byte that it may be cut off', async () => {
    const whole = pickle(dict({ params: dict({ a: ndarray(dtype('f4'), [2], floats(1, 2)) }), step: int(3) }));
    await read(whole);
    for (let length = 0; length < whole.length; length++) {
      expect(await refusal(whole.subarray(0, length)), `cut at ${length}`).toMatch(/truncated|none of protocol/);
    }
  });

  it('with any byte changed is read or refused, and nothing else', async () => {
    const whole = pickle(dict({ params: dict({ a: ndarray(dtype('f4'), [2], floats(1, 2)) }), step: int(3) }));
    for (let at = 0; at < whole.length; at++) {
      for (const change of [0x01, 0x80, 0xff]) {
        const damaged = whole.slice();
        damaged[at]! ^= change;
        const source = bytesSource(damaged);
        try {
          flattened(await read(damaged), (value) => arrayOf(value, source, 'x'), 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(CheckpointError);
        }
      }
    }
  });
});
