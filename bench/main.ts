/** A benchmark run as a whole: subjects, kernels, replay, and the report as data and as Markdown. Runs in browsers as in Node. */
import { type AdapterDescription, describeAdapter } from '../engine/device.ts';
import { ConfigError } from '../engine/errors.ts';
import { contracts } from '../kernels/registry.ts';
import { benchKernels, type KernelBenchOptions, type KernelResult, type Subject } from './kernels.bench.ts';
import { benchReplay, type ReplayResult } from './replay.bench.ts';

/** A benchmark as data, for JSON. */
export interface BenchReport {
  readonly date: string;
  /** The runtime and machine, in words. */
  readonly machine: string;
  /** Whatever else the reader must know, such as that the machine was shared. */
  readonly note: string;
  readonly subjects: readonly { readonly name: string; readonly adapter: AdapterDescription }[];
  readonly kernels: readonly KernelResult[];
  readonly replay: readonly ({ readonly subject: string } & ReplayResult)[];
}

/** Which kernels a benchmark takes, and what its report is to say of the machine. */
export interface BenchOptions extends Omit<KernelBenchOptions, 'contracts'> {
  /** Only kernels whose name contains this. */
  readonly filter?: string;
  readonly machine?: string;
  readonly note?: string;
}

/**
 * Checks and times the registered kernels, and replay, on every subject.
 * @throws ConfigError when no kernel with bench cases matches the filter; OdeltError for a kernel that computes wrong.
 */
export async function runBench(subjects: readonly Subject[], options: BenchOptions): Promise<BenchReport> {
  const { filter = '', machine = 'unknown', note = '' } = options;
  const benched = contracts.filter((c) => c.bench);
  const chosen = benched.filter((c) => c.name.includes(filter));
  if (chosen.length === 0) {
    throw new ConfigError(`no kernel that is timed matches '${filter}'`, {
      hint: `there are ${benched.map((c) => c.name).join(', ')}`,
    });
  }
  const kernels = await benchKernels(subjects, { ...options, contracts: chosen });
  const replay: ({ subject: string } & ReplayResult)[] = [];
  if (filter === '') {
    for (const { name, engine } of subjects) {
      options.onCase?.(`replay on ${name}`);
      replay.push({ subject: name, ...(await benchReplay(engine)) });
    }
  }
  const described = subjects.map(({ name, engine }) => ({ name, adapter: describeAdapter(engine.device) }));
  return { date: new Date().toISOString().slice(0, 10), machine, note, subjects: described, kernels, replay };
}

const milliseconds = (seconds: number): string => {
  const ms = seconds * 1000;
  return ms >= 100 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(4);
};
const rate = (value: number | null): string => (value === null ? '' : value.toPrecision(3));
const sizes = (k: object): string =>
  Object.entries(k)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('+') : value}`)
    .join(', ');

/** The report as Markdown that is readable in a terminal, too. */
export function formatBench(report: BenchReport): string {
  const several = report.subjects.length > 1;
  const lines = report.subjects.map(
    ({ name, adapter }) =>
      `${several ? `${name}: ` : ''}${adapter.name}, ${adapter.driver || 'driver unknown'} (${adapter.kind})`,
  );
  lines.push(`${report.machine}, ${report.date}`, ...(report.note ? [report.note] : []), '');
  const head = [
    'kernel',
    'case',
    ...(several ? ['on'] : []),
    'pass',
    'ms (quartiles)',
    'GFLOP/s',
    'GB/s',
    'dispatches',
    'cold ms / pipelines',
    'error',
  ];
  const rows = report.kernels.map((r) => [
    r.kernel,
    sizes(r.case),
    ...(several ? [r.subject] : []),
    r.pass === 'forward' ? 'fwd' : 'fwd + bwd',
    `${milliseconds(r.timing.median)} (${milliseconds(r.timing.q1)} to ${milliseconds(r.timing.q3)})`,
    rate(r.gflops),
    rate(r.gbytes),
    String(r.dispatches),
    r.pipelines === 0 ? '' : `${(r.coldSeconds * 1000).toFixed(0)} / ${r.pipelines}`,
    r.error.toExponential(1),
  ]);
  lines.push(...table([head, ...rows]));
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

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, c) => Math.max(...rows.map((row) => row[c]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((text, c) => text.padEnd(widths[c]!)).join(' | ')} |`;
  return [line(rows[0]!), `|${widths.map((w) => '-'.repeat(w + 2)).join('|')}|`, ...rows.slice(1).map(line)];
}
