/** Predicted steps by several processes as a document, as tables and as plots. Links by name, with their figures. */
import { ConfigError } from '../engine/errors.ts';
import { table } from '../formats/markdown.ts';
import { linePlot } from '../pictures/line-plot.ts';
import { milliseconds } from './markdown.ts';
import { type Algorithm, type Link, predict, type StepParts, type StepTime } from './step-time.ts';

/** Figures that links of these kinds are usually given: what one message has to itself, not what a busy network leaves of it. */
export const LINKS = {
  '1gbe': { title: '1 GbE', latency: 50e-6, bandwidth: 0.125e9 },
  '10gbe': { title: '10 GbE', latency: 50e-6, bandwidth: 1.25e9 },
  '25gbe': { title: '25 GbE', latency: 30e-6, bandwidth: 3.125e9 },
  '100gbe': { title: '100 GbE', latency: 20e-6, bandwidth: 12.5e9 },
  hdr: { title: 'InfiniBand HDR', latency: 2e-6, bandwidth: 25e9 },
} as const;

/** A link, and what plots call it. */
export interface NamedLink extends Link {
  readonly title: string;
}

/** `10 GbE: 1.25 GB/s, 50 us`. */
export const describeLink = ({ title, latency, bandwidth }: NamedLink): string =>
  `${title}: ${short(bandwidth / 1e9)} GB/s, ${short(latency * 1e6)} us`;

/** Three digits, without an exponent. */
const short = (value: number): string => String(Number(value.toPrecision(3)));

/** @throws ConfigError naming the links that are known */
export function namedLink(name: string): NamedLink {
  const known = Object.entries(LINKS);
  const found = known.find(([key]) => key === name);
  if (found) return found[1];
  throw new ConfigError(`link '${name}' is unknown`, {
    hint: `there are ${known.map(([key, link]) => `${key} (${describeLink(link)})`).join('; ')}; others with --latency and --bandwidth`,
  });
}

/** What is predicted, and from what. */
export interface Prediction {
  readonly model: string;
  /** Where the time of a rank by itself comes from. */
  readonly from: string;
  readonly parts: StepParts;
  readonly algorithm: Algorithm;
  /** Rows of each rank where the batch grows with them; all rows where it does not. */
  readonly rows: number;
  readonly batch: number;
  readonly links: readonly {
    readonly link: NamedLink;
    readonly weak: readonly StepTime[];
    readonly strong: readonly StepTime[];
  }[];
}

/** Predicts both kinds of scaling over every link. */
export function predictAll(
  of: Omit<Prediction, 'links'>,
  links: readonly NamedLink[],
  ranks: readonly number[],
): Prediction {
  const { parts, algorithm, rows, batch } = of;
  return {
    ...of,
    links: links.map((link) => ({
      link,
      weak: predict(parts, { rows }, ranks, link, algorithm),
      strong: predict(parts, { batch }, ranks, link, algorithm),
    })),
  };
}

const HEAD = ['ranks', 'rows each', 'step, ms', 'computing', 'sums', 'transfers', 'hidden', 'samples/s', 'efficiency'];

const cells = (step: StepTime): string[] => [
  ...[`${step.ranks}`, `${step.rows}`],
  ...[step.seconds, step.computing, step.sums, step.transfers, step.hidden].map(milliseconds),
  ...[short(step.samplesPerSecond), step.efficiency.toFixed(2)],
];

/** The prediction as Markdown: what it is made of, then a table for each link and kind of scaling. */
export function formatPrediction({ model, from, parts, algorithm, rows, batch, links }: Prediction): string {
  const { fixed, perRow, backward, update, bytes, transfer, overlap } = parts;
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  return [
    `${model}: ${milliseconds(fixed)} ms a step and ${milliseconds(perRow)} ms a row (${from}); backward pass ${percent(backward)}, update ${percent(update)}`,
    `gradients: ${short(bytes / 1e6)} MB, ${short(transfer / 1e9)} GB/s to the host and back; sums: ${algorithm}, in messages of 4 MiB; ${overlap ? 'beside the backward pass' : 'after the backward pass, as processors compute that too'}`,
    ...links.flatMap(({ link, weak, strong }) => [
      '',
      `${describeLink(link)}; ${rows} rows for each rank`,
      '',
      ...table([HEAD, ...weak.map(cells)]),
      '',
      `${describeLink(link)}; a batch of ${batch} for all`,
      '',
      ...table([HEAD, ...strong.map(cells)]),
    ]),
  ].join('\n');
}

/** Efficiency over ranks, a stroke for each link. */
export function plotPrediction({ model, algorithm, rows, batch, links }: Prediction, kind: 'weak' | 'strong'): string {
  const how = kind === 'weak' ? `${rows} rows for each rank` : `a batch of ${batch} for all`;
  return linePlot({
    title: `${model}, ${how}: predicted efficiency (sums: ${algorithm})`,
    x: { label: 'ranks', log: true },
    y: { label: 'samples a second, of n times those of one rank' },
    series: links.map(({ link, [kind]: steps }) => ({
      name: describeLink(link),
      x: steps.map(({ ranks }) => ranks),
      y: steps.map(({ efficiency }) => efficiency),
    })),
  });
}
