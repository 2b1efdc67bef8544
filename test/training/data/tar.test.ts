/** WebDataset shards: values, names and labels in every way, and archives that are cut short, empty or no archives. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataError, InterruptedError, LimitError } from '../../../engine/errors.ts';
import { openDataset } from '../../../training/data/open.ts';
import { tar, tarEntry } from '../../support/archives.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-tar-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function folder(files: Record<string, Uint8Array | string>): string {
  const path = mkdtempSync(join(scratch, 'case-'));
  for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
  return path;
}

const plain = (background: string, width = 4, height = 4) =>
  sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toBuffer();
let red: Buffer;
let blue: Buffer;
let grey: Buffer;
beforeAll(async () => {
  [red, blue, grey] = [await plain('#ff0000'), await plain('#0000ff', 9, 6), await plain('#808080')];
});
const open = (path: string) => openDataset(path, { size: 2 });
const failure = async (path: string): Promise<DataError> => {
  const error = await open(path).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(DataError);
  return error as DataError;
};
/** An archive of one sample, with pictures and labels as they come. */
const sample = (...entries: Parameters<typeof tar>[0]) => tar(entries);

describe('tar shards', () => {
  it('give pictures of mixed sizes and labels, shard after shard, whatever stands between', async () => {
    const path = folder({
      'b-000001.tar': tar([
        ['c.cls', '3\n'],
        ['c.png', grey],
      ]),
      'b-000000.tar': tar([
        ['./', '', '5'],
        ['./a.json', '{"label": 1, "caption": "x"}'],
        ['./a.png', red],
        ['./._b.png', 'of macOS'],
        ['x/b.left.txt', 'a text'],
        ['x/b.left.PNG', blue],
        ['x/b.cls', '0'],
      ]),
    });
    const said: string[] = [];
    const data = await openDataset(path, { size: 2, onRecognised: (what) => said.push(what) });
    expect(data).toMatchObject({ count: 3, height: 2, width: 2, channels: 3, classes: 4, skipped: [] });
    expect([0, 1, 2].map((i) => data.label(i))).toEqual([1, 0, 3]);
    expect([0, 1, 2].map((i) => Array.from(data.image(i).subarray(0, 3)))).toEqual([
      [255, 0, 0],
      [0, 0, 255],
      [128, 128, 128],
    ]);
    expect(said).toEqual(['WebDataset: 2 tar shards, labels in .cls or .json']);
  });

  it('are grey where every picture is, and one class where there are no labels', async () => {
    const data = await open(join(folder({ 'x.tar': sample(['a.png', grey], ['b.png', grey]) }), 'x.tar'));
    expect(data).toMatchObject({ name: 'x', channels: 1, classes: 1, count: 2 });
    expect(Array.from(data.image(1))).toEqual([128, 128, 128, 128]);
  });

  it("are unlabelled where their JSON is about other things, as img2dataset's is", async () => {
    const caption = (key: string) => [`${key}.json`, `{"caption": "x", "url": "y", "key": "${key}"}`] as const;
    const entries = ['a', 'b'].flatMap((key) => [
      caption(key),
      [`${key}.png`, red] as const,
      [`${key}.txt`, 'x'] as const,
    ]);
    const data = await open(folder({ 'x.tar': tar([...entries, ['c.json', 'null'], ['c.png', blue], caption('d')]) }));
    expect([data.count, data.classes]).toEqual([3, 1]);
  });

  it('take the label of .cls, wherever a .json stands and whatever it says', async () => {
    for (const json of ['{"caption": "x"}', '{"label": 5}', '{"label": "tench"}']) {
      const files = [['a.json', json] as const, ['a.png', red] as const, ['a.cls', '2'] as const];
      for (const entries of [files, [...files].reverse()]) {
        const data = await open(folder({ 'x.tar': tar(entries) }));
        expect([data.label(0), data.classes]).toEqual([2, 3]);
      }
    }
  });

  it('have long names, by pax and by GNU', async () => {
    const long = `${'very-long-'.repeat(15)}name`;
    const record = ` path=${long}.cls\n`;
    const pax = `${record.length + 3}${record}`;
    const data = await open(
      folder({
        'a.tar': sample(['@LongLink', `${long}.png\0`, 'L'], ['short.png', red], ['pax', pax, 'x'], ['other.cls', '7']),
      }),
    );
    expect([data.count, data.label(0), data.classes]).toEqual([1, 7, 8]);
  });

  it('that hold no picture are skipped and named; where none holds one, that is said', async () => {
    const path = folder({ 'a.tar': sample(['a.png', red]), 'b.tar': tar([]) });
    expect((await open(path)).skipped).toEqual([{ file: join(path, 'b.tar'), reason: 'holds no picture' }]);
    expect((await failure(folder({ 'a.tar': sample(['a.txt', 'x']) }))).message).toMatch(
      /1 tar archives hold no picture/,
    );
  });

  it('cut short at every boundary are refused, with the byte', async () => {
    const whole = sample(['a.cls', '1'], ['a.png', red]);
    const end = whole.length - 1024;
    const cuts = [
      0,
      1,
      511,
      512,
      513,
      1023,
      1024,
      1025,
      1535,
      1536,
      1537,
      1536 + red.length - 1,
      end - 1,
      end,
      end + 511,
    ];
    for (const cut of cuts) {
      const path = folder({ 'a.tar': whole.subarray(0, cut) });
      const error = await failure(cut === 0 ? path : join(path, 'a.tar'));
      expect(error.message.startsWith(join(path, 'a.tar')), `${cut}: ${error.message}`).toBe(true);
      if (cut >= 512) {
        expect(error.message).toMatch(new RegExp(`ends at byte ${cut}, within`));
        expect(error.hint).toMatch(/cut short/);
      }
    }
    expect((await open(folder({ 'a.tar': whole.subarray(0, end + 512) }))).count).toBe(1);
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    ['a damaged header', () => sample(['a.png', red]).fill(1, 2, 3), /neither a tar|no tar header at byte 0/],
    [
      'a second header that is none',
      () => Buffer.concat([tarEntry('a.png', red), Buffer.alloc(1024, 7)]),
      /no tar header/,
    ],
    ['a label in words', () => sample(['a.cls', 'cat'], ['a.png', red]), /'a\.cls' at byte 512 is 'cat'/],
    ['a negative label', () => sample(['a.cls', '-1'], ['a.png', red]), /is '-1', where a class/],
    ['a label out of range', () => sample(['a.cls', '65535'], ['a.png', red]), /label 65535 is no integer from 0/],
    ['half a label', () => sample(['a.json', '{"label": 1.5}'], ['a.png', red]), /label 1\.5 is no integer/],
    ['no JSON', () => sample(['a.json', '{'], ['a.png', red]), /'a\.json' at byte 512 is no JSON/],
    ['a label in words in JSON', () => sample(['a.json', '{"class": "cat"}'], ['a.png', red]), /'a\.json' .* is 'cat'/],
    [
      'JSON with and without label',
      () => sample(['a.json', '{"label": 1}'], ['a.png', red], ['b.json', '{}'], ['b.png', red]),
      /'b\.png' at byte \d+ has no label, others have/,
    ],
    [
      'labels that are not next to their pictures',
      () => sample(['x.png', red], ['y.png', red], ['x.cls', '1'], ['y.cls', '0']),
      /'x\.cls' at byte \d+ has no picture next to it/,
    ],
    [
      'a label at the end',
      () => sample(['x.png', red], ['y.json', '{"label": 0}']),
      /'y\.json' at byte \d+ has no pic/,
    ],
    ['some labels', () => sample(['a.cls', '1'], ['a.png', red], ['b.png', red]), /'b\.png' at byte \d+ has no label/],
    ['two pictures', () => sample(['a.png', red], ['a.jpg', red]), /two pictures, also 'a\.png'/],
    ['an empty picture', () => sample(['a.png', '']), /'a\.png' at byte 512 has 0 bytes/],
    ['a link', () => sample(['a.png', '', '2']), /'a\.png' at byte 0 is a link/],
    ['a bad picture', () => sample(['a.png', red.subarray(0, 50)]), /'a\.png' at byte 512: /],
    ['no picture', () => sample(['a.png', 'no picture']), /'a\.png' at byte 512: .*unsupported image format/],
  ])('refuses %s, naming it', async (_, make, message) => {
    const path = join(folder({ 'a.tar': make() }), 'a.tar');
    const error = await failure(path);
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(path)).toBe(true);
  });

  it('take no more memory than they may, and stop when told to', async () => {
    const path = folder({ 'a.tar': sample(['a.png', red], ['b.png', blue]) });
    await expect(openDataset(path, { size: 64, maxBytes: 20000 })).rejects.toThrow(LimitError);
    await expect(openDataset(path, { signal: AbortSignal.abort() })).rejects.toThrow(InterruptedError);
  });

  it('of one split are told by their names', async () => {
    const files = { 'train-0.tar': sample(['a.png', red], ['b.png', red]), 'test-0.tar': sample(['c.png', blue]) };
    expect((await open(folder(files))).count).toBe(2);
    expect((await openDataset(folder(files), { size: 2, split: 'test' })).count).toBe(1);
  });
});
