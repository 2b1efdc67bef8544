/** Recordings against their manifest: what is missing, changed or unknown is said, with no GPU and with nothing of Node. */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { openGolden } from '../../verify/golden.node.ts';
import { recordingCases } from '../../verify/manifest.ts';
import { FIXTURES } from '../support/golden.ts';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'odelt-manifest-'));
});
afterAll(() => rm(scratch, { recursive: true }));
afterEach(() => vi.unstubAllGlobals());

/** The bundle without its largest files, and without them in its manifest. */
async function copy(name: string): Promise<string> {
  const directory = join(scratch, name);
  for (const part of ['misaligned', 'dit_b2', 'solver_toy.json', 'formula_check.json', 'README.md']) {
    await cp(join(FIXTURES, part), join(directory, part), { recursive: true });
  }
  const manifest = JSON.parse(await readFile(join(FIXTURES, 'MANIFEST.json'), 'utf8')) as Record<string, unknown>;
  const kept = Object.entries(manifest).filter(([path]) => !/^(a|b|checkpoints|torch|vae)\/|^(prng|fid)\./.test(path));
  await writeFile(join(directory, 'MANIFEST.json'), JSON.stringify(Object.fromEntries(kept)));
  return directory;
}

/** What fails, and why; and what is noted. */
async function checked(directory: string) {
  const { cases, notes } = await recordingCases(await openGolden(directory));
  const failed: Record<string, string> = {};
  for (const { model, found } of cases) {
    expect(found).toMatchObject({ kind: 'recording', tolerance: 0 });
    const { error, detail } = await found.run().catch((cause: Error) => ({ error: Number.NaN, detail: cause.message }));
    if (error !== 0) failed[`${model}/${found.name}`] = detail!;
  }
  return { count: cases.length, failed, notes };
}

it('the bundle is as its manifest says, whole', async () => {
  const { files } = await openGolden(FIXTURES);
  const { count, failed, notes } = await checked(FIXTURES);
  expect(failed).toEqual({});
  expect(notes).toEqual([]);
  const recordings = [...files.keys()].filter((path) => !/MANIFEST\.json|README\.md/.test(path));
  expect(recordings).toHaveLength(count);
  expect(count).toBeGreaterThan(30);
});

it('a recording that is missing, of another size, or changed in one bit fails', async () => {
  const directory = await copy('damaged');
  expect(await checked(directory)).toMatchObject({ count: 6, failed: {}, notes: [] });
  await rm(join(directory, 'dit_b2/forward.safetensors'));
  await writeFile(join(directory, 'solver_toy.json'), '{}');
  const file = join(directory, 'misaligned/forward.safetensors');
  const bytes = await readFile(file);
  const listed = createHash('sha256').update(bytes).digest('hex');
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(file, bytes);
  const { failed } = await checked(directory);
  expect(Object.keys(failed).sort()).toEqual([
    './solver_toy.json',
    'dit_b2/forward.safetensors',
    'misaligned/forward.safetensors',
  ]);
  expect(failed['dit_b2/forward.safetensors']).toBe('dit_b2/forward.safetensors is missing; MANIFEST.json lists it');
  expect(failed['./solver_toy.json']).toBe('solver_toy.json has 2 bytes; MANIFEST.json says 21062');
  expect(failed['misaligned/forward.safetensors']).toMatch(
    new RegExp(`^misaligned/forward\\.safetensors has the SHA-256 [0-9a-f]{64}; MANIFEST\\.json says ${listed}$`),
  );
});

it('a whole folder that is missing fails file by file', async () => {
  const directory = await copy('less');
  await rm(join(directory, 'dit_b2'), { recursive: true });
  expect(Object.keys((await checked(directory)).failed)).toEqual(['dit_b2/config.json', 'dit_b2/forward.safetensors']);
});

it('files that are not listed are noted, texts are not', async () => {
  const directory = await copy('more');
  await writeFile(join(directory, 'misaligned/extra.safetensors'), '');
  await writeFile(join(directory, 'NOTES.md'), 'changed since');
  await writeFile(join(directory, '.hidden'), '');
  const { failed, notes } = await checked(directory);
  expect(failed).toEqual({});
  expect(notes).toEqual(['not listed in MANIFEST.json: misaligned/extra.safetensors']);
});

it('without a manifest that is said, and nothing is checked', async () => {
  const directory = await copy('none');
  await rm(join(directory, 'MANIFEST.json'));
  expect(await checked(directory)).toEqual({
    count: 0,
    failed: {},
    notes: [`${directory} has no MANIFEST.json: whether recordings are missing or have been changed cannot be told`],
  });
});

it('a folder may have a manifest of its own', async () => {
  const directory = await copy('nested');
  const list = async (path: string, entries: object) => writeFile(join(directory, path), JSON.stringify(entries));
  await mkdir(join(directory, 'other'));
  await writeFile(join(directory, 'other/x.bin'), 'abc');
  const sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
  await list('other/MANIFEST.json', { 'x.bin': { bytes: 3, sha256 } });
  expect(await checked(directory)).toMatchObject({ count: 7, failed: {}, notes: [] });
  await list('other/MANIFEST.json', { 'x.bin': { bytes: 3, sha256: `${sha256.slice(0, -1)}e` } });
  expect(Object.keys((await checked(directory)).failed)).toEqual(['other/x.bin']);
});

it('a manifest that makes no sense is a failed case that says where', async () => {
  const directory = await copy('nonsense');
  await writeFile(join(directory, 'MANIFEST.json'), '{"a/x":{"bytes":1.5,"sha256":""}}');
  expect((await checked(directory)).failed).toEqual({
    './MANIFEST.json': expect.stringMatching(/^MANIFEST\.json: a\/x > bytes: /),
  });
  await writeFile(join(directory, 'MANIFEST.json'), '{');
  expect((await checked(directory)).failed).toEqual({ './MANIFEST.json': 'MANIFEST.json: is no JSON' });
});

it('where a page has no SHA-256, sizes are compared and that is said', async () => {
  const directory = await copy('insecure');
  await writeFile(join(directory, 'solver_toy.json'), '{}');
  vi.stubGlobal('crypto', {});
  const { failed, notes } = await checked(directory);
  expect(Object.keys(failed)).toEqual(['./solver_toy.json']);
  expect(notes).toEqual(['files are compared by size only: SHA-256 needs a secure context (https or localhost)']);
});
