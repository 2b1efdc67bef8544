/** A benchmark of kernels as Markdown that is readable in a terminal, too; and how its numbers are written. */
import { table } from '../formats/markdown.ts';
import { type DecoderTotal, decoderTotals } from './decoder-layers.ts';
import type { KernelResult } from './kernels.bench.ts';
import type { BenchReport, Comparisons, Ratio, SubjectReport } from './report.ts';

/** Seconds as milliseconds with three or four digits. */
export function milliseconds(seconds: number): string {
  const ms = seconds * 1000;
  return Math.abs(ms) >= 100 ? ms.toFixed(0) : Math.abs(ms) >= 1 ? ms.toFixed(2) : ms.toFixed(4);
}

/** Three digits, without an exponent; empty for none. */
export const rate = (value: number | null): string =>
  value === null ? '' : value >= 100 ? value.toFixed(0) : value.toPrecision(3);

/** The share of the nearer ceiling, and which that is. */
export const share = ({ roofline, bound }: Pick<KernelResult, 'roofline' | 'bound'>): string =>
  roofline === null ? '' : `${(100 * roofline).toFixed(roofline < 0.1 ? 1 : 0)} % ${bound}`;

/** A case in words: `rows 64, tokens 49`. */
export const sizes = (k: object): string =>
  Object.entries(k)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('+') : value}`)
    .join(', ');

/** `0.93 (0.91 to 0.96)`. */
export const interval = ({ ratio, low, high }: Ratio): string =>
  `${ratio.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

export const passName = (pass: KernelResult['pass']): string => (pass === 'forward' ? 'fwd' : 'bwd');

/** Adapter and driver, the clock, and the ceilings: three lines. */
export function describeSubject({ name, adapter, clock, ceilings }: SubjectReport): string[] {
  const { copy, multiplyAdd, multiplyAddF16: half } = ceilings;
  const f16 = half ? `; in f16 ${rate(half.rate)} GFLOP/s (${half.variant})` : '';
  return [
    `${name}: ${adapter.name}, ${adapter.driver || 'driver unknown'} (${adapter.kind})`,
    `clock: ${clock.clock} (${clock.reason})`,
    `ceilings: ${rate(copy.rate)} GB/s (${copy.variant}); ${rate(multiplyAdd.rate)} GFLOP/s (${multiplyAdd.variant})${f16}`,
  ];
}

/** Machine, versions and the date, in one line. */
export const describeRun = ({ machine, load, versions, date }: BenchReport): string =>
  [
    machine,
    ...(load === null ? [] : [`load ${load.toFixed(1)} before`]),
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
    date,
  ].join(', ');

/** What was compared with float64: every output, or the rows that a large case's contract picks. */
export function describeChecks(kernels: readonly KernelResult[]): string {
  const parts = kernels.filter((r) => r.pass === 'forward' && r.checked < r.outputs);
  if (parts.length === 0) return 'Every output of every forward pass was compared with float64.';
  const least = parts.reduce((a, b) => (a.checked / a.outputs < b.checked / b.outputs ? a : b));
  return (
    `Forward passes were compared with float64: every output, but where marked * (large cases: ${parts.length}) outputs picked ` +
    `at random, of ${least.kernel} ${least.checked} of ${least.outputs}.`
  );
}

/** The report as Markdown. */
export function formatBench(report: BenchReport): string {
  const several = report.subjects.length > 1;
  const lines = [...report.subjects.flatMap(describeSubject), describeRun(report)];
  if (report.note) lines.push(report.note);
  lines.push(describeChecks(report.kernels), '');
  const head = [
    'kernel',
    'case',
    ...(several ? ['on'] : []),
    'pass',
    'ms (quartiles)',
    'GFLOP/s',
    'GB/s',
    'of the ceiling',
    'dispatches',
    'cold ms / pipelines',
    'error',
  ];
  const rows = report.kernels.map((r) => [
    r.kernel,
    sizes(r.case),
    ...(several ? [r.subject] : []),
    passName(r.pass),
    `${milliseconds(r.timing.median)} (${milliseconds(r.timing.q1)} to ${milliseconds(r.timing.q3)})`,
    rate(r.gflops),
    rate(r.gbytes),
    share(r),
    String(r.dispatches),
    r.pipelines === 0 ? '' : `${(r.coldSeconds * 1000).toFixed(0)} / ${r.pipelines}`,
    r.pass === 'forward' ? `${r.error.toExponential(1)}${r.checked < r.outputs ? '*' : ''}` : '',
  ]);
  lines.push(...table([head, ...rows]));
  for (const total of decoderTotals(report.kernels)) {
    lines.push('', describeDecoder(total, several), '', ...table(decoderCells(total)));
  }
  if (report.against) lines.push('', ...comparisonLines(report.against));
  for (const r of report.replay) {
    const { median, q1, q3 } = r.microseconds;
    lines.push(
      '',
      `Replay${several ? ` on ${r.subject}` : ''}: ${r.model} preset, L=${r.blocks}, batch ${r.batch}: ${r.dispatches} dispatches per evaluation, ` +
        `${median.toFixed(1)} host microseconds each (${q1.toFixed(1)} to ${q3.toFixed(1)}); ${r.bindGroupsPerReplay} bind groups and ` +
        `${r.buffersPerReplay} buffers made per replay; activations ${r.plannedBytes} bytes planned, ${r.lowerBound} the lower bound.`,
    );
  }
  return lines.join('\n');
}

/** What a decoder of latents takes of one picture, in a sentence. */
export const describeDecoder = (
  { decoder, subject, timed, all, seconds, gflops, roofline }: DecoderTotal,
  several: boolean,
): string =>
  `One picture of 256 pixels by ${decoder}'s decoder${several ? ` on ${subject}` : ''}: ${timed} of its ${all} layers take ` +
  `${milliseconds(seconds)} ms, ${rate(gflops)} GFLOP/s, ${(100 * roofline).toFixed(0)} % of the ceilings. The most costly first:`;

/** A decoder's layers as cells: a head, and a row for each. */
export const decoderCells = ({ layers, seconds: all }: DecoderTotal): string[][] => [
  ['kernel', 'case', 'times', 'ms each', 'ms', 'of all', 'GFLOP/s', 'of the ceiling'],
  ...layers.map(({ result, times, seconds }) => [
    ...[result.kernel, sizes(result.case), String(times), milliseconds(result.timing.median), milliseconds(seconds)],
    ...[`${((100 * seconds) / all).toFixed(1)} %`, rate(result.gflops), share(result)],
  ]),
];

/** How ratios are to be read, in a sentence. */
export function describeComparison({ subject, base, paired, placements, margin }: Comparisons): string {
  const how = paired
    ? `each case prepared ${placements} times, rounds in turn, ratios of pairs`
    : "medians of two runs, in seconds and in units of what each run's ceilings reached in the same rounds";
  const much = (100 * margin).toFixed(0);
  return (
    `${subject} against ${base}: time over time, below 1 is faster; ${how}. With bootstrap intervals of 99 %${placements > 1 ? ' over rounds and preparations' : ''}; ` +
    `a difference where ${paired ? 'the whole interval is' : 'all intervals are wholly'} more than ${much} % away from 1.`
  );
}

/** The comparison as cells: a head, and a row for each. */
export function comparisonCells({ comparisons, paired }: Comparisons): string[][] {
  const units = paired ? [] : ['in copies', 'in multiply-adds'];
  const head = ['kernel', 'case', 'pass', 'ms', 'was', 'ratio', ...units, 'verdict'];
  const rows = comparisons.map(
    ({ kernel, case: k, pass, seconds, baseSeconds, raw, inCopies, inMultiplyAdds, verdict }) => [
      ...[kernel, sizes(k), passName(pass), milliseconds(seconds), milliseconds(baseSeconds)],
      ...[raw, inCopies, inMultiplyAdds].flatMap((ratio) => (ratio ? interval(ratio) : [])),
      verdict,
    ],
  );
  return [head, ...rows];
}

function comparisonLines(against: Comparisons): string[] {
  return [
    describeComparison(against),
    ...against.warnings.map((warning) => `Warning: ${warning}`),
    ...against.leftOut.map((what) => `Left out: ${what}`),
    '',
    ...table(comparisonCells(against)),
  ];
}
