/** Draws a table of numbers as SVG: a cell each, the darker the larger, with its number in words. */
import { UsageError } from '../engine/errors.ts';
import { escapeXml } from './line-plot.ts';

export interface HeatMap {
  readonly title: string;
  /** What rows and columns are. */
  readonly row: string;
  readonly column: string;
  readonly rowLabels: readonly string[];
  readonly columnLabels: readonly string[];
  /** [rows][columns]; NaN leaves a cell empty. */
  readonly values: readonly (readonly number[])[];
  /** Lines of text in a cell. */
  readonly text: (row: number, column: number) => readonly string[];
}

const FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"';
const [LEAST_WIDTH, HEIGHT, LEFT, TOP, BELOW] = [150, 64, 96, 52, 56];
/** Pixels that a character takes at most on average, in the widest of the fonts. */
const CHARACTER = 7.2;
/** From pale to dark blue, one hue, so that grey prints keep the order. */
const [PALE, DARK] = [
  [235, 244, 251],
  [0, 84, 140],
] as const;

const colour = (part: number): string =>
  `rgb(${PALE.map((pale, k) => Math.round(pale + part * (DARK[k]! - pale))).join(',')})`;

/** The table as an SVG document. @throws UsageError where labels and values differ in number. */
export function heatMap({ title, row, column, rowLabels, columnLabels, values, text }: HeatMap): string {
  if (values.length !== rowLabels.length || values.some((each) => each.length !== columnLabels.length))
    throw new UsageError(`values are not ${rowLabels.length} x ${columnLabels.length}`);
  const known = values.flat().filter(Number.isFinite);
  // Ratios count where they can be taken.
  const scale = known.every((value) => value > 0) ? Math.log : (value: number) => value;
  const [low, high] = [scale(Math.min(...known)), scale(Math.max(...known))];
  const part = (value: number) => (high > low ? (scale(value) - low) / (high - low) : 0);
  const lines = values.map((each, r) => each.map((value, c) => (Number.isFinite(value) ? text(r, c) : [])));
  const longest = Math.max(0, ...lines.flat(2).map((line) => line.length));
  const cellWidth = Math.max(LEAST_WIDTH, Math.ceil(CHARACTER * longest) + 12);
  const width = LEFT + columnLabels.length * cellWidth + 20;
  const height = TOP + rowLabels.length * HEIGHT + BELOW;
  const say = (x: number, y: number, content: string, more = '') =>
    `<text x="${x}" y="${y}" text-anchor="middle" font-size="13" ${more}>${escapeXml(content)}</text>`;
  const out = [say(width / 2, 28, title, 'style="font-size: 16px; font-weight: bold"')];
  values.forEach((each, r) => {
    const y = TOP + r * HEIGHT;
    out.push(say(LEFT - 30, y + HEIGHT / 2 + 5, rowLabels[r]!));
    each.forEach((value, c) => {
      if (!Number.isFinite(value)) return;
      const x = LEFT + c * cellWidth;
      const fill = `fill="${colour(part(value))}" stroke="#ffffff" stroke-width="2"`;
      out.push(`<rect x="${x}" y="${y}" width="${cellWidth}" height="${HEIGHT}" ${fill}/>`);
      const ink = part(value) > 0.5 ? '#ffffff' : '#18181b';
      const own = lines[r]![c]!;
      own.forEach((line, k) => {
        const at = y + HEIGHT / 2 + 5 + (k - (own.length - 1) / 2) * 18;
        out.push(say(x + cellWidth / 2, at, line, `fill="${ink}"${k === 0 ? ' font-weight="bold"' : ''}`));
      });
    });
  });
  const bottom = TOP + rowLabels.length * HEIGHT;
  columnLabels.forEach((label, c) => {
    out.push(say(LEFT + (c + 0.5) * cellWidth, bottom + 20, label));
  });
  const middle = TOP + (rowLabels.length * HEIGHT) / 2;
  out.push(say(LEFT + (columnLabels.length * cellWidth) / 2, bottom + 44, column));
  out.push(say(20, middle, row, `transform="rotate(-90 20 ${middle})"`));
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  const paper = `<rect width="${width}" height="${height}" fill="#ffffff"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${FONT} fill="#18181b">${paper}\n${out.join('\n')}\n</svg>\n`;
}
