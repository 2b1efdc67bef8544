/** Weight files: round trips, and every kind of damaged or hostile file. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CheckpointError, LimitError, OutputError } from '../../engine/errors.ts';
import { writeAtomically } from '../../formats/files.node.ts';
import { openSafetensors, writeSafetensors } from '../../formats/safetensors.node.ts';
import { parseSafetensors, serializeSafetensors, type TensorToWrite } from '../../formats/safetensors.ts';

const floats = Float32Array.of(1, -2.5, 3.140625, 0, 65504, 2 ** -24);
const sample: TensorToWrite[] = [
  { name: 'w', shape: [2, 3], dtype: 'F32', values: floats },
  { name: 'half', shape: [6], dtype: 'F16', values: floats },
  { name: 'brain', shape: [3, 2, 1], dtype: 'BF16', values: floats },
  { name: 'step', shape: [], dtype: 'U32', values: Uint32Array.of(0xfffffff0) },
  { name: 'labels', shape: [3], dtype: 'I32', values: Int32Array.of(-1, 2, 3) },
  { name: 'none', shape: [0, 4], dtype: 'F32', values: new Float32Array(0) },
];

test('what is written is read back, with its metadata and in its order', () => {
  const file = parseSafetensors(serializeSafetensors(sample, { format: 'odelt', 'ö"\n': '✓' }));
  expect(file.names()).toEqual(['w', 'half', 'brain', 'step', 'labels', 'none']);
  expect([...file.header.metadata]).toEqual([
    ['format', 'odelt'],
    ['ö"\n', '✓'],
  ]);
  expect(file.shape('w')).toEqual([2, 3]);
  expect(file.floats('w')).toEqual(floats);
  expect(file.floats('half')).toEqual(floats);
  expect([...file.floats('brain')]).toEqual([1, -2.5, 3.140625, 0, 65536, 2 ** -24]);
  expect([...file.numbers('step')]).toEqual([0xfffffff0]);
  expect([...file.integers('labels')]).toEqual([-1, 2, 3]);
  expect(file.floats('none').length).toBe(0);
});

test('data begins at a multiple of eight, whatever the header', () => {
  for (let length = 1; length < 12; length++) {
    const tensor: TensorToWrite = { name: 'n'.repeat(length), shape: [1], dtype: 'F32', values: Float32Array.of(1) };
    expect(parseSafetensors(serializeSafetensors([tensor])).header.tensors.get(tensor.name)!.begin % 8).toBe(0);
  }
});

/** A file with this header text and this many bytes of data 0, 1, 2, ... */
function fileOf(header: string | Uint8Array, dataBytes: number): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  for (let i = 0; i < dataBytes; i++) bytes[8 + json.length + i] = i;
  return bytes;
}

