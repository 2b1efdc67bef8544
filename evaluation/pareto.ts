/** What to do with a budget: the cells of an evaluation that no other one beats at the same cost, as data, as a table and as pictures. */
import { linePlot, type Series } from '../pictures/line-plot.ts';
import { barOf } from './measured.ts';
import { behindBest, pairedDifference } from './paired.ts';
import {
  type Cell,
  compareCells,
  describeDepth,
  describeLevel,
  describeMeasured,
  type EvaluationResults,
  keyOf,
  type Pareto,
  type ParetoPoint,
} from './results.ts';

/** What cells may cost: seconds for a sample, or the peak of GPU bytes. */
export type Cost = keyof Pareto;

const costOf: Readonly<Record<Cost, (cell: Cell) => number>> = {
  seconds: ({ secondsPerSample }) => secondsPerSample,
  bytes: ({ peakBytes }) => peakBytes,
};

/** The cells of which none is both cheaper, or as cheap, and better; by ascending cost, and so by descending distance. */
function front(cells: readonly Cell[], cost: Cost): ParetoPoint[] {
  const sorted = [...cells].sort((a, b) => costOf[cost](a) - costOf[cost](b) || a.fd.value - b.fd.value);
  const kept: Cell[] = [];
  for (const cell of sorted) if (kept.every(({ fd }) => cell.fd.value < fd.value)) kept.push(cell);
  return kept.map((cell, i) => {
    const gain = i === 0 ? undefined : pairedDifference(kept[i - 1]!, cell);
    return { ...keyOf(cell), cost: costOf[cost](cell), fd: cell.fd, ...(gain && { gain }) };
  });
}

/** Both fronts. */
export const paretoOf = (cells: readonly Cell[]): Pareto => ({
  seconds: front(cells, 'seconds'),
  bytes: front(cells, 'bytes'),
});

/** What results say of their cells: each in its place, when that was, the fronts, and how far they are behind the best. */
export function comparedCells(cells: readonly Cell[]): Pick<EvaluationResults, 'cells' | 'date' | 'pareto' | 'behind'> {
  const behind = behindBest(cells);
  return {
    cells: [...cells].sort(compareCells),
    date: new Date().toISOString(),
    pareto: paretoOf(cells),
    ...(behind && { behind }),
  };
}

/** "T=4 L=8", "heun T=4 L=4@0,12@0.5", "tsit5 1e-2 L=8 w=2": short, as a picture has room for. */
const named = (cell: ParetoPoint): string =>
  [
    cell.solver === 'euler' ? '' : cell.solver,
    cell.steps === null ? `tol=${cell.tolerance}` : `T=${cell.steps}`,
    `L=${describeDepth(cell)}`,
    cell.guidance === 1 ? '' : `w=${cell.guidance}`,
    describeLevel(cell).trim(),
  ]
    .filter(Boolean)
    .join(' ');

/** A front as a table with a head. */
export const paretoRows = (points: readonly ParetoPoint[], cost: Cost): string[][] => [
  [cost === 'seconds' ? 's/sample' : 'peak MB', 'best', 'FD', 'better by'],
  ...points.map((point) => [
    cost === 'seconds' ? point.cost.toPrecision(3) : (point.cost / 1e6).toFixed(1),
    named(point),
    describeMeasured(point.fd),
    point.gain ? describeMeasured(point.gain) : '',
  ]),
];

const kindOf = (cell: Cell): string => {
  const { solver, along, refresh } = cell;
  const kind = along ? `${solver}, blocks by time` : refresh ? 'euler, late blocks refreshed' : solver;
  return `${kind}${describeLevel(cell)}`;
};

/** All cells as points with their intervals, a colour for each kind, and the front as a labelled line. SVG. */
export function paretoPlot({ cells, pareto = paretoOf(cells), provenance }: EvaluationResults, cost: Cost): string {
  const scale = cost === 'seconds' ? 1 : 1e-6;
  const kinds = new Map<string, Cell[]>();
  for (const cell of cells) kinds.set(kindOf(cell), [...(kinds.get(kindOf(cell)) ?? []), cell]);
  const points: Series[] = [...kinds].map(([name, own]) => ({
    ...{ name, x: [], y: [] },
    whiskers: own.map((cell) => ({ x: costOf[cost](cell) * scale, ...barOf(cell.fd) })),
  }));
  const best: Series = {
    name: 'best for its cost',
    x: pareto[cost].map((point) => point.cost * scale),
    y: pareto[cost].map(({ fd }) => fd.value),
    labels: pareto[cost].map(named),
  };
  return linePlot({
    title: `What a budget buys: ${cost === 'seconds' ? 'time' : 'GPU memory'}`,
    x:
      cost === 'seconds'
        ? { label: 'time per sample', unit: 's', log: true }
        : { label: 'peak of GPU buffers', unit: 'MB', log: true },
    y: { label: `Fréchet distance, ${provenance.features.name}`, log: true },
    series: [...points, best],
  });
}
