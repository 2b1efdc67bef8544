/** What steps and blocks are worth: the evaluation that a model carries, time against distance, memory as the size of a point. */
import { describeMeasured } from '../evaluation/results.ts';
import type { StoredCell, StoredEvaluation } from '../evaluation/stored.ts';
import { readable } from '../pictures/line-plot.ts';
import { COLOURS, logAxis } from '../pictures/roofline-plot.ts';
import { byId, make } from './dom.ts';
import type { Cell } from './map.ts';
import { bytes, time } from './words.ts';

/** Pixels of the plot as wide and as narrow screens see it. */
const SIZES = [
  ['wide', 860, 400],
  ['narrow', 350, 330],
] as const;
/** Radius of the point of most memory; areas are in proportion. */
const RADIUS = 11;

export interface Scatter {
  /** Shows a model's evaluation; hides the section where there is none. */
  show(evaluation: StoredEvaluation | undefined): void;
  /** Marks what is chosen, and says what it is worth. */
  mark(cell: Cell, guidance: number): void;
}

export function createScatter(onChoose: (cell: Cell) => void): Scatter {
  const section = byId('scatter-part', 'section');
  const plots = byId('scatter', 'div');
  const now = byId('scatter-now', 'p');
  let evaluation: StoredEvaluation | undefined;
  return {
    show(next) {
      evaluation = next;
      section.hidden = !next;
      if (!next) return;
      plots.replaceChildren(...SIZES.map(([name, width, height]) => plot(next, name, width, height, onChoose)));
      byId('scatter-rows', 'tbody').replaceChildren(...next.cells.map(row));
      byId('scatter-of', 'p').textContent =
        `Evaluated on ${next.date} with ${next.solver}, guidance ${next.guidance}, on ${next.adapter}.`;
    },
    mark({ steps, blocks }, guidance) {
      if (!evaluation) return;
      for (const point of plots.querySelectorAll<SVGElement>('[data-steps]')) {
        const { dataset } = point;
        point.classList.toggle('chosen', dataset.steps === `${steps}` && dataset.blocks === `${blocks}`);
      }
      now.textContent = sentence(evaluation, { steps, blocks }, guidance);
    },
  };
}

/** What is chosen, what it is worth, and what the figures are of. */
function sentence({ cells, floor, count, features, guidance }: StoredEvaluation, at: Cell, chosen: number) {
  const cell = cells.find(({ steps, blocks }) => steps === at.steps && blocks === at.blocks);
  const worth = cell
    ? `T ${at.steps}, L ${at.blocks}: pictures at a distance of ${describeMeasured(cell.fd)} from real ones, ${time(cell.secondsPerSample * 1000)} each.`
    : `T ${at.steps}, L ${at.blocks} has not been evaluated; the points have.`;
  const real = floor ? ` Real pictures in their place: ${describeMeasured(floor)}.` : '';
  const other = chosen === guidance ? '' : `, at guidance ${guidance}`;
  return `${worth}${real} Fr\u00e9chet distance, ${features} features, ${count.toLocaleString('en')} samples${other}; time and memory as where it was evaluated: here, their ratios hold.`;
}

function row({ steps, blocks, fd, secondsPerSample, peakBytes }: StoredCell): HTMLTableRowElement {
  const interval = make('td', { textContent: `${readable(fd.low)} to ${readable(fd.high)}`, className: 'wide' });
  return make(
    'tr',
    {},
    make('th', { scope: 'row', textContent: `${steps}` }),
    ...[`${blocks}`, readable(fd.value)].map((textContent) => make('td', { textContent })),
    interval,
    ...[time(secondsPerSample * 1000), bytes(peakBytes)].map((textContent) => make('td', { textContent })),
  );
}

function svg(tag: string, attributes: Readonly<Record<string, string | number>>, ...children: (Node | string)[]) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, typeof value === 'number' ? `${Number(value.toFixed(1))}` : value);
  }
  element.append(...children);
  return element;
}

