/** Digests of groups: written with every model file, and what they tell of damage and of files that change under way. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { addConvert } from '../../../cli/convert.ts';
import { readModel } from '../../../cli/models.node.ts';
import { CheckpointError, OutOfMemoryError, UnsupportedError } from '../../../engine/errors.ts';
import { parseSafetensors, serializeSafetensors } from '../../../formats/safetensors.ts';
import { preset } from '../../../model/config.ts';
import { allSpecs, paramLayout, zeroParams } from '../../../model/params.ts';
import { DIGESTS_KEY } from '../../../model/weights/digests.ts';
import { modelContents, modelMetadata, modelTensors, parseModelFile } from '../../../model/weights/model-file.ts';
import { openModelSource } from '../../../model/weights/source.node.ts';
import { rangeSource } from '../../../model/weights/source.ts';
import { openModelUrl } from '../../../model/weights/source-url.ts';
import { saveCheckpoint } from '../../../training/checkpoint.node.ts';
import {
  block,
  config,
  expectBits,
  expectEqualGroups,
  groupCount,
  head,
  params,
  partOf,
  quick,
  rangeOf,
  serve,
  whole,
} from '../../support/weights.ts';

let folder: string;
let digested: Uint8Array<ArrayBuffer>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'odelt-digests-'));
  const { tensors, metadata } = await modelContents(config, params, { extra: { 'odelt.step': '7' } });
  digested = serializeSafetensors(tensors, metadata);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => void vi.unstubAllGlobals());

async function fileOf(bytes: Uint8Array): Promise<string> {
  const path = join(folder, 'model.safetensors');
  await writeFile(path, bytes);
  return path;
}

/** The bytes with one bit of a group's changed. */
function damaged(bytes: Uint8Array, group: number): Uint8Array<ArrayBuffer> {
  const [begin, end] = rangeOf(bytes, group);
  const copy = new Uint8Array(bytes);
  copy[Math.floor((begin + end) / 2)]! ^= 1;
  return copy;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const storedIn = (bytes: Uint8Array) =>
  JSON.parse(parseSafetensors(bytes).header.metadata.get(DIGESTS_KEY)!) as Record<string, string>;

/** That the file holds the SHA-256 of each group, and nothing else for digests. */
function expectDigests(bytes: Uint8Array): void {
  const expected = params.layout.groups.map(({ name }, group) => [
    name,
    sha256(bytes.subarray(...rangeOf(bytes, group))),
  ]);
  expect(Object.entries(storedIn(bytes))).toEqual(expected);
}

describe('model files are written with digests', () => {
  test.each(['F32', 'F16'] as const)('of their groups in %s, which their readers find right', async (dtype) => {
    const { tensors, metadata } = await modelContents(config, params, { dtype, extra: { 'odelt.step': '7' } });
    expect(metadata).toEqual({ ...modelMetadata(config, { 'odelt.step': '7' }), [DIGESTS_KEY]: expect.any(String) });
    const bytes = serializeSafetensors(tensors, metadata);
    expectDigests(bytes);
    await expectEqualGroups((await openModelUrl((await serve(bytes)).url)).source, bytes);
    const file = await parseModelFile(bytes, 'w');
    expect([file.config, file.metadata.get('odelt.step')]).toEqual([config, '7']);
  });

  test('by a training checkpoint and by odelt convert', async () => {
    const zeros = zeroParams(params.layout);
    const run = join(folder, 'run');
    const at = await saveCheckpoint(
      join(run, 'checkpoints'),
      { step: 7, model: config },
      {
        ...{ params, ema: params, m: zeros, v: zeros },
      },
    );
    for (const name of ['model', 'ema']) expectDigests(await readFile(join(at, `${name}.safetensors`)));
    const out = join(folder, 'converted.safetensors');
    const errors = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const program = new Command();
    addConvert(program.command('convert'));
    await program.parseAsync(['convert', run, '--out', out], { from: 'user' });
    errors.mockRestore();
    expectDigests(await readFile(out));
    await writeFile(join(at, 'ema.safetensors'), damaged(await readFile(join(at, 'ema.safetensors')), block(3)));
    await expect(readModel(run)).rejects.toThrow(/ema\.safetensors: group block3 is damaged/);
  });

  test("the largest preset's header still comes with the first request", async () => {
    // The largest preset as to its header: one file's names and digests, no values.
    const largest = preset('dit-xl/2');
    const layout = paramLayout(largest);
    const digests = Object.fromEntries(layout.groups.map(({ name }) => [name, '0'.repeat(64)]));
    const entries = Object.fromEntries(
      allSpecs(layout).map(({ name, shape }) => [name, { dtype: 'F32', shape, data_offsets: [1e9, 1e9] }]),
    );
    const header = { __metadata__: modelMetadata(largest, { [DIGESTS_KEY]: JSON.stringify(digests) }), ...entries };
    expect(JSON.stringify(header).length + 1024).toBeLessThan(64 * 1024);
  });
});

describe('a damaged group', () => {
  test('is named, whichever it is; the others are read', async () => {
    for (let group = 0; group < groupCount; group++) {
      const bytes = damaged(digested, group);
      const { source, close } = await openModelSource(await fileOf(bytes));
      const { name } = params.layout.groups[group]!;
      const error = await source.read(group).catch((error: unknown) => error as CheckpointError);
      expect(error).toBeInstanceOf(CheckpointError);
      const [begin, end] = rangeOf(bytes, group);
      expect((error as Error).message).toBe(
        `${join(folder, 'model.safetensors')}: group ${name} is damaged: its SHA-256 is ` +
          `${sha256(bytes.subarray(begin, end))}, the file states ${storedIn(digested)[name]}`,
      );
      const other = (group + 1) % groupCount;
      expectBits(await source.read(other), params.groups[other]);
      await close();
    }
    await expect(parseModelFile(damaged(digested, head), 'w')).rejects.toThrow(/^w: group head is damaged/);
  });

  test('is found in files of any order of tensors', async () => {
    const { tensors, metadata } = await modelContents(config, params);
    const scattered = serializeSafetensors(tensors.reverse(), metadata);
    expect((await parseModelFile(scattered, 'w')).config).toEqual(config);
    const [begin] = rangeOf(scattered, block(5));
    scattered[begin]! ^= 0x80;
    await expect(parseModelFile(scattered, 'w')).rejects.toThrow(/group block5 is damaged/);
  });

  test('cannot be told in a file without digests, which is read as ever', async () => {
    const { source, close } = await openModelSource(await fileOf(damaged(whole, block(1))));
    expect((await source.read(block(1))).length).toBe(params.groups[block(1)]!.length);
    await close();
  });

  test('digests that are none are refused when the file is opened', () => {
    const open = (digests: string) => () => {
      const bytes = serializeSafetensors(modelTensors(params), modelMetadata(config, { [DIGESTS_KEY]: digests }));
      return rangeSource(parseSafetensors(bytes).header, config, async (b, e) => bytes.subarray(b, e), 'w');
    };
    for (const text of ['', '{', 'null'])
      expect(open(text)).toThrow("w: its metadata 'odelt.sha256' are no JSON object");
    for (const text of ['{"block0":7}', `{"block0":"${'g'.repeat(64)}"}`]) {
      expect(open(text)).toThrow("w: the digest of group block0 in its metadata 'odelt.sha256' is no SHA-256");
    }
    expect(open('{"block99":7}')).not.toThrow();
  });
});

describe('a file that changes after it was opened', () => {
  test('on a server that says nothing of its version, is noticed by its digests', async () => {
    const other = await modelContents(config, { ...params, groups: params.groups.map((g) => g.map((x) => 2 * x)) });
    const later = serializeSafetensors(other.tensors, { ...other.metadata, 'odelt.step': '8' });
    expect(later.length).toBe(digested.length);
    const served = await serve(digested, {
      trick: (request, response, index) => {
        if (index > 1) response.end(partOf(later, request, response));
        return index > 1;
      },
    });
    const { source } = await openModelUrl(served.url, quick);
    expectBits(await source.read(block(0)), params.groups[block(0)]);
    await expect(source.read(block(1))).rejects.toThrow(/group block1 is damaged: its SHA-256 is/);
  });

  test('on disk, is noticed with or without digests', async () => {
    const path = await fileOf(whole);
    await utimes(path, 1e9, 1e9);
    const { source, close } = await openModelSource(path);
    expectBits(await source.read(2), params.groups[2]);
    await writeFile(path, damaged(whole, block(0)));
    const error = await source.read(block(0)).catch((error: unknown) => error as CheckpointError);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toBe(`${path} was written to while it was being read`);
    await close();
  });
});

test('a page without crypto.subtle is told what is missing', async () => {
  const { source, close } = await openModelSource(await fileOf(digested));
  vi.stubGlobal('crypto', {});
  await expect(source.read(head)).rejects.toThrow(UnsupportedError);
  await expect(source.read(head)).rejects.toThrow(/this page has no crypto\.subtle/);
  await close();
});

test('a group for which there is no memory is named', async () => {
  const fetchBytes = async () => new Uint8Array(2 ** 53 - 1);
  const source = rangeSource(parseSafetensors(whole).header, config, fetchBytes, 'w');
  const error = await source.read(block(2)).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(OutOfMemoryError);
  expect((error as Error).message).toBe(
    `w: group block2 takes ${source.bytesOf(block(2))} bytes, for which there is no memory`,
  );
});
