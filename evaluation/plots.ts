/** An evaluation as pictures: quality against seconds and bytes, and over steps and blocks. */
import { heatMap } from '../pictures/heat-map.ts';
import { linePlot, type Series } from '../pictures/line-plot.ts';
import { paretoPlot } from './pareto.ts';
import { type Cell, describeLevel, describeMeasured, type EvaluationResults, sameCell } from './results.ts';

const byNumber = (a: number, b: number): number => a - b;
/** How finely a cell was solved: its steps, or an adaptive solver's tolerance. */
const fineness = ({ steps, tolerance }: Cell): number => steps ?? tolerance!;
const distinct = (values: readonly number[]): number[] => [...new Set(values)].sort(byNumber);

/**
 * SVG documents by their file names: for each solver, level and guidance weight the Fréchet distance against seconds (a line for each number of
 * blocks), against GPU bytes (a line for each number of steps, as those of one number of blocks take nearly the same bytes), and as a table;
 * for all cells together what the best for each cost is.
 */
export function evaluationPlots(results: EvaluationResults): Map<string, string> {
  const plots = new Map<string, string>();
  const plain = results.cells.filter(({ along, refresh }) => !along && !refresh);
  const named = (cell: Cell) => `${cell.solver}${describeLevel(cell).replaceAll(' ', '-')}-w${cell.guidance}`;
  const ways = new Map(plain.map((cell) => [named(cell), cell]));
  for (const [name, way] of ways) {
    const cells = plain.filter((cell) => named(cell) === name);
    const how = `${way.solver}${describeLevel(way)}, guidance ${way.guidance}`;
    const seconds = (cell: Cell) => cell.secondsPerSample;
    const adaptive = cells.some(({ steps }) => steps === null);
    const megabytes = (cell: Cell) => cell.peakBytes / 1e6;
    plots.set(
      `fd-seconds-${name}.svg`,
      linePlot({
        title: `Fréchet distance against time: ${how}`,
        x: { label: 'time per sample', unit: 's', log: true },
        y: { label: `Fréchet distance, ${results.provenance.features.name}`, log: true },
        series: lines(results, cells, ({ blocks }) => blocks, 'L', seconds),
      }),
    );
    plots.set(
      `fd-bytes-${name}.svg`,
      linePlot({
        title: `Fréchet distance against GPU memory: ${how}`,
        x: { label: 'peak of GPU buffers', unit: 'MB' },
        y: { label: `Fréchet distance, ${results.provenance.features.name}`, log: true },
        series: lines(results, cells, fineness, adaptive ? 'tolerance' : 'T', megabytes),
      }),
    );
    plots.set(`fd-table-${name}.svg`, table(cells, how, results.behind));
  }
  for (const cost of ['seconds', 'bytes'] as const) plots.set(`pareto-${cost}.svg`, paretoPlot(results, cost));
  return plots;
}

/** A line for each value of `of`, in order of x, and one for the floor. */
function lines(
  { floor }: EvaluationResults,
  cells: readonly Cell[],
  of: (cell: Cell) => number,
  letter: string,
  x: (cell: Cell) => number,
): Series[] {
  const own = distinct(cells.map(of)).map((value) => {
    const points = cells.filter((cell) => of(cell) === value).sort((a, b) => x(a) - x(b));
    return { name: `${letter}=${value}`, x: points.map(x), y: points.map(({ fd }) => fd.value) };
  });
  const ends = [Math.min(...cells.map(x)), Math.max(...cells.map(x))];
  if (!floor) return own;
  return [...own, { name: 'real pictures', x: ends, y: [floor.fd.value, floor.fd.value] }];
}

/** Each cell has its distance and, below, how far it is behind the best of all. */
function table(cells: readonly Cell[], how: string, behind: EvaluationResults['behind']): string {
  const rows = distinct(cells.map(({ blocks }) => blocks));
  const columns = distinct(cells.map(fineness));
  const adaptive = cells.some(({ steps }) => steps === null);
  if (adaptive) columns.reverse();
  const at = (r: number, c: number) => cells.find((cell) => cell.blocks === rows[r] && fineness(cell) === columns[c]);
  return heatMap({
    title: `Fréchet distance: ${how}`,
    ...{ row: 'blocks L', column: adaptive ? 'tolerance' : 'steps T' },
    rowLabels: rows.map(String),
    columnLabels: columns.map(String),
    values: rows.map((_, r) => columns.map((_, c) => at(r, c)?.fd.value ?? Number.NaN)),
    text: (r, c) => {
      const cell = at(r, c)!;
      const apart = behind?.cells.find((other) => sameCell(other, cell))?.behind;
      const distance = describeMeasured(cell.fd).replace(' (', '\n(').split('\n');
      return apart ? [...distance, `+${describeMeasured(apart)}`] : distance;
    },
  });
}
