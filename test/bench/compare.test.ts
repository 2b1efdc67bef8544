/** Ratios and their intervals on made-up times, verdicts, and what is said when runs cannot be compared. */
import { describe, expect, it } from 'vitest';
import { compareRuns, compareSubjects, pairedRatio, runsRatio, verdictOf } from '../../bench/compare.ts';
import { timingOf } from '../../bench/harness.ts';
import type { KernelResult } from '../../bench/kernels.bench.ts';
import { formatBench } from '../../bench/markdown.ts';
import { parseReport, type SubjectReport } from '../../bench/report.ts';
import { normals } from '../../engine/philox.ts';
import { benchReport, kernelResult, subjectReport } from '../support/bench-report.ts';

/** Times around `median` with a tenth of it as standard deviation. */
const noisy = (median: number, stream: number, count = 21) =>
  Array.from(normals({ seed: 5, stream, step: 0 }, count), (z) => median * (1 + 0.1 * z));

describe('pairedRatio', () => {
  it('is exact where every pair has the same ratio, whatever the machine did meanwhile', () => {
    const base = [1, 2, 4, 8, 3];
    expect(
      pairedRatio(
        base.map((s) => 0.75 * s),
        base,
      ),
    ).toEqual({ ratio: 0.75, low: 0.75, high: 0.75 });
  });

  it('has an interval between the samples, around their median', () => {
    const { ratio, low, high } = pairedRatio([0.8, 0.9, 1, 1.1, 1.3], [1, 1, 1, 1, 1]);
    expect(ratio).toBe(1);
    expect([low, high]).toEqual([0.8, 1.3]);
    expect(pairedRatio([0.9, 1, 1.1], [1, 1, 1])).toEqual(pairedRatio([0.9, 1, 1.1], [1, 1, 1]));
  });
});

/** Rounds of as many placements as there are biases, over a base of 1: what each multiplies the ratio by, and noise in the rounds. */
const placed = (biases: readonly number[], noise: number, stream: number, rounds = 7) => {
  const zs = normals({ seed: 6, stream, step: 0 }, biases.length * rounds);
  return biases.flatMap((bias, p) =>
    Array.from({ length: rounds }, (_, i) => bias * (1 + noise * zs[p * rounds + i]!)),
  );
};
const ones = (seconds: readonly number[]) => seconds.map(() => 1);
const verdict = (seconds: readonly number[], placements: number) =>
  verdictOf([pairedRatio(seconds, ones(seconds), placements)], 0.03);

describe('pairedRatio of several placements', () => {
  it('is the median of their medians, and its interval reaches the ratio of each', () => {
    const seconds = [1, 1, 9, 2, 2, 2, 3, 3, 0, 5, 5, 5];
    const { ratio, low, high } = pairedRatio(seconds, ones(seconds), 4);
    expect(ratio).toBe(2.5);
    expect(low).toBeLessThanOrEqual(1);
    expect(high).toBeGreaterThanOrEqual(5);
  });

  it('that differ among themselves is no difference, however steady the rounds of each are', () => {
    const seconds = placed([1.18, 1.12, 1.16, 0.99], 0.005, 0);
    expect(verdict(seconds.slice(0, 7), 1)).toBe('slower');
    expect(verdict(seconds, 1)).toBe('slower');
    expect(verdict(seconds, 4)).toBe('no difference');
  });

  it('that all show it is a difference, and rounds that something disturbed do not hide it', () => {
    const seconds = placed([1.11, 1.09, 1.1, 1.12], 0.01, 1);
    expect(verdict(seconds, 4)).toBe('slower');
    expect(verdict(seconds.with(2, 0.5).with(9, 3).with(20, 0.4), 4)).toBe('slower');
    expect(
      verdict(
        seconds.map((s) => 1 / s),
        4,
      ),
    ).toBe('faster');
  });

  it('that one placement does not show in most of its draws is none', () => {
    const shaky = [0.97, 0.98, 0.99, 1.05, 1.1, 1.1, 1.1];
    const seconds = [...placed([1.2, 1.2, 1.2], 0, 3), ...shaky];
    expect(timingOf(shaky).median).toBeGreaterThan(1.03);
    expect(verdict(seconds, 4)).toBe('no difference');
  });

  it('is wider than the placements where their rounds are noisy', () => {
    const seconds = placed([1.1, 1.1, 1.1, 1.1], 0.2, 2);
    const { low, high } = pairedRatio(seconds, ones(seconds), 4);
    const own = [0, 1, 2, 3].map((p) => timingOf(seconds.slice(7 * p, 7 * p + 7)).median);
    expect(low).toBeLessThan(Math.min(...own));
    expect(high).toBeGreaterThan(Math.max(...own));
  });

  it('judges equal builds equal where a placement alone is off by more than the margin as often as not', () => {
    const runs = Array.from({ length: 60 }, (_, run) => {
      const biases = Array.from(normals({ seed: 7, stream: run, step: 0 }, 4), (z) => 1 + 0.05 * z);
      const seconds = placed(biases, 0.01, 100 + run);
      return { alone: verdict(seconds.slice(0, 7), 1), together: verdict(seconds, 4) };
    });
    const wrong = (of: 'alone' | 'together') => runs.filter((r) => r[of] !== 'no difference').length;
    expect(wrong('alone')).toBeGreaterThan(15);
    expect(wrong('together')).toBeLessThanOrEqual(2);
  });
});

