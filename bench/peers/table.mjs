/** From measured seconds to medians, ratios and the report. */
import { describe } from './workloads.mjs';

/** Quantile, interpolated. @param {readonly number[]} values */
export function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values) => quantile(values, 0.5);

/** How many times as long as `base` it took: the median of the rounds' ratios, since what slows a round slows all of it. */
export function ratio(base, seconds) {
  const rounds = Math.min(base.length, seconds.length);
  return median(Array.from({ length: rounds }, (_, r) => seconds[r] / base[r]));
}

export function milliseconds(seconds) {
  const ms = seconds * 1000;
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(3);
}

const BASE = 'odelt';

/** A peer's cell: its median and how many times odelt's time that is, or why there is none. */
export function cell(results, peer) {
  const result = results[peer];
  if (!result || result.status === 'cannot') return '-';
  if (result.status === 'wrong') return `wrong (${result.error.toExponential(0)})`;
  if (result.status === 'failed') return 'failed';
  const text = `${milliseconds(median(result.seconds))} ms`;
  const base = results[BASE];
  return peer === BASE || base?.status !== 'timed'
    ? text
    : `${text} (${ratio(base.seconds, result.seconds).toFixed(2)}x)`;
}

/** Rows of texts as a Markdown table that can be read in a terminal; the first row is the head. */
export function table(rows) {
  const widths = rows[0].map((_, c) => Math.max(...rows.map((row) => row[c].length)));
  const line = (row) => `| ${row.map((text, c) => text.padEnd(widths[c])).join(' | ')} |`;
  return [line(rows[0]), `|${widths.map((w) => '-'.repeat(w + 2)).join('|')}|`, ...rows.slice(1).map(line)].join('\n');
}

/** Peers that some workload was tried with, in the order of `order`. */
const peersOf = (report, order) => order.filter((peer) => report.workloads.some(({ results }) => peer in results));

/** The one table: a row for each workload, a column for each peer. */
export function overview(report, order) {
  const peers = peersOf(report, order);
  return table([
    ['workload', ...peers],
    ...report.workloads.map(({ name, results }) => [name, ...peers.map((peer) => cell(results, peer))]),
  ]);
}

/** Why cells of the table hold no time, one line each. */
export function reasons(report) {
  return report.workloads.flatMap(({ name, results }) =>
    Object.entries(results).flatMap(([peer, { status, reason, error, output }]) => {
      if (status === 'timed') return [];
      const why = status === 'wrong' ? `error ${error.toExponential(1)} in '${output}'` : reason;
      return [`${name}, ${peer}: ${status}, ${why.replaceAll('\n', ' ')}`];
    }),
  );
}

/** The whole report as Markdown. */
export function markdown(report, order) {
  const peers = peersOf(report, order);
  const versions = peers.map((peer) => {
    const found = report.workloads.map(({ results }) => results[peer]).findLast((result) => result?.version);
    return `${peer}: ${found ? `${found.version}, on ${found.adapter}` : 'not had'}`;
  });
  const details = report.workloads.flatMap(({ name, date, results }) =>
    peers.flatMap((peer) => {
      const r = results[peer];
      if (r?.status !== 'timed') return [];
      const [q1, q3] = [0.25, 0.75].map((q) => milliseconds(quantile(r.seconds, q)));
      const times = `${milliseconds(median(r.seconds))} (${q1} to ${q3})`;
      return [
        [
          name,
          peer,
          times,
          `${r.seconds.length} x ${r.repeats}`,
          r.error.toExponential(1),
          r.firstSeconds.toFixed(1),
          date,
        ],
      ];
    }),
  );
  const head = ['workload', 'peer', 'ms (quartiles)', 'rounds x repeats', 'error', 'first run s', 'date'];
  const list = (lines) => lines.map((line) => `- ${line}`).join('\n');
  return [
    `# Beside other WebGPU libraries, on ${report.adapter}`,
    `${report.machine}. In brackets: how many times odelt's time, the median of the rounds' ratios.`,
    overview(report, order),
    list(report.workloads.map(({ name, workload }) => `${name}: ${describe(workload)}`)),
    table([head, ...details]),
    list(versions),
    ...(reasons(report).length > 0 ? [`Without a time:\n\n${list(reasons(report))}`] : []),
  ].join('\n\n');
}

/** A report with a workload's results in the place of earlier ones; workloads in the order of `order`. */
export function withWorkload(report, entry, order) {
  const workloads = [...report.workloads.filter(({ name }) => name !== entry.name), entry];
  return { ...report, workloads: workloads.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name)) };
}
