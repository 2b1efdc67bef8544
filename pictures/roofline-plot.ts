/** Draws a roofline (Williams, Waterman, Patterson 2009) as SVG: both ceilings of a machine, and a point per thing that was measured. */
import { escapeXml, logTicks, readable } from './line-plot.ts';

/** Something measured. */
export interface RooflinePoint {
  /** What it belongs to: points of one name share colour and shape. */
  readonly name: string;
  /** Told when the point is pointed at. */
  readonly title: string;
  /** Drawn hollow. */
  readonly hollow: boolean;
  /** Operations per byte. */
  readonly intensity: number;
  /** 10^9 operations per second. */
  readonly gflops: number;
}

export interface RooflineChart {
  readonly title: string;
  /** Ceilings: 10^9 bytes and 10^9 operations per second. */
  readonly gbytes: number;
  readonly gflops: number;
  /** Those whose place is not positive and finite are left out. */
  readonly points: readonly RooflinePoint[];
  /** What filled and hollow points are. */
  readonly filledName: string;
  readonly hollowName: string;
  /** Pixels; the height of the plot without its legend. Default 860 x 480. */
  readonly width?: number;
  readonly height?: number;
}

/** Okabe and Ito's palette, its black and its yellow replaced by a grey: seen on white as on black. */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#8a8a8a'];
const FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"';
/** Half of a mark's width. */
const RADIUS = 4.5;

/** The k-th name's mark: colours first, then other shapes. */
function mark(k: number, x: number, y: number, hollow: boolean, title = ''): string {
  const colour = COLOURS[k % COLOURS.length]!;
  const style = `fill="${hollow ? 'none' : colour}" stroke="${colour}" stroke-width="1.8" pointer-events="all"`;
  const told = title === '' ? '' : `<title>${escapeXml(title)}</title>`;
  const [px, py, r] = [x.toFixed(1), y.toFixed(1), RADIUS];
  const shape = Math.floor(k / COLOURS.length) % 3;
  if (shape === 0) return `<circle cx="${px}" cy="${py}" r="${r}" ${style}>${told}</circle>`;
  const path =
    shape === 1 ? `m${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z` : `m0 ${-r - 1}l${r + 1} ${2 * r + 1}h${-2 * r - 2}z`;
  return `<path d="M${px} ${py}${path}" ${style}>${told}</path>`;
}

/** A logarithmic axis over values above 0, with `room` times as much at both ends, from pixel `from` to pixel `to`. */
export function logAxis(values: readonly number[], from: number, to: number, room = 1.6) {
  const [low, high] = [Math.min(...values) / room, Math.max(...values) * room];
  const at = (value: number) => from + (Math.log(value / low) / Math.log(high / low)) * (to - from);
  return { low, high, at, ticks: logTicks(low, high) };
}

/** The plot as an SVG element without a background, in the colour of the text around it. */
export function rooflinePlot(chart: RooflineChart): string {
  const { title, gbytes, gflops, filledName, hollowName, width = 860, height = 480 } = chart;
  const narrow = width < 500;
  const size = narrow ? 11 : 13;
  const shown = chart.points.filter((p) => [p.intensity, p.gflops].every((n) => n > 0 && Number.isFinite(n)));
  const names = [...new Set(shown.map(({ name }) => name))];
  const frame = { left: narrow ? 44 : 64, right: width - 10, top: 10, bottom: height - 46 };
  const ridge = gflops / gbytes;
  const across = logAxis([...shown.map((p) => p.intensity), ridge], frame.left, frame.right);
  // The slope begins where it enters the frame.
  const up = logAxis(
    [...shown.map((p) => p.gflops), gflops, Math.min(gflops / 10, gbytes * across.low)],
    frame.bottom,
    frame.top,
  );

  const out: string[] = [];
  const text = (x: number, y: number, content: string, more: string) =>
    out.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escapeXml(content)}</text>`);
  const grid = (x1: number, y1: number, x2: number, y2: number) =>
    out.push(
      `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="currentColor" stroke-opacity="0.15"/>`,
    );
  for (const tick of across.ticks) {
    grid(across.at(tick), frame.top, across.at(tick), frame.bottom);
    text(across.at(tick), frame.bottom + size + 5, readable(tick), 'text-anchor="middle"');
  }
  for (const tick of up.ticks) {
    grid(frame.left, up.at(tick), frame.right, up.at(tick));
    text(frame.left - 6, up.at(tick) + 4, readable(tick), 'text-anchor="end"');
  }
  const box = `x="${frame.left}" y="${frame.top}" width="${frame.right - frame.left}" height="${frame.bottom - frame.top}"`;
  out.push(`<rect ${box} fill="none" stroke="currentColor" stroke-opacity="0.5"/>`);
  text((frame.left + frame.right) / 2, height - 8, 'operations per byte', 'text-anchor="middle"');
  const middle = (frame.top + frame.bottom) / 2;
  text(12, middle, 'GFLOP/s', `text-anchor="middle" transform="rotate(-90 12 ${middle})"`);

  const slope = (intensity: number) => [across.at(intensity), up.at(gbytes * intensity)] as const;
  const [x0, y0] = slope(Math.max(across.low, up.low / gbytes));
  const [x1, y1] = slope(ridge);
  const roof = [
    [x0, y0],
    [x1, y1],
    [frame.right, y1],
  ].map(([x, y]) => `${x!.toFixed(1)} ${y!.toFixed(1)}`);
  const told = `<title>ceilings: ${readable(gbytes)} GB/s copied, ${readable(gflops)} GFLOP/s multiplied and added</title>`;
  out.push(`<path d="M${roof.join('L')}" fill="none" stroke="currentColor" stroke-width="2">${told}</path>`);
  const angle = (Math.atan2(y1 - y0, x1 - x0) * 180) / Math.PI;
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  text(
    mx,
    my - 6,
    `${readable(gbytes)} GB/s`,
    `text-anchor="middle" transform="rotate(${angle.toFixed(1)} ${mx.toFixed(1)} ${my.toFixed(1)})"`,
  );
  text(frame.right - 6, y1 - 6, `${readable(gflops)} GFLOP/s`, 'text-anchor="end"');
  for (const { name, hollow, intensity, gflops: rate, title: point } of shown)
    out.push(mark(names.indexOf(name), across.at(intensity), up.at(rate), hollow, point));

  // The legend: names in as many columns as fit, then what hollow means.
  const column = 26 + 0.6 * size * Math.max(0, ...names.map((name) => name.length));
  const columns = Math.max(1, Math.floor((width - 20) / column));
  const pitch = size + 7;
  names.forEach((name, k) => {
    const [x, y] = [18 + (k % columns) * column, height + 14 + Math.floor(k / columns) * pitch];
    out.push(mark(k, x, y - 4, false));
    text(x + 10, y, name, '');
  });
  const last = height + 14 + Math.ceil(names.length / columns) * pitch;
  text(12, last, `filled: ${filledName}; hollow: ${hollowName}`, '');
  const whole = last + 10;
  const open = `<svg xmlns="http://www.w3.org/2000/svg" role="img" width="${width}" height="${whole}" viewBox="0 0 ${width} ${whole}"`;
  return `${open} ${FONT} font-size="${size}" fill="currentColor"><title>${escapeXml(title)}</title>\n${out.join('\n')}\n</svg>`;
}
