/** Draws line plots (loss curves and the like) as SVG text, without any library. */
import { UsageError } from '../engine/errors.ts';

export interface Axis {
  /** Name of the quantity. */
  label: string;
  /** Unit, shown in brackets after the label. */
  unit?: string;
  /** Logarithmic; points that are not positive are left out. */
  log?: boolean;
}

/** A value and how far it may be off, drawn as a dot on a bar. */
export interface Whisker {
  readonly x: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface Series {
  name: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  /** Drawn beside the line, in its colour. */
  whiskers?: readonly Whisker[];
  /** Text at each point, where there is room beside the others. */
  labels?: readonly string[];
}

export interface LinePlot {
  title: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
  /** Pixels. Default 800 x 480. */
  width?: number;
  height?: number;
}

/** Okabe and Ito's palette, which colour-blind readers can tell apart (its yellow left out: too pale on white). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000'];
const FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"';

/** Text as the content of an XML element or attribute. */
export const escapeXml = (text: string): string =>
  text.replace(/[&<>"]/g, (mark) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[mark]!);

/** 1200000 -> 1.2M, 2500 -> 2,500, 0.00012 -> 1.2e-4: few characters, no rounding noise. */
export function readable(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 1e9 || size < 1e-3)
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
  if (size >= 1000) return Number(value.toPrecision(6)).toLocaleString('en-US');
  return String(Number(value.toPrecision(4)));
}

/** Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `wanted` of them. */
export function linearTicks(low: number, high: number, wanted = 6): number[] {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough * 0.999)!;
  const ticks: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++)
    ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}

/** Powers of ten inside [low, high], thinned to at most ten; with 2 and 5 times them, or linear ones, if that gives few. */
export function logTicks(low: number, high: number): number[] {
  const inside = (factors: readonly number[]) => {
    const ticks: number[] = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const factor of factors) ticks.push(Number((factor * 10 ** e).toPrecision(12)));
    }
    return ticks.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  };
  const decades = inside([1]);
  if (decades.length >= 4) {
    const every = Math.ceil(decades.length / 10);
    return decades.filter((_, k) => k % every === 0);
  }
  const finer = inside([1, 2, 5]);
  return finer.length >= 3 ? finer : linearTicks(low, high, 5);
}

interface Scale {
  ticks: number[];
  /** Value to pixel; NaN for what the axis cannot show. */
  at: (value: number) => number;
}

/** An axis over the values that it can show, from pixel `from` to pixel `to`. */
function scaleOf(values: readonly number[], { log = false }: Axis, from: number, to: number, margin: number): Scale {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = log ? [1, 10] : [0, 1];
  const forward = (value: number) => (log ? (value > 0 ? Math.log10(value) : Number.NaN) : value);
  const backward = (value: number) => (log ? 10 ** value : value);
  let [a, b] = [forward(low), forward(high)];
  if (a === b) {
    const half = log ? 0.5 : Math.abs(a) * 0.1 || 0.5;
    [a, b] = [a - half, b + half];
  }
  const extra = (b - a) * margin;
  [a, b] = [a - extra, b + extra];
  return {
    ticks: (log ? logTicks : linearTicks)(backward(a), backward(b)),
    at: (value) => (Number.isFinite(value) ? from + ((forward(value) - a) / (b - a)) * (to - from) : Number.NaN),
  };
}

/** In pixels; NaN where the plot cannot show it. */
type Point = readonly [x: number, y: number];

/**
 * Path data through points in pixels, broken where one cannot be shown. Where many points share a pixel column only the
 * first, lowest, highest and last are kept: the picture is the same and the file stays small.
 */
