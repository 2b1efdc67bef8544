/** Draws the memory table as SVG: a stacked bar per option, grouped by the number of blocks. */
import { escapeXml, linearTicks } from './line-plot.ts';

/** Bytes of one setting. */
export interface MemoryBar {
  readonly blocks: number;
  readonly option: string;
  /** Live after the request: weights; activations, tables of modulations included; inputs, parameters of programs, read-back. */
  readonly weights: number;
  readonly activations: number;
  readonly other: number;
  readonly total: number;
  /** Most alive at once; more than `total` where something passed through. */
  readonly peak: number;
}

export interface MemoryChart {
  readonly model: string;
  readonly batch: number;
  readonly steps: number;
  readonly machine: string;
  readonly rows: readonly MemoryBar[];
}

const WIDTH = 900;
const [LEFT, RIGHT, TOP] = [196, 80, 88];
const [BAR, PITCH, HEADING, GAP] = [16, 22, 24, 12];
const FONT = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"';

/** Parts of a bar in Okabe and Ito's colours, which colour-blind readers can tell apart. */
const PARTS: readonly { name: string; colour: string; of: (row: MemoryBar) => number }[] = [
  { name: 'weights', colour: '#0072b2', of: (row) => row.weights },
  { name: 'activations', colour: '#e69f00', of: (row) => row.activations },
  { name: 'inputs, uniforms, read-back', colour: '#009e73', of: (row) => row.other },
  { name: 'passing through', colour: '#cc79a7', of: (row) => row.peak - row.total },
];

const text = (x: number, y: number, body: string, style = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="12" ${style}>${escapeXml(body)}</text>`;

/** The plot as an SVG document, 900 pixels wide. */
export function plotMemory({ model, batch, steps, machine, rows }: MemoryChart): string {
  const lengths = [...new Set(rows.map(({ blocks }) => blocks))];
  const height = TOP + lengths.length * (HEADING + GAP) + rows.length * PITCH + 40;
  const bottom = height - 40;
  const most = Math.max(...rows.map(({ peak }) => peak)) / 1e6;
  const ticks = linearTicks(0, most);
  const at = (bytes: number) => LEFT + (bytes / 1e6 / most) * (WIDTH - LEFT - RIGHT);
  const shown = PARTS.filter(({ of }) => rows.some((row) => of(row) > 0));
  const out = [
    text(20, 28, `GPU memory of sampling: ${model}, batch ${batch}`, 'style="font-size: 17px; font-weight: bold"'),
    text(
      20,
      48,
      `All GPU buffers at their peak, by blocks that run (L) and by option; ${steps} ${steps === 1 ? 'step' : 'steps'}.`,
      'fill="#52525b"',
    ),
  ];
  let x = 20;
  for (const { name, colour } of shown) {
    out.push(`<rect x="${x}" y="60" width="12" height="12" fill="${colour}"/>`, text(x + 18, 70.5, name));
    x += 42 + 6.4 * name.length;
  }
  for (const tick of ticks) {
    const px = at(tick * 1e6).toFixed(1);
    out.push(`<line x1="${px}" y1="${TOP}" x2="${px}" y2="${bottom}" stroke="#e4e4e7"/>`);
    out.push(text(Number(px), bottom + 16, String(tick), 'text-anchor="middle"'));
  }
  out.push(text((LEFT + WIDTH - RIGHT) / 2, bottom + 33, 'MB (10^6 bytes)', 'text-anchor="middle"'));
  let y = TOP;
  for (const blocks of lengths) {
    out.push(text(20, y + 17, `L = ${blocks}`, 'font-weight="bold"'));
    y += HEADING;
    for (const row of rows.filter((r) => r.blocks === blocks)) {
      out.push(text(LEFT - 8, y + 12.5, row.option, 'text-anchor="end"'));
      let from = 0;
      for (const { colour, of } of shown) {
        const [a, b] = [at(from), at(from + of(row))];
        out.push(`<rect x="${a.toFixed(2)}" y="${y}" width="${(b - a).toFixed(2)}" height="${BAR}" fill="${colour}"/>`);
        from += of(row);
      }
      out.push(text(at(row.peak) + 6, y + 12.5, `${(row.peak / 1e6).toFixed(1)} MB`));
      y += PITCH;
    }
    y += GAP;
  }
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  const paper = `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`;
  const title = `<title>${escapeXml(`${model}, batch ${batch}: GPU memory of sampling. ${machine}`)}</title>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${FONT} fill="#18181b">${title}${paper}\n${out.join('\n')}\n</svg>\n`;
}
