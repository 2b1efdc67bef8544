/** TensorBoard's event files: checksums of the standard, every kind of value read back by another reader, and by TensorBoard where it is. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { UsageError } from '../../engine/errors.ts';
import { concatenated } from '../../formats/bytes.ts';
import { crc32c, type EventContent, eventBytes } from '../../formats/tensorboard.ts';
import { encodePng } from '../../pictures/png.ts';
import { castagnoli, eventOf, recordsOf, TENSORBOARD_PYTHON } from '../support/events.ts';

const png = encodePng({ width: 3, height: 2, pixels: Uint8Array.from({ length: 18 }, (_, i) => 14 * i) });
const histogram = { min: -2, max: 3, sum: 1.5, sumSquares: 9.25, limits: [-1, 0, 3], counts: [2, 0, 300] };
const records: [number, number, EventContent][] = [
  [1.25e9, 0, 'version'],
  [1.25e9 + 0.5, 1, 'start'],
  [
    1.25e9 + 1,
    300,
    [
      { tag: 'loss/fläche', scalar: 0.1 },
      { tag: 'second', scalar: -4e7 },
    ],
  ],
  [
    1.25e9 + 2,
    2 ** 40 + 5,
    [
      { tag: 'weights', histogram },
      { tag: 'samples', png, width: 3, height: 2 },
    ],
  ],
];
const file = concatenated(records.map((record) => eventBytes(...record)));

it('has the checksums of the standard', () => {
  const text = new TextEncoder().encode('123456789');
  expect(crc32c(text)).toBe(0xe3069283);
  // RFC 3720, B.4: 32 bytes of zeros, and of ones.
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  expect(BigInt(crc32c(png))).toBe(castagnoli(png));
});

it('is read back by a reader that shares nothing with it', () => {
  const events = recordsOf(file).map(eventOf);
  expect(events.map(({ time, step }) => [time, step])).toEqual(records.map(([time, step]) => [time, step]));
  expect(events[0]).toMatchObject({ version: 'brain.Event:2', scalars: {} });
  expect(events[1]).toMatchObject({ session: 1, scalars: {} });
  expect(events[2]!.scalars).toEqual({ 'loss/fläche': Math.fround(0.1), second: -4e7 });
  expect(events[3]!.histograms).toEqual({ weights: { ...histogram, num: 302 } });
  expect(events[3]!.images).toEqual({ samples: { height: 2, width: 3, colours: 3, png } });
});

it('a byte that is changed is noticed, wherever it is', () => {
  for (let at = 8; at < 60; at++) {
    const damaged = file.slice();
    damaged[at]! ^= 1;
    expect(() => recordsOf(damaged), String(at)).toThrow(/a checksum does not fit/);
  }
});

it('refuses a step that is no count, and bins that do not fit their counts', () => {
  for (const step of [-1, 0.5, 2 ** 53]) expect(() => eventBytes(0, step, 'start')).toThrow(UsageError);
  const wrong = { ...histogram, limits: [1] };
  expect(() => eventBytes(0, 1, [{ tag: 'w', histogram: wrong }])).toThrow("'w' has 3 counts for 1 edges of bins");
});

const SCRIPT = `
import sys, json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'histograms': 0, 'images': 0})
a.Reload()
tags = a.Tags()
print(json.dumps({
  'scalars': {t: [[e.wall_time, e.step, e.value] for e in a.Scalars(t)] for t in tags['scalars']},
  'histograms': {t: [[e.step, e.histogram_value.num, e.histogram_value.sum_squares, list(e.histogram_value.bucket_limit),
                      list(e.histogram_value.bucket)] for e in a.Histograms(t)] for t in tags['histograms']},
  'images': {t: [[e.step, e.width, e.height, e.encoded_image_string.hex()] for e in a.Images(t)] for t in tags['images']},
}))`;

const hasTensorBoard = spawnSync(TENSORBOARD_PYTHON, ['-c', 'import tensorboard']).status === 0;
if (!hasTensorBoard) console.warn('skipped: no TensorBoard in Python (ODELT_TENSORBOARD names one that has it)');

it.skipIf(!hasTensorBoard)(
  'is read by TensorBoard, which drops what was logged twice',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'odelt-events-'));
    try {
      writeFileSync(join(folder, 'events.out.tfevents.0000000001.a.1.0'), file);
      // Killed after update 4, its checkpoint is of update 2; then it goes on.
      const run = (done: number, steps: number[], value: number) =>
        concatenated([
          eventBytes(2e9, 0, 'version'),
          eventBytes(2e9, done + 1, 'start'),
          ...steps.map((step) => eventBytes(2e9 + step, step, [{ tag: 'again', scalar: value + step }])),
        ]);
      writeFileSync(join(folder, 'events.out.tfevents.0000000002.a.1.0'), run(0, [1, 2, 3, 4], 0));
      writeFileSync(join(folder, 'events.out.tfevents.0000000003.a.1.0'), run(2, [3, 4], 100));
      const read = JSON.parse(
        execFileSync(TENSORBOARD_PYTHON, ['-c', SCRIPT, folder], { encoding: 'utf8', stdio: 'pipe' }),
      );
      expect(read.scalars.again.map(([, step, value]: number[]) => [step, value])).toEqual([
        [1, 1],
        [2, 2],
        [3, 103],
        [4, 104],
      ]);
      rmSync(join(folder, 'events.out.tfevents.0000000002.a.1.0'));
      rmSync(join(folder, 'events.out.tfevents.0000000003.a.1.0'));
      const first = JSON.parse(
        execFileSync(TENSORBOARD_PYTHON, ['-c', SCRIPT, folder], { encoding: 'utf8', stdio: 'pipe' }),
      );
      expect(first.scalars).toEqual({
        'loss/fläche': [[1.25e9 + 1, 300, Math.fround(0.1)]],
        second: [[1.25e9 + 1, 300, -4e7]],
      });
      expect(first.images).toEqual({ samples: [[2 ** 40 + 5, 3, 2, Buffer.from(png).toString('hex')]] });
      const [[step, num, squares, limits, counts]] = first.histograms.weights;
      expect({ step, num, squares }).toEqual({ step: 2 ** 40 + 5, num: 302, squares: 0 + squares });
      expect([...limits].at(-1)).toBe(3);
      expect(counts.reduce((a: number, b: number) => a + b)).toBe(302);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  120_000,
);
