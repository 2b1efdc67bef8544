/** Weights read only as far as they are needed: the very bytes, from memory, files and URLs; and reading ahead. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openModel } from '../../../cli/models.node.ts';
import { CheckpointError, InterruptedError, LimitError, UsageError } from '../../../engine/errors.ts';
import { toHalf } from '../../../formats/half.ts';
import { parseSafetensors, serializeSafetensors, type TensorToWrite } from '../../../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../../../model/config.ts';
import { allSpecs, paramLayout } from '../../../model/params.ts';
import { modelTensors } from '../../../model/weights/model-file.ts';
import { openModelSource } from '../../../model/weights/source.node.ts';
import { type GroupSource, memorySource, prefetching, rangeSource, reporting } from '../../../model/weights/source.ts';
import { openModelUrl } from '../../../model/weights/source-url.ts';
import { formulaParams } from '../../../verify/formula-params.ts';
import {
  asRange,
  block,
  config,
  expectBits,
  expectEqualGroups,
  FIRST,
  groupCount,
  head,
  metadata,
  ofFour,
  ofTheRest,
  params,
  rangeOf,
  serve,
  tensorsAs,
  type Weights,
  whole,
} from '../../support/weights.ts';

/** A range source on bytes in memory that notes what is read. */
function noting(bytes: Uint8Array, model: ModelConfig = config) {
  const reads: [number, number][] = [];
  const fetchBytes = async (begin: number, end: number) => {
    reads.push([begin, end]);
    return bytes.subarray(begin, end);
  };
  return { reads, source: rangeSource(parseSafetensors(bytes).header, model, fetchBytes, 'w') };
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'odelt-source-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function fileOf(bytes: Uint8Array, name = 'model.safetensors'): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

describe('by range', () => {
  test("a group of odelt's files is one read of its bytes, and L of N blocks are theirs alone", async () => {
    const { reads, source } = noting(whole);
    for (const group of ofFour) await source.read(group);
    expect(reads).toEqual(ofFour.map((group) => rangeOf(whole, group)));
    const sizes = params.layout.groups.map(({ specs }) => specs.reduce((sum, spec) => sum + 4 * spec.size, 0));
    expect(source.bytesRead).toBe(ofFour.reduce((sum, group) => sum + sizes[group]!, 0));
    expect(sizes.map((_, group) => source.bytesOf(group))).toEqual(sizes);
    // Eight of the twelve blocks stay unread.
    const unread = ofTheRest.reduce((sum, group) => sum + sizes[group]!, 0);
    expect(unread).toBe(4 * params.layout.count - source.bytesRead);
    expect(unread).toBeGreaterThan(source.bytesRead);
  });

  test('scattered tensors are read in pieces, small gaps along with their neighbours', async () => {
    const tensors = tensorsAs('F32');
    const stranger = (name: string, size: number): TensorToWrite => ({
      ...{ name, dtype: 'F32', shape: [size], values: new Float32Array(size).fill(9) },
    });
    const first = params.layout.groups[block(0)]!.specs.map(({ name }) => name);
    const own = tensors.filter(({ name }) => first.includes(name)).reverse();
    const rest = tensors.filter(({ name }) => !first.includes(name)).reverse();
    const order = [
      ...own.slice(0, 3),
      ...[stranger('small', 100), ...own.slice(3, 8), stranger('large', 5000), ...own.slice(8)],
      ...rest.flatMap((tensor, i) => [tensor, stranger(`x${i}`, i % 7)]),
    ];
    const bytes = serializeSafetensors(order);
    const { reads, source } = noting(bytes);
    await source.read(block(0));
    const place = (name: string) => parseSafetensors(bytes).header.tensors.get(name)!;
    expect(reads).toEqual([
      [place(own[0]!.name).begin, place('large').begin],
      [place('large').end, place(own.at(-1)!.name).end],
    ]);
    expect(source.bytesRead).toBe(source.bytesOf(block(0)));
    expect(source.bytesOf(block(0))).toBe(own.reduce((sum, t) => sum + 4 * t.values.length, 400));
    await expectEqualGroups(source, bytes);
  });

  test('a group of nothing but halves stays halves; one float among them makes floats', async () => {
    const mixed = tensorsAs('F16').map((t) => ({ ...t, dtype: t.name === 'DiTBlock_1/Dense_4/bias' ? 'F32' : 'F16' }));
    const { source } = noting(serializeSafetensors(mixed as Weights[]));
    for (const [group, { length, specs }] of params.layout.groups.entries()) {
      const values = await source.read(group);
      if (group === block(1)) {
        expect(values).toBeInstanceOf(Float32Array);
        continue;
      }
      const halves = new Uint16Array(length);
      for (const { offset, size } of specs) {
        halves.set(toHalf(params.groups[group]!.subarray(offset, offset + size)), offset);
      }
      expect(values).toBeInstanceOf(Uint16Array);
      expect(Buffer.from(values.buffer).equals(Buffer.from(halves.buffer))).toBe(true);
    }
    await expectEqualGroups(source, serializeSafetensors(mixed as Weights[]));
  });

  test('parameters that are missing, misshapen or no floats, and groups that no read can hold, are refused', () => {
    const tensors = tensorsAs('F32');
    const from = (changed: TensorToWrite[]) => () => noting(serializeSafetensors(changed));
    expect(from(tensors.slice(1))).toThrow(/there is no tensor "PatchEmbed_0/);
    const flat = tensors.map((t, i) => (i === 0 ? { ...t, shape: [t.values.length] } : t));
    expect(from(flat)).toThrow(/PatchEmbed_0\/Conv_0\/kernel has shape \[512\], the model needs \[4,4,1,32\]/);
    const [kernel] = tensors;
    const whole = { ...kernel!, dtype: 'I32' as const, values: new Int32Array(kernel!.values.length) };
    expect(from([whole, ...tensors.slice(1)])).toThrow(/holds I32; weights are F32, F16 or BF16/);
    expect(from(tensors.slice(1))).toThrow(CheckpointError);

    const huge = parseModelConfig({ ...config, width: 16384, heads: 128 });
    let end = 8;
    const infos = allSpecs(paramLayout(huge)).map(({ name, shape, size }) => {
      const begin = end;
      end += 4 * size;
      return { name, shape, dtype: 'F32' as const, begin, end };
    });
    const header = { tensors: new Map(infos.map((info) => [info.name, info])), metadata: new Map<string, string>() };
    expect(() => rangeSource(header, huge, async () => new Uint8Array(), 'w')).toThrow(LimitError);
  });

  test('bytes that do not come, groups that do not exist and aborted signals are errors', async () => {
    const header = parseSafetensors(whole).header;
    const source = rangeSource(header, config, async (begin, end) => whole.subarray(begin, end - 1), 'w');
    await expect(source.read(2)).rejects.toThrow(/asked for \d+ bytes at \d+, got \d+/);
    await expect(source.read(groupCount)).rejects.toThrow(UsageError);
    expect(() => source.bytesOf(-1)).toThrow(UsageError);
    await expect(memorySource(params).read(groupCount)).rejects.toThrow(UsageError);
    const stopped = source.read(2, AbortSignal.abort('no more'));
    await expect(stopped).rejects.toThrow(InterruptedError);
    await expect(stopped).rejects.toMatchObject({ cause: 'no more' });
    expect(source.bytesRead).toBe(0);
  });
});

describe('from a file', () => {
  test.each(['F32', 'F16', 'BF16'] as const)(
    'every group of %s weights is that of the file read whole',
    async (dtype) => {
      const bytes = serializeSafetensors(tensorsAs(dtype), metadata);
      const opened = await openModelSource(await fileOf(bytes));
      expect(opened.config).toEqual(config);
      expect(opened.metadata.get('odelt.step')).toBe('7');
      await expectEqualGroups(opened.source, bytes);
      expect(opened.source.bytesRead).toBe((dtype === 'F32' ? 4 : 2) * params.layout.count);
      await opened.close();
      await opened.close();
    },
  );

  test('without a description it needs a configuration, which must fit', async () => {
    const path = await fileOf(serializeSafetensors(modelTensors(params)));
    await expect(openModelSource(path)).rejects.toThrow(/does not describe its model/);
    const opened = await openModelSource(path, config);
    expectBits(await opened.source.read(head), params.groups[head]);
    await opened.close();
    await expect(openModelSource(path, { ...config, width: 96 })).rejects.toThrow(/the model needs \[4,4,1,96\]/);
    const bad = await fileOf(serializeSafetensors(modelTensors(params), { 'odelt.model': '{"width":3}' }));
    await expect(openModelSource(bad)).rejects.toThrow(/its model description is not valid/);
  });

  test('damaged files are refused when they are opened', async () => {
    await expect(openModelSource(join(folder, 'none'))).rejects.toThrow(CheckpointError);
    await expect(openModelSource(await fileOf(whole.subarray(0, -1)))).rejects.toThrow(/is truncated/);
    const hostile = whole.slice();
    hostile.fill(0xff, 0, 8);
    await expect(openModelSource(await fileOf(hostile))).rejects.toThrow(/claims a header/);
  });
});

/** A source whose reads end when the test says so. */
function byHand() {
  const reads: { group: number; done(): void; fail(error: Error): void }[] = [];
  const source: GroupSource = {
    ...memorySource(params),
    read: (group, signal) =>
      new Promise((resolve, reject) => {
        reads.push({ group, done: () => resolve(params.groups[group]!), fail: reject });
        signal?.addEventListener('abort', () => reject(new InterruptedError()));
      }),
  };
  return { reads, source, asked: () => reads.map(({ group }) => group) };
}

/** Lets everything that can go on without the outside go on. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('reading ahead', () => {
  test('goes group by group in order, and reads wait for just their own', async () => {
    const { reads, source, asked } = byHand();
    const ahead = prefetching(source);
    const events: unknown[] = [];
    ahead.prefetch([5, 6, 7], { onGroup: (progress) => events.push(progress) });
    ahead.prefetch([6, 8, 8]);
    await settle();
    expect(asked()).toEqual([5]);
    const six = ahead.read(6);
    reads[0]!.done();
    await settle();
    expect(asked()).toEqual([5, 6]);
    // One that nobody prefetched does not queue.
    const one = ahead.read(1);
    expect(asked()).toEqual([5, 6, 1]);
    reads[2]!.done();
    expect(await one).toBe(params.groups[1]);
    reads[1]!.done();
    expect(await six).toBe(params.groups[6]);
    expect(await ahead.read(5)).toBe(params.groups[5]);
    await settle();
    expect(asked()).toEqual([5, 6, 1, 7]);
    reads[3]!.done();
    await settle();
    expect(asked()).toEqual([5, 6, 1, 7, 8]);
    const [five, more, most] = [5, 6, 7].map((group) => source.bytesOf(group)) as [number, number, number];
    const totalBytes = five + more + most;
    expect(events).toEqual([
      { name: params.layout.groups[5]!.name, bytes: five, totalBytes },
      { name: params.layout.groups[6]!.name, bytes: five + more, totalBytes },
      { name: params.layout.groups[7]!.name, bytes: totalBytes, totalBytes },
    ]);
    expect(ahead.layout).toBe(params.layout);
  });

  test('keep holds all that has been read, ahead or not', async () => {
    const { reads, source, asked } = byHand();
    const ahead = prefetching(source, { keep: true });
    ahead.prefetch([3]);
    const two = ahead.read(2);
    await settle();
    for (const read of reads) read.done();
    expect(await two).toBe(params.groups[2]);
    expect(await ahead.read(3)).toBe(params.groups[3]);
    ahead.prefetch([2, 3]);
    for (const group of [2, 3, 2]) expect(await ahead.read(group)).toBe(params.groups[group]);
    await settle();
    expect(asked().sort()).toEqual([2, 3]);
    const four = ahead.read(4);
    reads.at(-1)!.fail(new CheckpointError('broken'));
    await expect(four).rejects.toThrow('broken');
    const again = ahead.read(4);
    reads.at(-1)!.done();
    expect(await again).toBe(params.groups[4]);
  });

  test('what has been read is dropped', async () => {
    const { reads, source, asked } = byHand();
    const ahead = prefetching(source);
    ahead.prefetch([3]);
    await settle();
    reads[0]!.done();
    expect(await ahead.read(3)).toBe(params.groups[3]);
    const again = ahead.read(3);
    expect(asked()).toEqual([3, 3]);
    reads[1]!.done();
    expect(await again).toBe(params.groups[3]);
  });

  test('errors surface at read, once, and the next read tries anew', async () => {
    const { reads, source, asked } = byHand();
    const ahead = prefetching(source);
    ahead.prefetch([2, 3]);
    await settle();
    reads[0]!.fail(new CheckpointError('broken'));
    await settle();
    expect(asked()).toEqual([2]);
    // A later prefetch does not suffer from an earlier one.
    ahead.prefetch([4]);
    await settle();
    expect(asked()).toEqual([2, 4]);
    await expect(ahead.read(3)).rejects.toThrow('broken');
    await expect(ahead.read(2)).rejects.toThrow('broken');
    const again = ahead.read(2);
    expect(asked()).toEqual([2, 4, 2]);
    reads[2]!.done();
    expect(await again).toBe(params.groups[2]);
  });

  test('aborting a prefetch drops what it has and what it waits for; aborting a read leaves the prefetch', async () => {
    const { reads, source, asked } = byHand();
    const ahead = prefetching(source);
    const stopping = new AbortController();
    ahead.prefetch([2, 3, 4], { signal: stopping.signal });
    await settle();
    reads[0]!.done();
    await settle();
    const waiting = expect(ahead.read(3)).rejects.toThrow(InterruptedError);
    stopping.abort();
    await waiting;
    ahead.prefetch([5], { signal: stopping.signal });
    await settle();
    expect(asked()).toEqual([2, 3]);
    const again = [2, 3, 4].map((group) => ahead.read(group));
    expect(asked()).toEqual([2, 3, 2, 3, 4]);
    for (const read of reads.slice(2)) read.done();
    expect(await Promise.all(again)).toEqual([2, 3, 4].map((group) => params.groups[group]));

    ahead.prefetch([6]);
    await settle();
    const leaving = new AbortController();
    const left = ahead.read(6, leaving.signal);
    leaving.abort();
    await expect(left).rejects.toThrow(InterruptedError);
    await expect(ahead.read(6, leaving.signal)).rejects.toThrow(InterruptedError);
    reads.at(-1)!.done();
    expect(await ahead.read(6)).toBe(params.groups[6]);
    expect(asked().filter((group) => group === 6)).toEqual([6]);
  });

  test('over HTTP: sampling with four blocks can start while the others arrive', async () => {
    const served = await serve(whole);
    const ahead = prefetching((await openModelUrl(served.url)).source);
    const all = [...ofFour, ...ofTheRest];
    ahead.prefetch(all);
    for (const group of all) expectBits(await ahead.read(group), params.groups[group]);
    expect(served.asked).toEqual([FIRST, ...all.map((group) => asRange(rangeOf(whole, group)))]);
  });
});

test('reporting names each group once, when it is first waited for, with the bytes that are there', async () => {
  const { reads, source } = byHand();
  const events: unknown[] = [];
  const told = reporting(source, [5, 6, 6], (progress) => events.push(progress));
  const [five, six] = [5, 6].map((group) => source.bytesOf(group)) as [number, number];
  const event = (group: number, bytes: number) => ({
    ...{ name: params.layout.groups[group]!.name, bytes, totalBytes: five + six },
  });
  for (const [group, expected] of [
    [5, [event(5, 0)]],
    [5, []],
    [7, []],
    [6, [event(6, five)]],
  ] as const) {
    const read = told.read(group);
    expect(events.splice(0)).toEqual(expected);
    reads.at(-1)!.done();
    expect(await read).toBe(params.groups[group]);
  }
  // One that failed is named again.
  const fails = reporting(source, [5], (progress) => events.push(progress));
  const first = fails.read(5);
  reads.at(-1)!.fail(new CheckpointError('broken'));
  await expect(first).rejects.toThrow('broken');
  const second = fails.read(5);
  reads.at(-1)!.done();
  await second;
  expect(events).toEqual([0, 0].map((bytes) => ({ ...event(5, bytes), totalBytes: five })));
  expect([told.layout, told.bytesOf(6)]).toEqual([params.layout, six]);
});

describe('openModel', () => {
  test('takes a file, a run folder with its two sets of weights, and a URL', async () => {
    const run = join(folder, 'run');
    const step = join(run, 'checkpoints', 'step-12');
    await mkdir(step, { recursive: true });
    await mkdir(join(run, 'checkpoints', 'step-3'));
    const other = formulaParams(config, 8);
    await writeFile(join(step, 'ema.safetensors'), whole);
    await writeFile(join(step, 'model.safetensors'), serializeSafetensors(modelTensors(other), metadata));
    // What makes a folder a checkpoint; sampling reads neither.
    for (const file of ['optim.safetensors', 'state.json']) await writeFile(join(step, file), '{}');
    const served = await serve(whole);
    const cases = [
      { given: run, path: join(step, 'ema.safetensors'), expected: params },
      { given: run, which: 'raw' as const, path: join(step, 'model.safetensors'), expected: other },
      { given: step, path: join(step, 'ema.safetensors'), expected: params },
      { given: join(step, 'model.safetensors'), path: join(step, 'model.safetensors'), expected: other },
      { given: served.url, path: served.url, expected: params },
    ];
    for (const { given, which, path, expected } of cases) {
      const model = await openModel(given, which);
      expect(model.path).toBe(path);
      expect(model.config).toEqual(config);
      expectBits(await model.source.read(1), expected.groups[1]);
      await model.close();
    }
    await expect(openModel(join(folder, 'nothing'))).rejects.toThrow(CheckpointError);
  });
});
