/** Parts of samples: which make up a whole, how their files are named, and files that are none. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { openSamplePart, partFiles, readPartSamples, writeSamplePart } from '../../sampling/sample-parts.node.ts';
import { checkSampleParts, type NamedSamplePart, type SamplePart } from '../../sampling/sample-parts.ts';

const folder = mkdtempSync(join(tmpdir(), 'odelt-parts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const record = (index: number, range: readonly [number, number], more: Partial<SamplePart> = {}): SamplePart => ({
  ...{ shard: { index, of: 2 }, range, shape: [5, 2, 1, 3], sheet: { columns: 5, scale: 1 } },
  ...{ settings: { seed: 0, steps: 4 }, file: 'x.npy', sha256: '0' },
  ...more,
});
const named = (part: SamplePart): NamedSamplePart => ({
  name: `part${part.shard.index}`,
  shard: part.shard,
  record: part,
});

it('belong together in any order, or are refused by what is wrong', () => {
  const [a, b] = [named(record(0, [0, 2])), named(record(1, [2, 5]))];
  expect(checkSampleParts([b, a])).toEqual([a, b]);
  for (const [parts, message] of [
    [[], 'there are no parts to merge'],
    [[b], 'part 0/2 is missing'],
    [[a, a], 'part 0/2 is there twice: part0 and part0'],
    [[a, named(record(1, [2, 5], { shard: { index: 1, of: 3 } }))], 'part0 is part 0/2, and part1 part 1/3'],
    [[a, named(record(1, [3, 5]))], 'part1, part 1/2, has samples 3 to 5, and those before it end at 2'],
    [[a, named(record(1, [2, 4]))], 'the parts have 4 of 5 samples'],
    [
      [a, named(record(1, [2, 5], { settings: { seed: 0, steps: 8 } }))],
      'part0 and part1 are parts of other samples: steps is 4 in one, 8 in the other',
    ],
    [
      [a, named(record(1, [2, 5], { settings: { seed: 0, steps: 4, tuning: [] } }))],
      'part0 and part1 are parts of other samples: tuning is none in one, [] in the other',
    ],
  ] as const) {
    expect(() => checkSampleParts(parts)).toThrow(ConfigError);
    expect(() => checkSampleParts(parts)).toThrow(message);
  }
});

it('are files beside the one that all would be, and are refused when they are damaged', async () => {
  expect(partFiles('out/a.b.png', { index: 3, of: 12 })).toEqual({
    record: 'out/a.b-3-of-12.json',
    samples: 'out/a.b-3-of-12.npy',
    sheet: 'out/a.b-3-of-12.png',
  });
  const out = join(folder, 's.npy');
  const values = Float32Array.from({ length: 3 * 6 }, (_, i) => Math.sin(i));
  const { file: _, sha256: __, ...part } = record(1, [2, 5]);
  await writeSamplePart(out, part, values);
  const files = partFiles(out, part.shard);
  const opened = await openSamplePart(files.record);
  expect(opened.record).toMatchObject(part);
  expect(await readPartSamples(opened)).toEqual(values);
  const bytes = readFileSync(files.samples);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(files.samples, bytes);
  await expect(readPartSamples(opened)).rejects.toThrow('its checksum differs');
  const refused = async (text: string, message: string) => {
    writeFileSync(files.record, text);
    await expect(openSamplePart(files.record)).rejects.toThrow(message);
  };
  await refused('{', 'is no JSON');
  await refused('{}', 'does not describe a part of samples');
  const changed = (more: object) => JSON.stringify({ ...opened.record, ...more });
  await refused(changed({ file: '../s.npy' }), 'does not describe a part of samples');
  await refused(changed({ shard: { index: 2, of: 2 } }), 'does not describe a part of samples');
  await expect(openSamplePart(join(folder, 'none.json'))).rejects.toThrow('there is no such file');
});
