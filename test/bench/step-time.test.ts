/** The model of a step by several processes: against figures worked out by hand, limits that are known, and files that are not what they should be. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { blockWork, partsOf, readSaved } from '../../bench/step-parts.ts';
import { formatPrediction, LINKS, namedLink, plotPrediction, predictAll } from '../../bench/step-report.ts';
import { fitLink, MESSAGE_BYTES, predict, type StepParts, stepTime, sumSeconds } from '../../bench/step-time.ts';
import { ConfigError } from '../../engine/errors.ts';
import { shippedBench } from '../../formats/shipped.node.ts';
import { preset } from '../../model/config.ts';

const link = { latency: 1e-3, bandwidth: 1e9 };

it.each([
  // Two messages of 4 MiB, seconds by hand: rounds of 1 ms each, then bytes over 1 GB/s.
  ['binomial', 2, 2 * 2 * 1e-3 + (2 * 2 * MESSAGE_BYTES) / 1e9],
  ['binomial', 5, 2 * 6 * 1e-3 + (6 * 2 * MESSAGE_BYTES) / 1e9],
  ['rabenseifner', 8, 2 * 6 * 1e-3 + (1.75 * 2 * MESSAGE_BYTES) / 1e9],
  ['ring', 8, 2 * 14 * 1e-3 + (1.75 * 2 * MESSAGE_BYTES) / 1e9],
  ['ring', 1, 0],
] as const)('a sum by %s over %d ranks', (algorithm, ranks, seconds) => {
  expect(sumSeconds(2 * MESSAGE_BYTES, ranks, link, algorithm)).toBeCloseTo(seconds, 12);
});

it('a link is found again in the sums that it makes, and no part of it is below nothing', () => {
  const times = (of: (bytes: number) => number) =>
    [1024, 65536, 2 ** 20, 2 ** 24, 2 ** 26].map((bytes) => {
      const seconds = of(bytes);
      return { bytes, seconds, quartiles: [seconds, seconds] as const, bytesPerSecond: bytes / seconds };
    });
  for (const algorithm of ['binomial', 'rabenseifner', 'ring'] as const) {
    const found = fitLink(
      times((bytes) => sumSeconds(bytes, 6, link, algorithm)),
      6,
      algorithm,
    );
    expect(found.latency / link.latency).toBeCloseTo(1, 9);
    expect(found.bandwidth / link.bandwidth).toBeCloseTo(1, 9);
  }
  expect(
    fitLink(
      times((bytes) => bytes * 1e-9),
      2,
      'ring',
    ).latency,
  ).toBeCloseTo(0, 12);
  const faster = fitLink(
    times((bytes) => 1e-3 * (1 + (1e6 - bytes) * 1e-9)),
    2,
    'ring',
  );
  expect(faster.latency).toBeGreaterThanOrEqual(0);
  expect(faster.bandwidth).toBeGreaterThan(0);
  expect(() => fitLink([], 2, 'ring')).toThrow(ConfigError);
});

const parts: StepParts = {
  ...{ fixed: 0.01, perRow: 0.01, backward: 0.5, update: 0.1 },
  ...{ bytes: 4 * MESSAGE_BYTES, transfer: 1e9, overlap: true },
};

it('a step is its computing, and of the way of gradients what the backward pass does not hide', () => {
  // One rank sends nothing anywhere.
  expect(stepTime(parts, { ranks: 1, batch: 9, alone: 9 }, link, 'ring')).toMatchObject({
    ...{ seconds: expect.closeTo(0.1, 12), sums: 0, transfers: 0, hidden: expect.closeTo(0, 12) },
    ...{ efficiency: expect.closeTo(1, 12), samplesPerSecond: expect.closeTo(90, 9) },
  });
  // Four buckets come 12.5 ms apart, the last at 90 ms. Each takes 8.39 ms of transfer and a sum of 2 ms and 4.19 ms: 14.58 ms.
  const each = (2 * MESSAGE_BYTES) / 1e9 + 2e-3 + MESSAGE_BYTES / 1e9;
  expect(each).toBeGreaterThan(0.0125);
  const two = stepTime(parts, { ranks: 2, batch: 18, alone: 9 }, link, 'ring');
  const losses = 2e-3 + 4e-9;
  expect(two.seconds).toBeCloseTo(0.04 + 0.0125 + 4 * each + 0.01 + losses, 12);
  expect(two.hidden).toBeCloseTo(3 * 0.0125, 12);
  expect(two.sums + two.transfers - two.hidden).toBeCloseTo(two.seconds - two.computing, 12);
  // Where nothing goes on beside the backward pass, nothing is hidden.
  const after = stepTime({ ...parts, overlap: false }, { ranks: 2, batch: 18, alone: 9 }, link, 'ring');
  expect(after.hidden).toBeCloseTo(0, 12);
  expect(after.seconds).toBeCloseTo(0.1 + 4 * each + losses, 12);
  // Uneven rows: the rank with most of them counts.
  expect(stepTime(parts, { ranks: 4, batch: 9, alone: 9 }, link, 'ring').rows).toBe(3);
});

it('a free link leaves the fixed part alone to lose by, and a batch goes to no more ranks than it has rows', () => {
  const free = { latency: 0, bandwidth: Number.POSITIVE_INFINITY };
  const own = { ...parts, transfer: Number.POSITIVE_INFINITY };
  for (const { efficiency } of predict(own, { rows: 8 }, [1, 16, 1024], free, 'ring'))
    expect(efficiency).toBeCloseTo(1, 12);
  const strong = predict(own, { batch: 64 }, [1, 8, 64, 128], free, 'ring');
  expect(strong.map(({ ranks }) => ranks)).toEqual([1, 8, 64]);
  expect(strong.map(({ efficiency }) => efficiency)).toEqual(
    [1, 0.65 / (8 * 0.09), 0.65 / (64 * 0.02)].map((x) => expect.closeTo(x, 9)),
  );
});

it("what an H200 measured of DiT-B/2 is a step of its own, and DiT-XL/2's by arithmetic", () => {
  const file = shippedBench('model-dit-b2-h200.json');
  const saved = readSaved(readFileSync(file, 'utf8'), file);
  const b = partsOf(saved, preset('dit-b/2'));
  expect(b.parts.fixed + 8 * b.parts.perRow).toBeCloseTo(saved.training[0]!.ragged.median, 9);
  expect(b.parts.fixed).toBeGreaterThan(0);
  expect(b.parts).toMatchObject({ overlap: true, bytes: 4 * 131_101_712 });
  expect(b.parts.backward).toBeCloseTo(0.51, 2);
  const xl = partsOf(saved, preset('dit-xl/2'));
  const work = blockWork(preset('dit-xl/2')) / blockWork(preset('dit-b/2'));
  // Peebles and Xie 2023 give 118.6 and 23.0 Gflops for whole networks.
  expect(work).toBeCloseTo(118.6 / 23.0, 1);
  expect(xl.parts.perRow / b.parts.perRow).toBeCloseTo(work, 9);
  expect(xl.parts.fixed / b.parts.fixed).toBeCloseTo(28 / 12, 9);
  expect(xl.from).toContain('(arithmetic of the blocks)');
  for (const [text, message] of [
    ['{', 'x is no JSON'],
    ['{}', 'x holds no measured model'],
    [JSON.stringify({ ...saved, training: [] }), 'x has no training steps'],
  ] as const)
    expect(() => readSaved(text, 'x')).toThrow(message);
  expect(() => partsOf({ ...saved, results: [] }, preset('dit-b/2'))).toThrow('one batch does not say');
});

it('is told as tables and as plots, with the figures of links', () => {
  const ranks = [1, 4, 16];
  const of = { model: 'm', from: 'by hand', parts, algorithm: 'ring', rows: 8, batch: 64 } as const;
  const prediction = predictAll(of, Object.values(LINKS), ranks);
  const text = formatPrediction(prediction);
  expect(text).toContain('10 GbE: 1.25 GB/s, 50 us; 8 rows for each rank');
  const [weak] = prediction.links.map((each) => each.weak);
  expect(text.split('\n').filter((line) => /^\| 16 /.test(line))).toHaveLength(2 * Object.keys(LINKS).length);
  expect(text).toContain(`| ${weak![2]!.efficiency.toFixed(2)}`);
  for (const kind of ['weak', 'strong'] as const) {
    const svg = plotPrediction(prediction, kind);
    expect(svg).toContain('InfiniBand HDR: 25 GB/s, 2 us');
    expect(svg.match(/<path /g)).toHaveLength(Object.keys(LINKS).length);
  }
  expect(() => namedLink('token-ring')).toThrow("link 'token-ring' is unknown");
});