/** Time from left to right, distance upwards, a line for each number of blocks. */
function plot(
  { cells }: StoredEvaluation,
  name: string,
  width: number,
  height: number,
  onChoose: (cell: Cell) => void,
): SVGElement {
  const frame = { left: 46, right: width - 12, top: 12, bottom: height - 44 };
  const milliseconds = ({ secondsPerSample }: StoredCell) => secondsPerSample * 1000;
  const x = logAxis(cells.map(milliseconds), frame.left, frame.right, 1.35);
  const distances = cells.flatMap(({ fd }) => [fd.low, fd.high]).filter((value) => value > 0);
  const y = logAxis(distances.length > 0 ? distances : [1], frame.bottom, frame.top, 1.06);
  /** Estimates at or below 0, which no logarithm has, stand on the lower edge. */
  const heightOf = (distance: number) => (distance > 0 ? y.at(distance) : frame.bottom);
  const most = Math.max(...cells.map(({ peakBytes }) => peakBytes));

  const grid = [
    ...x.ticks.map((tick) => [x.at(tick), frame.top, x.at(tick), frame.bottom] as const),
    ...y.ticks.map((tick) => [frame.left, y.at(tick), frame.right, y.at(tick)] as const),
  ].map(([x1, y1, x2, y2]) => svg('line', { x1, y1, x2, y2, class: 'grid' }));
  const scale = [
    ...x.ticks.map((tick) =>
      svg(
        'text',
        { x: x.at(tick), y: frame.bottom + 16, 'text-anchor': 'middle' },
        tick < 1000 ? `${readable(tick)} ms` : `${readable(tick / 1000)} s`,
      ),
    ),
    ...y.ticks.map((tick) =>
      svg('text', { x: frame.left - 6, y: y.at(tick) + 4, 'text-anchor': 'end' }, readable(tick)),
    ),
    svg(
      'text',
      { x: (frame.left + frame.right) / 2, y: height - 6, 'text-anchor': 'middle' },
      'time of a picture; a point\u2019s area is its GPU memory',
    ),
    svg('text', { x: frame.left + 6, y: frame.bottom - 8 }, '\u2193 closer to real pictures'),
  ];

  const lengths = [...new Set(cells.map(({ blocks }) => blocks))].sort((a, b) => a - b);
  const lines = lengths.map((blocks, k) => {
    const colour = COLOURS[k % COLOURS.length]!;
    const own = cells.filter((cell) => cell.blocks === blocks).sort((a, b) => a.steps - b.steps);
    const places = own.map((cell) => [x.at(milliseconds(cell)), heightOf(cell.fd.value)] as const);
    const path = svg('polyline', { points: places.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(' ') });
    const points = own.map((cell, i) => {
      const [cx, cy] = places[i]!;
      const said = `T ${cell.steps}, L ${blocks}: distance ${describeMeasured(cell.fd)}, ${time(milliseconds(cell))}, ${bytes(cell.peakBytes)}`;
      const point = svg(
        'g',
        { class: 'point', 'data-steps': `${cell.steps}`, 'data-blocks': `${blocks}` },
        svg('title', {}, said),
        svg('line', { x1: cx, x2: cx, y1: heightOf(cell.fd.high), y2: heightOf(cell.fd.low) }),
        svg('circle', { cx, cy, r: RADIUS * Math.sqrt(cell.peakBytes / most), fill: colour }),
        svg('text', { x: cx, y: cy + 3.5, 'text-anchor': 'middle' }, `${cell.steps}`),
      );
      point.addEventListener('click', () => onChoose({ steps: cell.steps, blocks }));
      return point;
    });
    // Longer and better goes down to the right, so that the corner above is free.
    const at = { cx: frame.right - 62, cy: frame.top + 14 + 18 * k };
    const name = svg('text', { x: at.cx + 12, y: at.cy + 4, class: 'name' }, `L ${blocks}`);
    const key = svg('circle', { ...at, r: 5, fill: colour });
    return svg('g', { stroke: colour, class: 'length' }, path, ...points, key, name);
  });
  const what =
    'Distance from real pictures by time, for each number of steps (in the points) and of blocks (by colour)';
  return svg(
    'svg',
    { viewBox: `0 0 ${width} ${height}`, class: name, role: 'img', 'aria-label': what },
    ...grid,
    ...scale,
    ...lines,
  ) as SVGElement;
}
