/** A model's measurement as Markdown that is readable in a terminal, too. */
import { table as columns } from '../formats/markdown.ts';
import type { Share } from './breakdown.ts';
import type { Timing } from './harness.ts';
import { rate } from './markdown.ts';
import type { FirstSamples, ModelBench, ModelBreakdown, ModelRatio, ModelResult } from './model.bench.ts';
import type { TrainingResult } from './training.bench.ts';

/** Kernels that a table shows; the JSON document has them all. */
const SHOWN = 12;

const ms = ({ median, q1, q3 }: Timing): string => `${rate(median * 1000)} (${rate(q1 * 1000)} to ${rate(q3 * 1000)})`;
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
const quartiles = ({ median, q1, q3 }: Timing): string => `${median.toFixed(3)} (${q1.toFixed(3)} to ${q3.toFixed(3)})`;

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => columns([head, ...rows]);

const whatOf = ({ what, blocks, steps }: ModelResult): string =>
  what === 'sampling' ? `sampling, T=${steps}, L=${blocks}` : what === 'evaluation' ? `evaluation, L=${blocks}` : what;

const resultRow = (r: ModelResult): string[] => [
  whatOf(r),
  String(r.batch),
  r.weights,
  ms(r.seconds),
  rate(r.gflops),
  String(r.dispatches),
];

const verdict = ({ ratio, goal }: ModelRatio): string =>
  goal === null ? '' : `${goal} or less: ${ratio.median <= goal ? 'yes' : 'no'}`;

function breakdown({ what, reason, kernels, dispatches, sumSeconds }: ModelBreakdown): string[] {
  const row = (s: Share) => [
    s.name,
    percent(s.share),
    rate(s.seconds * 1000),
    rate(s.gflops),
    rate(s.gbytes),
    s.bytes === null ? '' : rate(s.bytes / 1e6),
    String(s.dispatches),
  ];
  const rest = kernels.length > SHOWN ? `, ${kernels.length - SHOWN} more kernels in the JSON document` : '';
  return [
    '',
    `Kernels of one ${what}: ${dispatches} dispatches, ${rate(sumSeconds * 1000)} ms together${rest}.`,
    `How they were timed: ${reason}.`,
    '',
    ...table(['kernel', 'share', 'ms', 'GFLOP/s', 'GB/s', 'MB', 'dispatches'], kernels.slice(0, SHOWN).map(row)),
  ];
}

function trainingRow(r: TrainingResult): string[] {
  return [
    String(r.batch),
    ms(r.full),
    ms(r.ragged),
    quartiles(r.ratio),
    percent(1 - r.ratio.median),
    percent(r.skipped),
    percent(r.skippedFlops),
    String(r.dispatches),
  ];
}

/** Where the largest batch's ragged step saves its time, and where it does not. */
function savings(r: TrainingResult): string[] {
  const parts = new Map<string, [number, number]>();
  for (const { name, full, ragged } of r.parts) {
    const part = name.slice(0, name.indexOf(':'));
    const [a, b] = parts.get(part) ?? [0, 0];
    parts.set(part, [a + full.seconds, b + ragged.seconds]);
  }
  const change = (a: number, b: number) => (a === 0 ? '' : `${(100 * (b / a - 1)).toFixed(0)} %`);
  const rows = [...parts].map(([part, [a, b]]) => [part, rate(a * 1000), rate(b * 1000), change(a, b)]);
  const kernels = r.parts
    .slice(0, SHOWN)
    .map(({ name, full, ragged }) => [
      name,
      rate(full.seconds * 1000),
      rate(ragged.seconds * 1000),
      change(full.seconds, ragged.seconds),
    ]);
  return [
    '',
    `Batch ${r.batch} by part and by kernel (${r.reason}):`,
    '',
    ...table(['part', 'ms, all blocks', 'ms, ragged', 'change'], [...rows, ...kernels]),
  ];
}

const first = (f: FirstSamples): string[] => [
  '',
  `First picture (T=${f.steps}, L=${f.blocks}), in seconds from the start of the process, median of ${f.runs}: ` +
    `${rate(f.cold)} without a shader cache, ${rate(f.warm)} with one; another one in the same process takes ${rate(f.again)}.`,
  ...(f.note ? [f.note] : []),
];

/** The report. */
export function formatModelBench(report: ModelBench & { readonly first?: FirstSamples }): string {
  const { adapter, results, ratios, training, breakdowns, missing } = report;
  const lines = [
    `${report.model}: ${report.config.depth} blocks of ${report.config.width} features; medians and quartiles of ${report.rounds} rounds`,
    `${adapter.name}, ${adapter.driver || 'driver unknown'} (${adapter.kind})`,
    `${report.machine}, ${report.date}`,
    ...(report.note ? [report.note] : []),
    '',
    ...table(['what', 'batch', 'weights', 'ms (quartiles)', 'GFLOP/s', 'dispatches'], results.map(resultRow)),
    '',
    ...table(
      ['ratio of times', 'median (quartiles)', 'goal'],
      ratios.map((r) => [r.name, quartiles(r.ratio), verdict(r)]),
    ),
  ];
  if (training.length > 0) {
    lines.push(
      '',
      'Training steps, with all blocks for every sample and with every allowed number equally often (ragged):',
      '',
      ...table(
        [
          'batch',
          'ms, all blocks',
          'ms, ragged',
          'ratio',
          'time saved',
          'block work skipped',
          'arithmetic',
          'dispatches',
        ],
        training.map(trainingRow),
      ),
      ...savings(training.at(-1)!),
    );
  }
  for (const b of breakdowns) lines.push(...breakdown(b));
  if (report.first) lines.push(...first(report.first));
  for (const { what, why } of missing) lines.push('', `Not measured: ${what}: ${why}.`);
  return lines.join('\n');
}