function entry(dtype: string, shape: string, begin: number, end: number): string {
  return `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

test('64-bit, byte and unaligned tensors are read', () => {
  const text = `{"b":${entry('U8', '[3]', 0, 3)},"i":${entry('I64', '[1]', 3, 11)},"d":${entry('F64', '[1]', 11, 19)}}`;
  const bytes = fileOf(text, 19);
  const data = new DataView(bytes.buffer, bytes.length - 19);
  data.setBigInt64(3, -5n, true);
  data.setFloat64(11, 0.1, true);
  const file = parseSafetensors(bytes);
  expect([...file.integers('b')]).toEqual([0, 1, 2]);
  expect([...file.integers('i')]).toEqual([-5]);
  expect([...file.numbers('d')]).toEqual([0.1]);
  expect(() => file.floats('d')).toThrow('tensor d holds F64; expected F32, F16 or BF16');
  expect(() => file.integers('d')).toThrow(CheckpointError);
  expect(() => file.floats('nothing')).toThrow('there is no tensor "nothing"');
  data.setBigInt64(3, 2n ** 40n, true);
  expect(() => parseSafetensors(bytes).integers('i')).toThrow('does not fit 32 bits');
});

test('tensors of every type of the format may lie beside those that are read', () => {
  // [2, 4] of each: 8 elements, in so many bytes.
  const sizes = {
    ...{ BOOL: 8, F4: 4, F6_E2M3: 6, F6_E3M2: 6, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, I16: 16, U16: 16 },
    ...{ F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64 },
  };
  let at = 0;
  const entries = Object.entries(sizes).map(([dtype, bytes]) => {
    at += bytes;
    return `"${dtype}":${entry(dtype, '[2,4]', at - bytes, at)}`;
  });
  const file = parseSafetensors(fileOf(`{${entries.join(',')}}`, at));
  expect(file.names()).toEqual(Object.keys(sizes));
  // Bytes count up from 0 in the file; the seventh tensor begins at 48.
  const first = file.header.tensors.get('BOOL')!.begin;
  const bytes = (name: string) => file.header.tensors.get(name)!.begin - first;
  const little = (name: string, width: number) =>
    Array.from({ length: 8 }, (_, i) =>
      Array.from({ length: width }, (_, b) => ((bytes(name) + width * i + b) % 256) * 256 ** b).reduce((x, y) => x + y),
    );
  const signed = (values: number[], width: number) =>
    values.map((x) => (x >= 2 ** (8 * width - 1) ? x - 2 ** (8 * width) : x));
  expect([...file.numbers('BOOL')]).toEqual(little('BOOL', 1));
  expect([...file.numbers('I8')]).toEqual(signed(little('I8', 1), 1));
  expect([...file.numbers('I16')]).toEqual(signed(little('I16', 2), 2));
  expect([...file.numbers('U16')]).toEqual(little('U16', 2));
  expect([...file.numbers('U64')]).toEqual(little('U64', 8));
  for (const type of ['F8_E4M3', 'F8_E8M0', 'F4', 'F6_E2M3', 'C64']) {
    expect(() => file.numbers(type)).toThrow(`tensor ${type} holds ${type}; expected F32, F16 or BF16`);
    expect(() => file.floats(type)).toThrow(CheckpointError);
  }
  const odd = fileOf(`{"a":${entry('F4', '[3]', 0, 2)}}`, 2);
  expect(() => parseSafetensors(odd)).toThrow('F4 of shape [3] takes 1.5 bytes, but its offsets span 2');
});

test('names that are special in JavaScript are ordinary', () => {
  const text = `{"__proto__":${entry('U8', '[1]', 0, 1)},"constructor":${entry('U8', '[1]', 1, 2)}}`;
  const file = parseSafetensors(fileOf(text, 2));
  expect(file.names()).toEqual(['__proto__', 'constructor']);
  expect([...file.integers('constructor')]).toEqual([1]);
  expect(file.has('toString')).toBe(false);
  expect(Object.hasOwn(Object.prototype, 'dtype')).toBe(false);
});

const u8 = entry('U8', '[4]', 0, 4);
const hostile: [string, string | Uint8Array, number, string][] = [
  ['an empty header', '', 0, 'claims a header of 0 bytes'],
  ['no object', '[1,2]  ', 0, 'does not start with {'],
  ['a header cut short', '{"a":', 0, 'expected a value at character 5, found the end'],
  ['a string without end', '{"a', 0, 'the string at character 2 does not end'],
  ['a bad escape', '{"\\x":1}', 0, 'is malformed'],
  ['a raw control character', '{"\n":1}', 0, 'is malformed'],
  ['text after the JSON', `{"a":${u8}}}`, 4, 'something follows the JSON'],
  ['bytes that are no UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), 0, 'is not valid UTF-8'],
  ['a name twice', `{"a":${u8},"a":${u8}}`, 4, '"a" occurs twice'],
  ['an entry that is no object', '{"a":[1]}', 0, 'tensor "a": its entry is no object'],
  ['an unknown type', `{"a":${entry('F8', '[4]', 0, 4)}}`, 4, 'type "F8" is not one of'],
  ['a type named like a method', `{"a":${entry('toString', '[4]', 0, 4)}}`, 4, 'type "toString" is not one of'],
  ['no type', '{"a":{"shape":[4],"data_offsets":[0,4]}}', 4, 'type undefined is not one of'],
  ['no shape', '{"a":{"dtype":"U8","data_offsets":[0,4]}}', 4, 'its shape is no list of integers'],
  ['a shape of strings', `{"a":${entry('U8', '["4"]', 0, 4)}}`, 4, 'its shape is no list of integers'],
  ['a negative size', `{"a":${entry('U8', '[-4]', 0, 4)}}`, 4, 'expected a value'],
  ['a fraction', `{"a":${entry('U8', '[4.5]', 0, 4)}}`, 4, 'expected ]'],
  ['an enormous size', `{"a":${entry('U8', '[99999999999999999999]', 0, 4)}}`, 4, 'expected a value'],
  ['a product beyond integers', `{"a":${entry('U8', '[9007199254740991,9007199254740991]', 0, 4)}}`, 4, 'span 4'],
  ['an overflow times zero', `{"a":${entry('U8', `[${'9007199254740991,'.repeat(30)}0]`, 0, 0)}}`, 0, 'takes NaN'],
  ['one offset', '{"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}}', 4, 'no pair of integers'],
  ['another field', '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}', 4, 'has fields other than'],
  ['offsets that run backwards', `{"a":${entry('U8', '[4]', 4, 0)}}`, 4, 'takes 4 bytes, but its offsets span -4'],
  ['a shape that does not match', `{"a":${entry('F32', '[4]', 0, 4)}}`, 4, 'F32 of shape [4] takes 16 bytes'],
  ['an overlap', `{"a":${u8},"b":${entry('U8', '[4]', 2, 6)}}`, 6, 'tensor "b" overlaps the one before it by 2 bytes'],
  ['a hole', `{"a":${u8},"b":${entry('U8', '[2]', 6, 8)}}`, 8, '2 bytes before tensor "b" belong to no tensor'],
  ['a hole at the start', `{"a":${entry('U8', '[4]', 1, 5)}}`, 5, '1 bytes before tensor "a"'],
  ['truncated data', `{"a":${u8}}`, 3, 'is truncated: its tensors end at byte'],
  ['trailing bytes', `{"a":${u8}}`, 5, '1 bytes after the last tensor'],
  ['metadata that is no object', '{"__metadata__":[]}', 0, '__metadata__ is no object'],
  ['metadata that is no text', '{"__metadata__":{"a":1}}', 0, '__metadata__ "a" is no string'],
  ['too many dimensions', `{"a":${entry('U8', `[${'1,'.repeat(32)}1]`, 0, 1)}}`, 1, 'is longer than 32'],
  ['a long list in place of a name', `{"a":[${'1,'.repeat(1e6)}1]}`, 0, 'is longer than 32'],
  [
    'a long name',
    `{"${'n'.repeat(1025)}":${u8}}`,
    4,
    'the name at character 1 has 1025 characters; up to 1024 are read',
  ],
  ['deep nesting', `{"a":${'['.repeat(50000)}`, 0, 'nested too deeply'],
];

test.each(hostile)('a file with %s is refused', (_, header, dataBytes, message) => {
  const read = () => parseSafetensors(fileOf(header, dataBytes), 'bad.safetensors');
  expect(read).toThrow(CheckpointError);
  expect(read).toThrow(message);
  expect(read).toThrow(/^bad\.safetensors: /);
});

/** The header's text for this many tensors without elements. */
const emptyTensors = (count: number) =>
  `{${Array.from({ length: count }, (_, i) => `"t${i}":${entry('U8', '[0]', 0, 0)}`).join(',')}}`;

test('as many tensors and metadata as any model has are read; more are refused when it comes to them', () => {
  expect(parseSafetensors(fileOf(emptyTensors(65_536), 0)).names().length).toBe(65_536);
  const name = 'n'.repeat(1024);
  const shape = `[${'1,'.repeat(31)}4]`;
  expect(parseSafetensors(fileOf(`{"${name}":${entry('U8', shape, 0, 4)}}`, 4)).shape(name).length).toBe(32);
  expect(() => parseSafetensors(fileOf(emptyTensors(65_537), 0))).toThrow(
    /^safetensors: header: has more than 65536 ent/,
  );
  // What follows is not even looked at.
  expect(() => parseSafetensors(fileOf(`${emptyTensors(65_536).slice(0, -1)},"x"!`, 0))).toThrow(
    'more than 65536 entries',
  );
  const metadata = Array.from({ length: 65_537 }, (_, i) => `"${i}":""`);
  expect(() => parseSafetensors(fileOf(`{"__metadata__":{${metadata}}}`, 0))).toThrow('has more than 65536 entries');
});

test('a header that asks for much is refused, for little memory', { timeout: 60_000 }, async () => {
  await inFolder(async (folder) => {
    const reader = join(folder, 'reader.mjs');
    const stdin = {
      contents: `import { openSafetensors } from './formats/safetensors.node.ts';
        const before = process.resourceUsage().maxRSS;
        const error = await openSafetensors(process.argv[2]).catch((error) => error);
        const grown = process.resourceUsage().maxRSS - before;
        console.log(JSON.stringify({ name: error.name, message: error.message, grown }));`,
      ...{ resolveDir: join(import.meta.dirname, '../..'), loader: 'ts' as const },
    };
    await build({ stdin, bundle: true, platform: 'node', format: 'esm', outfile: reader, logLevel: 'error' });
    const path = join(folder, 'hostile.safetensors');
    const read = async (header: string) => {
      await writeFile(path, fileOf(header, 0));
      return JSON.parse(execFileSync(process.execPath, [reader, path], { encoding: 'utf8' }));
    };
    const million = emptyTensors(1_000_000).padEnd(80_000_000);
    const refused = await read(million);
    expect(refused).toMatchObject({
      name: 'CheckpointError',
      message: `${path}: claims a header of ${million.length} bytes; up to 16777216 are read`,
    });
    expect(refused.grown).toBeLessThan(20_000); // kB
    // As much as 16 MiB can ask for.
    const most = emptyTensors(270_000).padEnd(2 ** 24);
    expect(most.length).toBe(2 ** 24);
    const bounded = await read(most);
    expect(bounded).toMatchObject({
      name: 'CheckpointError',
      message: expect.stringContaining('more than 65536 entries'),
    });
    expect(bounded.grown).toBeLessThan(200_000);
  });
});

test('tensors in any order are read if they fill the data exactly, and refused otherwise', () => {
  const range = fc.tuple(fc.nat(12), fc.nat(12));
  const tiles = fc.tuple(fc.array(fc.nat(4), { maxLength: 8 }), fc.nat()).map(([sizes, turn]): [number, number][] => {
    let at = 0;
    const ranges = sizes.map((size): [number, number] => {
      at += size;
      return [at - size, at];
    });
    return [...ranges.slice(turn % 8), ...ranges.slice(0, turn % 8)];
  });
  const ranges = fc.oneof(tiles, fc.array(range, { maxLength: 6 }));
  let [read, refused] = [0, 0];
  fc.assert(
    fc.property(ranges, fc.nat(12), fc.boolean(), (given, extent, fitting) => {
      const bytes = fitting ? Math.max(0, ...given.map(([, end]) => end)) : extent;
      const times = new Uint8Array(bytes);
      for (const [begin, end] of given) for (let i = begin; i < end && i < bytes; i++) times[i]!++;
      // Empty tensors must lie where another begins or ends, which is what is left to say.
      const ends = new Set([0, ...given.filter(([b, e]) => e > b).flat()]);
      const good =
        given.every(([begin, end]) => begin <= end && end <= bytes && (begin < end || ends.has(begin))) &&
        times.every((n) => n === 1);
      const entries = given.map(([b, e], i) => `"${i}":${entry('U8', `[${Math.abs(e - b)}]`, b, e)}`);
      const parse = () => parseSafetensors(fileOf(`{${entries}}`, bytes));
      if (good) {
        read++;
        const file = parse();
        for (const [i, [b, e]] of given.entries()) {
          expect([...file.integers(`${i}`)]).toEqual(Array.from({ length: e - b }, (_, k) => b + k));
        }
      } else {
        refused++;
        expect(parse).toThrow(CheckpointError);
      }
    }),
    { numRuns: 1000, seed: 1 },
  );
  expect(Math.min(read, refused)).toBeGreaterThan(200);
});

test.each([
  ['a pickle', [0x80, 4, 0x95, 1, 2, 3, 0, 0]],
  ['a zip archive', [0x50, 0x4b, 3, 4, 0, 0, 8, 8]],
])('%s is told by its first bytes, with what reads it', (what, start) => {
  const bytes = Uint8Array.from([...start, ...new Uint8Array(24)]);
  expect(() => parseSafetensors(bytes, 'sc.pkl')).toThrow(
    expect.objectContaining({
      message: `sc.pkl is ${what}, no safetensors file`,
      hint: expect.stringContaining('odelt convert'),
    }),
  );
});

test('a header longer than the file is refused before it is read', () => {
  for (const length of [2n ** 63n, 100_000_001n, 9n]) {
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    expect(() => parseSafetensors(bytes)).toThrow('claims a header of');
  }
  expect(() => parseSafetensors(new Uint8Array(5))).toThrow('has 5 bytes');
});

test('no damage to a file does anything but throw a CheckpointError', () => {
  const good = serializeSafetensors(sample, { format: 'odelt' });
  const damage = fc.record({
    cut: fc.nat(good.length),
    append: fc.uint8Array({ maxLength: 4 }),
    edits: fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }),
    headerEdits: fc.array(fc.tuple(fc.integer({ min: 8, max: 440 }), fc.constantFrom(...'{}[]:,"\\0919 a')), {
      maxLength: 3,
    }),
  });
  fc.assert(
    fc.property(damage, fc.boolean(), ({ cut, append, edits, headerEdits }, shorten) => {
      const bytes = Uint8Array.from([...(shorten ? good.subarray(0, cut) : good), ...append]);
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      for (const [at, char] of headerEdits) if (at < bytes.length) bytes[at] = char.charCodeAt(0);
      try {
        const file = parseSafetensors(bytes);
        for (const name of file.names()) expect(file.numbers(name).byteLength).toBeLessThanOrEqual(8 * bytes.length);
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
      }
    }),
    { numRuns: 2000, seed: 1 },
  );
});

test('any tensors survive the round trip', () => {
  const tensor = fc.record({ name: fc.string({ unit: 'grapheme' }), values: fc.float32Array({ maxLength: 20 }) });
  fc.assert(
    fc.property(fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 6 }), (tensors) => {
      fc.pre(tensors.every((t) => t.name !== '__metadata__'));
      const write = tensors.map((t) => ({ ...t, dtype: 'F32' as const, shape: [t.values.length] }));
      const file = parseSafetensors(serializeSafetensors(write));
      expect(file.names()).toEqual(tensors.map((t) => t.name));
      for (const t of tensors) expect(file.floats(t.name)).toEqual(t.values);
    }),
    { numRuns: 200, seed: 1 },
  );
});

test('tensors that cannot be written are refused', () => {
  const tensor = sample[0]!;
  expect(() => serializeSafetensors([tensor, tensor])).toThrow('two tensors named "w"');
  expect(() => serializeSafetensors([{ ...tensor, name: '__metadata__' }])).toThrow(CheckpointError);
  expect(() => serializeSafetensors([{ ...tensor, shape: [7] } as TensorToWrite])).toThrow('needs 7 values');
  // What could not be read again.
  const named = (name: string, shape = [6]) => ({ ...tensor, name, shape }) as TensorToWrite;
  const refusal = (tensors: TensorToWrite[], metadata = {}) => {
    expect(() => serializeSafetensors(tensors, metadata)).toThrow(CheckpointError);
    return expect(() => serializeSafetensors(tensors, metadata));
  };
  refusal([named('n'.repeat(1025))]).toThrow('cannot write a name with a length of 1025; the most is 1024');
  refusal([named('w', [6, ...Array(32).fill(1)])]).toThrow('cannot write tensor w with a rank of 33; the most is 32');
  refusal(Array.from({ length: 65_536 }, (_, i) => named(`${i}`))).toThrow('a number of tensors of 65536');
  refusal([], Object.fromEntries(Array.from({ length: 65_537 }, (_, i) => [i, '']))).toThrow(
    'metadata entries of 65537',
  );
  refusal([tensor], { long: 'x'.repeat(2 ** 24) }).toThrow(/a header with a length of \d+; the most is 16777216/);
});

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'odelt-safetensors-'));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('a file on disk is written whole, and read tensor by tensor', async () => {
  await inFolder(async (folder) => {
    const path = join(folder, 'w.safetensors');
    await writeSafetensors(path, sample, { format: 'odelt' });
    expect(await readdir(folder)).toEqual(['w.safetensors']);
    expect(new Uint8Array(await readFile(path))).toEqual(serializeSafetensors(sample, { format: 'odelt' }));
    const file = await openSafetensors(path);
    expect(await file.floats('half')).toEqual(floats);
    expect([...(await file.integers('labels'))]).toEqual([-1, 2, 3]);
    expect([...(await file.numbers('step'))]).toEqual([0xfffffff0]);
    const [w, half] = ['w', 'half'].map((name) => file.header.tensors.get(name)!);
    expect((await file.bytes(w!.begin, half!.end)).length).toBe(24 + 12);
    await expect(file.floats('nothing')).rejects.toThrow(CheckpointError);
    await file.close();
    await file.close();
  });
});

test('a failing write leaves the old file and nothing else', async () => {
  await inFolder(async (folder) => {
    const path = join(folder, 'w.safetensors');
    await writeSafetensors(path, sample);
    const before = await readFile(path);
    function* failing() {
      yield new Uint8Array(1000);
      throw new Error('disk trouble');
    }
    await expect(writeAtomically(path, failing())).rejects.toMatchObject({
      code: 'output',
      cause: { message: 'disk trouble' },
    });
    await expect(writeSafetensors(path, [sample[0]!, sample[0]!])).rejects.toThrow(CheckpointError);
    expect(await readdir(folder)).toEqual(['w.safetensors']);
    expect(await readFile(path)).toEqual(before);
    await writeSafetensors(join(folder, 'a/new/folder/w'), sample);
    await expect(writeSafetensors(join(path, 'w'), sample)).rejects.toThrow(OutputError); // under a file
  });
});

test('damaged files on disk are refused', async () => {
  await inFolder(async (folder) => {
    const path = join(folder, 'bad');
    await expect(openSafetensors(path)).rejects.toThrow(CheckpointError);
    await expect(openSafetensors(folder)).rejects.toThrow(CheckpointError);
    const good = serializeSafetensors(sample);
    for (const length of [0, 7, 8, 20, good.length - 1]) {
      await writeFile(path, good.subarray(0, length));
      await expect(openSafetensors(path)).rejects.toThrow(CheckpointError);
    }
  });
});

test('a tensor larger than an array can be is named, with its bytes; those beside it are read', async () => {
  await inFolder(async (folder) => {
    const path = join(folder, 'large');
    const bytes = 7e9;
    const text = `{"large":${entry('F32', `[${bytes / 4}]`, 0, bytes)},"small":${entry('U8', '[2]', bytes, bytes + 2)}}`;
    // A sparse file: it takes no room.
    await writeFile(path, fileOf(text, 0));
    await truncate(path, 8 + text.length + bytes + 2);
    const file = await openSafetensors(path);
    for (const read of [file.floats, file.numbers, file.integers]) {
      const error = await read('large').catch((error: unknown) => error as LimitError);
      expect(error).toBeInstanceOf(LimitError);
      expect(error).toMatchObject({
        message: `${path}: tensor "large" takes 7000000000 bytes; 2147483647 is the most that is read at once`,
        hint: 'store it in a shorter type, or as several tensors',
        ...{ asked: bytes, available: 2 ** 31 - 1 },
      });
    }
    await expect(file.bytes(100, 2 ** 31 + 100)).rejects.toThrow(`${path}: the part from byte 100 on takes 2147483648`);
    expect([...(await file.integers('small'))]).toEqual([0, 0]);
    await file.close();
  });
});

test.skipIf(process.platform === 'win32')('what is no regular file is refused, and not waited for', async () => {
  await inFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    execFileSync('mkfifo', [at('pipe')]);
    await mkdir(at('folder'));
    await symlink(at('nowhere'), at('dangling'));
    await symlink(at('loop'), at('loop'));
    const refused = async (path: string) => {
      const error = await openSafetensors(path).catch((error: unknown) => error as CheckpointError);
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as CheckpointError).hint).toContain('give a .safetensors file that you may read');
      return expect((error as CheckpointError).message.slice(path.length + 1));
    };
    (await refused(at('pipe'))).toBe('is no regular file');
    (await refused('/dev/zero')).toBe('is no regular file');
    (await refused(at('folder'))).toBe('is a folder');
    (await refused(at('dangling'))).toBe('cannot be read: there is no such file, or it is a link to nothing');
    (await refused(at('loop'))).toBe('cannot be read: it is a link that leads to itself');
  });
});