describe('runsRatio', () => {
  it('covers 1 for equal distributions and finds a difference that is larger than the noise', () => {
    const same = runsRatio(noisy(1, 0), noisy(1, 1));
    expect(same.low).toBeLessThan(1);
    expect(same.high).toBeGreaterThan(1);
    const half = runsRatio(noisy(1, 0), noisy(2, 1));
    expect(half.high).toBeLessThan(0.65);
    expect(half.low).toBeGreaterThan(0.4);
  });

  it('is wider for fewer samples', () => {
    const width = (count: number) => {
      const { low, high } = runsRatio(noisy(1, 2, count), noisy(1, 3, count));
      return high - low;
    };
    expect(width(5)).toBeGreaterThan(1.5 * width(81));
  });
});

describe('verdictOf', () => {
  it.each([
    [[{ ratio: 0.9, low: 0.85, high: 0.94 }], 'faster'],
    [[{ ratio: 0.9, low: 0.85, high: 0.96 }], 'no difference'],
    [[{ ratio: 1.1, low: 1.06, high: 1.2 }], 'slower'],
    [[{ ratio: 1.1, low: 1.04, high: 1.2 }], 'no difference'],
    [
      [
        { ratio: 2, low: 1.9, high: 2.1 },
        { ratio: 1, low: 0.9, high: 1.1 },
      ],
      'no difference',
    ],
    [
      [
        { ratio: 2, low: 1.9, high: 2.1 },
        { ratio: 0.5, low: 0.4, high: 0.6 },
      ],
      'no difference',
    ],
  ] as const)('of %j is %s, with a margin of 5 %%', (ratios, verdict) => {
    expect(verdictOf(ratios, 0.05)).toBe(verdict);
  });
});

const rounds = [1.01, 0.99, 1, 1.02, 0.98, 1, 1.01];
const result = (
  kernel: string,
  seconds: number,
  machine = { copy: 1, multiplyAdd: 1 },
  rest: Partial<KernelResult> = {},
) =>
  kernelResult({
    kernel,
    timing: timingOf(rounds.map((noise) => seconds * noise)),
    ceilingRates: {
      copy: rounds.map((noise) => (10 * machine.copy) / noise),
      multiplyAdd: rounds.map((noise) => (100 * machine.multiplyAdd) / noise),
    },
    ...rest,
  });
const run = (kernels: readonly KernelResult[], subject: SubjectReport = subjectReport(), machine = 'a machine') => ({
  machine,
  versions: { odelt: '1', node: '20' },
  subjects: [subject],
  kernels,
});