function pathOf(points: readonly Point[]): string {
  const parts: string[] = [];
  let pen = 'M';
  let column: Point[] = [];
  const flush = () => {
    const ys = column.map(([, y]) => y);
    const keep = new Set([0, ys.indexOf(Math.min(...ys)), ys.indexOf(Math.max(...ys)), ys.length - 1]);
    column.forEach(([x, y], k) => {
      if (!keep.has(k)) return;
      // A stroke begins with a line of no length, so that a lone point shows as a dot.
      parts.push(`${pen}${x.toFixed(1)} ${y.toFixed(1)}${pen === 'M' ? 'h0' : ''}`);
      pen = 'L';
    });
    column = [];
  };
  for (const point of points) {
    const shown = Number.isFinite(point[0]) && Number.isFinite(point[1]);
    if (column.length > 0 && !(shown && Math.floor(point[0]) === Math.floor(column[0]![0]))) flush();
    if (shown) column.push(point);
    else pen = 'M';
  }
  if (column.length > 0) flush();
  return parts.join('');
}

/** Points along the stroke from point k to the next one, point k first. */
function alongTo(point: Point, k: number, points: readonly Point[]): Point[] {
  const [next, steps] = [points[k + 1] ?? point, 24];
  return Array.from({ length: steps }, (_, i) => {
    const part = i / steps;
    return [point[0] + part * (next[0] - point[0]), point[1] + part * (next[1] - point[1])];
  });
}

/** Pixels that a letter of a label is given, and a line of them. */
const [LABEL_WIDTH, LABEL_LINE] = [6.2, 11];

/** Where a label stands: from left to right, and its base line. */
interface Written {
  readonly from: number;
  readonly to: number;
  readonly base: number;
}

const meets = ({ from, to, base }: Written, start: number, at: number, label: string): boolean =>
  start < to && from < start + LABEL_WIDTH * label.length && Math.abs(base - at) < LABEL_LINE;

/** Base lines that a point's label may have, the nearest first. */
function beside(y: number, below: boolean): number[] {
  const [above, under] = [-6, 13].map((first, side) =>
    [0, 1, 2, 3].map((n) => y + first + (side === 0 ? -n : n) * LABEL_LINE),
  ) as [number[], number[]];
  return below ? [...under, ...above] : [...above, ...under];
}

