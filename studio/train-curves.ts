/** The three losses of a run as lines over its updates, and what they were at last. */
import { lossCurves } from '../training/metrics.ts';
import type { TrainEvent } from '../training/trainer.ts';
import { byId, make } from './dom.ts';

const CURVES = [
  { name: 'flow', text: 'Flow', help: 'the way from noise to data' },
  { name: 'time', text: 'Time consistency', help: 'one step as two of half its size' },
  { name: 'length', text: 'Length consistency', help: 'few blocks as many' },
] as const;

/** Updates that the numbers are a mean over, and points of a line, at most. */
const LAST = 20;
const POINTS = 150;
/** Pixels of the drawing, which is as wide as its place. */
const [HEIGHT, LEFT, BOTTOM] = [220, 52, 26];
/** Losses below are left out: a network that moves nothing yet agrees with itself. */
const LEAST = 1e-5;

const SVG = 'http://www.w3.org/2000/svg';
function svg(tag: string, attributes: Readonly<Record<string, string | number>>, text = ''): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, `${value}`);
  element.textContent = text;
  return element;
}

export interface Curves {
  /** @param steps all updates of the run. */
  show(updates: readonly TrainEvent[], steps: number): void;
}

export function createCurves(): Curves {
  const rows = CURVES.map(({ name, text, help }) => {
    const value = make('dd', { className: 'value', textContent: '\u2013' });
    value.dataset.loss = name;
    const term = make('dt', {}, make('span', { className: `train-line ${name}` }), text);
    return { name, value, row: make('div', {}, term, value, make('dd', { className: 'full', textContent: help })) };
  });
  byId('train-losses', 'dl').replaceChildren(...rows.map(({ row }) => row));
  const chart = byId('train-chart', 'div');
  let shown: { updates: readonly TrainEvent[]; steps: number } = { updates: [], steps: 1 };
  const draw = () => {
    const { updates, steps } = shown;
    chart.replaceChildren(...(updates.length === 0 ? [] : [drawn(updates, steps, Math.max(200, chart.clientWidth))]));
  };
  new ResizeObserver(draw).observe(chart);
  return {
    show(updates, steps) {
      shown = { updates, steps };
      const last = updates.slice(-LAST);
      for (const { name, value } of rows) {
        const some = last.map(({ losses }) => losses[name]).filter((loss) => loss !== undefined);
        const mean = some.reduce((sum, loss) => sum + loss, 0) / some.length;
        value.textContent = some.length === 0 ? '\u2013' : mean.toPrecision(3);
      }
      draw();
    },
  };
}

/** The drawing: losses by powers of ten. */
function drawn(updates: readonly TrainEvent[], steps: number, width: number): SVGElement {
  const mean = Math.max(1, Math.floor(updates.length / POINTS));
  const curves = lossCurves(updates, mean).map(({ name, x, y }) => ({
    name,
    points: x.map((step, i) => ({ step, power: Math.log10(y[i]!) })).filter(({ power }) => power >= Math.log10(LEAST)),
  }));
  const all = curves.flatMap(({ points }) => points.map(({ power }) => power));
  const [low, high] = [Math.floor(Math.min(-1, ...all)), Math.ceil(Math.max(0, ...all) + 1e-9)];
  const x = (step: number) => LEFT + ((width - LEFT) * step) / steps;
  const y = (power: number) => 8 + ((HEIGHT - BOTTOM - 8) * (high - power)) / Math.max(1, high - low);
  const root = svg('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    role: 'img',
    'aria-label': `Losses over ${updates.at(-1)!.step} of ${steps} updates`,
  });
  for (let power = low; power <= high; power++) {
    root.append(svg('line', { class: 'grid', x1: LEFT, x2: width, y1: y(power), y2: y(power) }));
    const label = power >= 0 ? `${10 ** power}` : (10 ** power).toFixed(-power);
    root.append(svg('text', { x: LEFT - 8, y: y(power) + 4, 'text-anchor': 'end' }, label));
  }
  for (const [step, anchor] of [
    [0, 'start'],
    [steps, 'end'],
  ] as const) {
    root.append(svg('text', { x: x(step), y: HEIGHT - 4, 'text-anchor': anchor }, `${step}`));
  }
  root.append(svg('text', { x: x(steps / 2), y: HEIGHT - 4, 'text-anchor': 'middle' }, 'updates'));
  for (const { name, points } of curves) {
    const text = points.map(({ step, power }) => `${x(step).toFixed(1)},${y(power).toFixed(1)}`).join(' ');
    root.append(svg('polyline', { class: name, points: text }));
  }
  return root;
}