describe('compareRuns', () => {
  it('a machine that does everything at half its speed makes no difference', () => {
    const now = run([result('linear', 2, { copy: 0.5, multiplyAdd: 0.5 })]);
    const { comparisons, warnings, margin, paired } = compareRuns(now, run([result('linear', 1)]), 'before.json');
    const [only] = comparisons;
    expect(only).toMatchObject({ kernel: 'linear', seconds: 2, baseSeconds: 1, verdict: 'no difference' });
    expect(only!.raw.ratio).toBeCloseTo(2, 12);
    expect(only!.inCopies!.ratio).toBeCloseTo(1, 12);
    expect(only!.inMultiplyAdds!.ratio).toBeCloseTo(1, 12);
    expect([margin, paired]).toEqual([0.05, false]);
    expect(warnings).toEqual([
      'the machine itself copied 0.50 times as fast as in the base: its speed may explain differences, too',
      'the machine itself multiplied and added 0.50 times as fast as in the base: its speed may explain differences, too',
    ]);
  });

  it('nor does one whose memory alone became slower, for a kernel that slowed by as much', () => {
    const now = run([result('linear', 2, { copy: 0.5, multiplyAdd: 1 })]);
    expect(compareRuns(now, run([result('linear', 1)]), 'x').comparisons[0]!.verdict).toBe('no difference');
  });

  it('a kernel that changed on a machine that did not is faster or slower', () => {
    const now = run([result('linear', 0.8), result('attention', 1.3)]);
    const { comparisons, warnings } = compareRuns(now, run([result('linear', 1), result('attention', 1)]), 'x');
    expect(comparisons.map(({ verdict }) => verdict)).toEqual(['faster', 'slower']);
    expect(warnings).toEqual([]);
  });

  it('matches cases whatever the order of their fields, and says what has no partner or no time', () => {
    const ordered = result('linear', 1, undefined, { case: { rows: 1, input: 2 } });
    const otherwise = result('linear', 1, undefined, { case: { input: 2, rows: 1 } });
    const noise = result('mse', 1, undefined, { timing: timingOf([-1, 2, 1]), pass: 'backward' });
    const { comparisons, leftOut } = compareRuns(
      run([ordered, noise, result('new', 1)]),
      run([otherwise, noise, result('old', 1)]),
      'x',
    );
    expect(comparisons.length).toBe(1);
    expect(leftOut).toEqual([
      'old {"size":4} forward: only in the base',
      'mse {"size":4} backward: no time above the noise',
      'new {"size":4} forward: not in the base',
    ]);
  });

  it('warns where adapter, driver, machine, clock or versions differ', () => {
    const other = subjectReport({ adapter: { ...subjectReport().adapter, name: 'B', driver: 'newer' } });
    const now = {
      ...run([result('linear', 1)], other, 'another'),
      versions: { odelt: '2', node: '20', webgpu: '0.6' },
    };
    expect(compareRuns(now, run([result('linear', 1)]), 'x').warnings).toEqual([
      'another odelt: 2, was 1',
      'another webgpu: 0.6, was unknown',
      'another machine: another, was a machine',
      'another adapter: B, was A',
      'another driver: newer, was 1.0',
    ]);
  });
});

it('compareSubjects pairs rounds of one run', () => {
  const drift = [1, 2, 3, 4, 5];
  const kernels = [
    result('linear', 1, undefined, { subject: 'new', timing: timingOf(drift.map((s) => 0.9 * s)) }),
    result('linear', 1, undefined, { subject: 'old', timing: timingOf(drift) }),
  ];
  const { comparisons, paired } = compareSubjects(kernels, 'new', 'old');
  expect(paired).toBe(true);
  expect(comparisons[0]).toMatchObject({ verdict: 'faster', inCopies: null, inMultiplyAdds: null });
  expect(comparisons[0]!.raw.high).toBeCloseTo(0.9, 12);
});

it('compareSubjects believes what all placements of a case show, and says how many there were', () => {
  const pair = (kernel: string, biases: readonly number[]) => {
    const seconds = placed(biases, 0, 0);
    return [
      result(kernel, 1, undefined, { subject: 'new', placements: 4, timing: timingOf(seconds) }),
      result(kernel, 1, undefined, { subject: 'old', placements: 4, timing: timingOf(ones(seconds)) }),
    ];
  };
  const kernels = [...pair('placed', [1.2, 1.2, 1.2, 1]), ...pair('slow', [1.2, 1.2, 1.2, 1.1])];
  const against = compareSubjects(kernels, 'new', 'old');
  expect(against.placements).toBe(4);
  expect(against.comparisons.map(({ verdict, raw }) => [verdict, raw.low, raw.high])).toEqual([
    ['no difference', 1, 1.2],
    ['slower', 1.1, 1.2],
  ]);
  expect(formatBench(benchReport({ kernels, against }))).toContain('each case prepared 4 times, rounds in turn');
});

describe('parseReport', () => {
  const hint = 'give what `odelt bench kernels --save` wrote with this version';
  it.each([
    ['{', 'it is no JSON'],
    ['null', 'the document: Invalid type: Expected Object but received null'],
    ['{"kernels": []}', 'format: Invalid key: Expected "format" but received undefined'],
    ['{"format": 0}', 'format: Invalid type: Expected 1 but received 0'],
  ])('refuses %s', (text, why) => {
    expect(() => parseReport(text, "'x'")).toThrow(
      expect.objectContaining({ code: 'config', message: `'x' is no saved benchmark of kernels: ${why}`, hint }),
    );
  });
});