/** The plot as an SVG document. Throws UsageError if a series' x and y differ in length. */
export function linePlot({ title, x, y, series, width = 800, height = 480 }: LinePlot): string {
  for (const { name, x: xs, y: ys } of series) {
    if (xs.length !== ys.length) throw new UsageError(`series '${name}' has ${xs.length} x and ${ys.length} y values`);
  }
  const frame = { left: 84, right: width - 20, top: 44, bottom: height - 56 };
  const across = scaleOf(
    series.flatMap((s) => [...Array.from(s.x), ...(s.whiskers ?? []).map((whisker) => whisker.x)]),
    x,
    frame.left,
    frame.right,
    0,
  );
  const up = scaleOf(
    series.flatMap((s) => [...Array.from(s.y), ...(s.whiskers ?? []).flatMap(({ low, high }) => [low, high])]),
    y,
    frame.bottom,
    frame.top,
    0.04,
  );
  const name = ({ label, unit }: Axis) => escapeXml(unit ? `${label} [${unit}]` : label);
  const text = (px: number, py: number, content: string, more: string) =>
    `<text x="${px.toFixed(1)}" y="${py.toFixed(1)}" ${more}>${content}</text>`;
  const line = (x1: number, y1: number, x2: number, y2: number, colour: string) =>
    `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${colour}"/>`;

  const out: string[] = [];
  for (const tick of across.ticks) {
    const px = across.at(tick);
    out.push(line(px, frame.top, px, frame.bottom, '#e4e4e7'));
    out.push(text(px, frame.bottom + 18, readable(tick), 'text-anchor="middle" font-size="12"'));
  }
  for (const tick of up.ticks) {
    const py = up.at(tick);
    out.push(line(frame.left, py, frame.right, py, '#e4e4e7'));
    out.push(text(frame.left - 8, py + 4, readable(tick), 'text-anchor="end" font-size="12"'));
  }
  const [w, h] = [frame.right - frame.left, frame.bottom - frame.top];
  out.push(`<rect x="${frame.left}" y="${frame.top}" width="${w}" height="${h}" fill="none" stroke="#71717a"/>`);
  out.push(text(width / 2, 26, escapeXml(title), 'text-anchor="middle" font-size="16" font-weight="bold"'));
  out.push(text(frame.left + w / 2, height - 14, name(x), 'text-anchor="middle" font-size="13"'));
  const turned = `text-anchor="middle" font-size="13" transform="rotate(-90 18 ${frame.top + h / 2})"`;
  out.push(text(18, frame.top + h / 2, name(y), turned));

  const colour = (k: number) => COLOURS[k % COLOURS.length]!;
  const dash = (k: number) => (k < COLOURS.length ? '' : ' stroke-dasharray="6 3"');
  const curves = series.map((s) =>
    Array.from({ length: s.x.length }, (_, i) => [across.at(s.x[i]!), up.at(s.y[i]!)] as const),
  );
  const named: Written[] = [];
  curves.forEach((points, k) => {
    const shape = 'fill="none" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round"';
    out.push(`<path d="${pathOf(points)}" ${shape} stroke="${colour(k)}"${dash(k)}/>`);
    for (const { x: at, value, low, high } of series[k]!.whiskers ?? []) {
      const [px, py, top, bottom] = [across.at(at), up.at(value), up.at(high), up.at(low)];
      if (![px, py, top, bottom].every(Number.isFinite)) continue;
      out.push(line(px, top, px, bottom, colour(k)));
      for (const end of [top, bottom]) out.push(line(px - 2.5, end, px + 2.5, end, colour(k)));
      out.push(`<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="1.8" fill="${colour(k)}"/>`);
    }
    for (const [i, label] of (series[k]!.labels ?? []).entries()) {
      const [px, py] = points[i] ?? [Number.NaN, Number.NaN];
      if (!Number.isFinite(px) || !Number.isFinite(py)) continue;
      // Away from the nearer side, so that the picture holds it.
      const left = px > (frame.left + frame.right) / 2;
      const from = left ? px - 6 - LABEL_WIDTH * label.length : px + 6;
      const free = beside(py, left).find((base) => named.every((other) => !meets(other, from, base, label)));
      if (free === undefined) continue;
      named.push({ from, to: from + LABEL_WIDTH * label.length, base: free });
      const more = `text-anchor="${left ? 'end' : 'start'}" font-size="10" fill="${colour(k)}"`;
      out.push(text(px + (left ? -6 : 6), free, escapeXml(label), more));
    }
    const shown = points.filter(([px, py]) => Number.isFinite(px) && Number.isFinite(py));
    if (shown.length > 32) return;
    for (const [px, py] of shown)
      out.push(`<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3" fill="${colour(k)}"/>`);
  });

  if (series.length > 1) {
    const boxWidth = 50 + 7.2 * Math.max(...series.map((s) => s.name.length));
    const boxHeight = series.length * 18 + 10;
    const corners = [frame.right - boxWidth - 10, frame.left + 10].flatMap((left) =>
      [frame.top + 10, frame.bottom - boxHeight - 10].map((top) => ({ left, top })),
    );
    // The corner that hides the least; the first of equally good ones. Long strokes count by points along them.
    const traced = curves.flatMap((points) => (points.length > 1000 ? points : points.flatMap(alongTo)));
    const hidden = corners.map(({ left, top }) => {
      const inside = ([px, py]: Point) =>
        px > left - 8 && px < left + boxWidth + 8 && py > top - 8 && py < top + boxHeight + 8;
      return traced.filter(inside).length;
    });
    const { left, top } = corners[hidden.indexOf(Math.min(...hidden))]!;
    const box = `width="${boxWidth.toFixed(1)}" height="${boxHeight}" fill="#ffffff" fill-opacity="0.85"`;
    out.push(`<rect x="${left.toFixed(1)}" y="${top.toFixed(1)}" ${box} stroke="#d4d4d8"/>`);
    series.forEach((s, k) => {
      const py = top + 14 + k * 18;
      out.push(line(left + 8, py, left + 30, py, colour(k)).replace('/>', ` stroke-width="2.5"${dash(k)}/>`));
      out.push(text(left + 36, py + 4, escapeXml(s.name), 'font-size="12"'));
    });
  }
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  const paper = `<rect width="${width}" height="${height}" fill="#ffffff"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${FONT} fill="#18181b">${paper}\n${out.join('\n')}\n</svg>\n`;
}
