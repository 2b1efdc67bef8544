/** A benchmark of kernels as one HTML document: no script, nothing from elsewhere, dark where the reader wants it dark. */
import { escapeXml } from '../pictures/line-plot.ts';
import { rooflinePlot } from '../pictures/roofline-plot.ts';
import { decoderTotals } from './decoder-layers.ts';
import type { KernelResult } from './kernels.bench.ts';
import {
  comparisonCells,
  decoderCells,
  describeChecks,
  describeComparison,
  describeDecoder,
  describeRun,
  describeSubject,
  milliseconds,
  passName,
  rate,
  share,
  sizes,
} from './markdown.ts';
import type { BenchReport, Comparisons, SubjectReport } from './report.ts';
import { rooflineChart } from './roofline-chart.ts';

const STYLE = `
:root { color-scheme: light dark; --ink: #18181b; --paper: #fff; --line: #d4d4d8; --good: #00664a; --bad: #b03a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e7; --paper: #16181d; --line: #3f3f46; --good: #4fd1a5; --bad: #ff9d66 } }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: var(--paper); font: 15px/1.5 Helvetica, Arial, sans-serif }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
p, li, code { overflow-wrap: anywhere }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right }
th { position: sticky; top: 0; background: var(--paper) }
th:nth-child(-n+2), td:nth-child(-n+2), .word { text-align: left }
.faster { color: var(--good) } .slower { color: var(--bad) }
svg { max-width: 100%; height: auto }
.narrow { display: none }
@media (max-width: 700px) { .wide { display: none } .narrow { display: block } td:nth-child(2) { white-space: normal; min-width: 9rem } }
`;

/** Plots and tables of a report. @returns the text of an HTML document. */
export function formatBenchHtml(report: BenchReport): string {
  const names = report.subjects.map(({ name }) => name).join(' and ');
  const title = `odelt: kernels on ${names}`;
  const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
  const parts = [
    `<h1>${escapeXml(title)}</h1>`,
    paragraph(describeRun(report)),
    ...(report.note ? [paragraph(report.note)] : []),
    ...(report.command ? [`<p>Made by <code>${escapeXml(report.command)}</code></p>`] : []),
    ...report.subjects.map((subject) => subjectSection(subject, report.kernels)),
    ...(report.against ? [comparisonSection(report.against)] : []),
    '<h2>Results</h2>',
    paragraph(`Medians and quartiles. ${describeChecks(report.kernels)}`),
    resultsTable(report),
    ...decoderTotals(report.kernels).flatMap((total) => {
      const [head, ...rows] = decoderCells(total);
      const about = paragraph(describeDecoder(total, report.subjects.length > 1));
      return [
        about,
        table(
          `Layers of ${total.decoder}'s decoder`,
          head!,
          rows.map((cells) => ({ cells })),
        ),
      ];
    }),
  ];
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${escapeXml(title)}</title>`,
    `<style>${STYLE}</style>`,
    '</head>',
    '<body>',
    ...parts,
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

const paragraph = (text: string): string => `<p>${escapeXml(text)}</p>`;

function subjectSection(subject: SubjectReport, kernels: readonly KernelResult[]): string {
  const { name } = subject;
  const chart = rooflineChart(subject, kernels);
  const without = kernels.filter((r) => r.subject === name).length - chart.points.length;
  const facts = describeSubject(subject).map((line) => `<li>${escapeXml(line)}</li>`);
  return [
    `<h2>Roofline of ${escapeXml(name)}</h2>`,
    `<ul>${facts.join('')}</ul>`,
    `<div class="wide">${rooflinePlot(chart)}</div>`,
    `<div class="narrow">${rooflinePlot({ ...chart, width: 358, height: 340 })}</div>`,
    ...(without > 0
      ? [paragraph(`${without} passes that compute nothing, or in no time above the noise, have no place in the plot.`)]
      : []),
  ].join('\n');
}

/** Cells are text; those of `words` are aligned left. The rows' classes may name verdicts. */
function table(
  label: string,
  head: readonly string[],
  rows: readonly { cells: readonly string[]; verdict?: string }[],
): string {
  const row = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeXml(cell)}</${tag}>`).join('')}</tr>`;
  const body = rows.map(({ cells, verdict }) => {
    const text = row(cells, 'td');
    return verdict === undefined ? text : text.replace('<tr>', `<tr class="${verdict.replace(' ', '-')}">`);
  });
  return [
    `<div class="scroll" role="region" aria-label="${escapeXml(label)}" tabindex="0"><table>`,
    `<thead>${row(head, 'th')}</thead>`,
    `<tbody>\n${body.join('\n')}\n</tbody>`,
    '</table></div>',
  ].join('\n');
}

function resultsTable({ kernels, subjects }: BenchReport): string {
  const several = subjects.length > 1;
  const on = several ? ['on'] : [];
  const head = [
    'kernel',
    'case',
    ...on,
    'pass',
    'ms',
    'quartiles',
    'GFLOP/s',
    'GB/s',
    'of the ceiling',
    'dispatches',
    'error',
  ];
  const rows = kernels.map((r) => ({
    cells: [
      r.kernel,
      sizes(r.case),
      ...(several ? [r.subject] : []),
      passName(r.pass),
      milliseconds(r.timing.median),
      `${milliseconds(r.timing.q1)} to ${milliseconds(r.timing.q3)}`,
      rate(r.gflops),
      rate(r.gbytes),
      share(r),
      String(r.dispatches),
      r.pass === 'forward' ? `${r.error.toExponential(1)}${r.checked < r.outputs ? '*' : ''}` : '',
    ],
  }));
  return table('results', head, rows);
}

function comparisonSection(against: Comparisons): string {
  const { comparisons, warnings, leftOut } = against;
  const [head, ...cells] = comparisonCells(against) as [string[], ...string[][]];
  const rows = cells.map((row, i) => ({ cells: row, verdict: comparisons[i]!.verdict }));
  const notes = [...warnings.map((w) => `Warning: ${w}`), ...leftOut.map((what) => `Left out: ${what}`)];
  return [
    `<h2>Against ${escapeXml(against.base)}</h2>`,
    paragraph(describeComparison(against)),
    ...(notes.length > 0 ? [`<ul>${notes.map((note) => `<li>${escapeXml(note)}</li>`).join('')}</ul>`] : []),
    table('comparison', head, rows),
  ].join('\n');
}
