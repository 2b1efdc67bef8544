/** Composes pictures in memory: the model's numbers to pixels, enlarged, laid out in grids and labelled contact sheets. */
import { LimitError, UsageError } from '../engine/errors.ts';
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyph } from './font.ts';

/** 8-bit RGB, rows from the top: pixels has height * width * 3 bytes. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** A colour, each part from 0 to 255. */
export type Colour = readonly [red: number, green: number, blue: number];

const WHITE: Colour = [255, 255, 255];
const INK: Colour = [24, 24, 27];

/** Most bytes of one picture: its PNG takes several times as much memory while it is made. */
const MOST_BYTES = 2 ** 29;

/** Checks a picture's size before it is made. `what` begins the message. @throws LimitError above 512 MiB of pixels. */
export function checkPictureSize(what: string, width: number, height: number): void {
  const asked = width * height * 3;
  if (asked <= MOST_BYTES) return;
  throw new LimitError(
    `${what} of ${width} x ${height} pixels takes ${asked} bytes; ${MOST_BYTES} are the most`,
    { asked, available: MOST_BYTES },
    { hint: 'draw fewer pictures at a time, or enlarge them less' },
  );
}

/** @throws LimitError above 512 MiB of pixels. */
export function blank(width: number, height: number, colour: Colour = WHITE): Picture {
  checkPictureSize('a picture', width, height);
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour[i % 3]!;
  return { width, height, pixels };
}

/** [-1, 1] to the nearest byte, (x + 1) * 127.5, clamped; NaN gives 0. The inverse of the data readers' x / 127.5 - 1. */
export function toByte(x: number): number {
  return Math.max(0, Math.min(255, Math.round((x + 1) * 127.5))) || 0;
}

/** Bytes [height, width, channels] as a picture; 1 channel is grey, 3 are RGB. Throws UsageError for any other number. */
export function fromBytes(bytes: Uint8Array, height: number, width: number, channels: number): Picture {
  if (channels !== 1 && channels !== 3) {
    throw new UsageError(`a picture is made of 1 or 3 channels, not ${channels}`, { hint: 'Decode latents first.' });
  }
  if (bytes.length !== height * width * channels) {
    throw new UsageError(`${bytes.length} values are not ${height} x ${width} x ${channels}`);
  }
  if (channels === 3) return { width, height, pixels: bytes.slice() };
  const pixels = new Uint8Array(height * width * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = bytes[Math.floor(i / 3)]!;
  return { width, height, pixels };
}

/** A batch [count, height, width, channels] in [-1, 1] as pictures. Throws UsageError where sizes do not fit. */
export function fromUnit(values: Float32Array, height: number, width: number, channels: number): Picture[] {
  const size = height * width * channels;
  if (size === 0 || values.length % size !== 0) {
    throw new UsageError(`${values.length} values are not whole pictures of ${height} x ${width} x ${channels}`);
  }
  return Array.from({ length: values.length / size }, (_, i) =>
    fromBytes(Uint8Array.from(values.subarray(i * size, (i + 1) * size), toByte), height, width, channels),
  );
}

/** Enlarged by a whole factor, each pixel a square. */
export function enlarge(picture: Picture, factor: number): Picture {
  if (!(Number.isInteger(factor) && factor >= 1))
    throw new UsageError(`pictures are enlarged 1, 2, ... times, not ${factor}`);
  if (factor === 1) return picture;
  const out = blank(picture.width * factor, picture.height * factor);
  for (let y = 0; y < out.height; y++) {
    const row = Math.floor(y / factor) * picture.width;
    for (let x = 0; x < out.width; x++) {
      const from = (row + Math.floor(x / factor)) * 3;
      const to = (y * out.width + x) * 3;
      for (let c = 0; c < 3; c++) out.pixels[to + c] = picture.pixels[from + c]!;
    }
  }
  return out;
}

/** Copies a picture into `onto` with its top left corner at (x, y); what lies outside is cut off. */
export function paste(onto: Picture, picture: Picture, x: number, y: number): void {
  const left = Math.max(0, -x);
  const right = Math.min(picture.width, onto.width - x);
  if (right <= left) return;
  for (let row = Math.max(0, -y); row < Math.min(picture.height, onto.height - y); row++) {
    const from = row * picture.width;
    const line = picture.pixels.subarray((from + left) * 3, (from + right) * 3);
    onto.pixels.set(line, ((y + row) * onto.width + x + left) * 3);
  }
}

/** Pixels from one character's left edge to the next one's, at scale 1. */
const ADVANCE = GLYPH_WIDTH + 1;

/** Width in pixels of a line of text; its height is GLYPH_HEIGHT * scale. */
export function textWidth(text: string, scale = 1): number {
  const characters = [...text].length;
  return characters === 0 ? 0 : (characters * ADVANCE - 1) * scale;
}

/** Draws one line with its top left corner at (x, y), a font dot being scale x scale pixels. */
export function drawText(onto: Picture, text: string, x: number, y: number, scale = 1, colour: Colour = INK): void {
  const dot = blank(scale, scale, colour);
  [...text].forEach((character, k) => {
    glyph(character).forEach((row, dy) => {
      row.forEach((ink, dx) => {
        if (ink) paste(onto, dot, x + (k * ADVANCE + dx) * scale, y + dy * scale);
      });
    });
  });
}

/** How pictures are laid out in rows. */
export interface GridOptions {
  /** Pictures per row. Default: about as many as rows. */
  columns?: number;
  /** Pixels between pictures (none around them). Default 2. */
  pad?: number;
  /** Whole factor by which each picture is enlarged. Default 1. */
  scale?: number;
  background?: Colour;
}

/** Pixels across and down of `count` pictures of one size as `grid` lays them out. */
export function gridSize(
  count: number,
  { width, height }: Pick<Picture, 'width' | 'height'>,
  { columns = Math.ceil(Math.sqrt(count)), pad = 2, scale = 1 }: GridOptions = {},
): { width: number; height: number } {
  const across = Math.min(columns, count);
  const down = Math.ceil(count / columns);
  return { width: across * (width * scale + pad) - pad, height: down * (height * scale + pad) - pad };
}

/** Pictures row by row, each in a place as large as the largest; no pictures give a picture of 0 x 0. */
export function grid(pictures: readonly Picture[], options: GridOptions = {}): Picture {
  const { columns = Math.ceil(Math.sqrt(pictures.length)), pad = 2, scale = 1, background } = options;
  if (pictures.length === 0) return blank(0, 0);
  if (!(Number.isInteger(columns) && columns >= 1))
    throw new UsageError(`a grid has 1, 2, ... columns, not ${columns}`);
  // No spread: there may be more pictures than a call takes arguments.
  const largest = (side: 'width' | 'height') => pictures.reduce((most, picture) => Math.max(most, picture[side]), 0);
  const place = { width: largest('width'), height: largest('height') };
  const size = gridSize(pictures.length, place, { columns, pad, scale });
  const out = blank(size.width, size.height, background);
  pictures.forEach((picture, i) => {
    const [x, y] = [
      (i % columns) * (place.width * scale + pad),
      Math.floor(i / columns) * (place.height * scale + pad),
    ];
    paste(out, enlarge(picture, scale), x, y);
  });
  return out;
}

/** What a sheet of labelled cells shows. */
export interface ContactSheet {
  rowLabels: readonly string[];
  columnLabels: readonly string[];
  /** Pictures of row r, column c, laid out as a grid of their own. */
  cell: (r: number, c: number) => readonly Picture[];
  title?: string;
  /** A second, smaller line under the title. */
  subtitle?: string;
  /** A line under cell (r, c), such as its seconds; cut off where it is wider than its cell. */
  caption?: (r: number, c: number) => string;
  /** Layout inside a cell. */
  grid?: GridOptions;
  /** Pixels between cells and around the sheet. Default 12. */
  gap?: number;
  /** Pixels per font dot. Default 2; the title's is one more, subtitle's and captions' one less. */
  textScale?: number;
}

/** One picture of labelled rows and columns of cells, dark on white. */
export function contactSheet(sheet: ContactSheet): Picture {
  const { rowLabels, columnLabels, title = '', subtitle = '', caption, gap = 12, textScale = 2 } = sheet;
  const small = Math.max(1, textScale - 1);
  const lineHeight = (text: string, scale: number) => (text === '' ? 0 : GLYPH_HEIGHT * scale + gap);
  const cells = rowLabels.map((_, r) => columnLabels.map((_, c) => grid(sheet.cell(r, c), sheet.grid)));
  const flat = cells.flat();
  const labelsWidth = Math.max(0, ...rowLabels.map((text) => textWidth(text, textScale)));
  const cellWidth = Math.max(
    0,
    ...flat.map(({ width }) => width),
    ...columnLabels.map((text) => textWidth(text, textScale)),
  );
  const captionHeight = caption ? GLYPH_HEIGHT * small + 4 : 0;
  const cellHeight = Math.max(GLYPH_HEIGHT * textScale, ...flat.map(({ height }) => height)) + captionHeight;

  const left = gap + (labelsWidth === 0 ? 0 : labelsWidth + gap);
  const subtitleTop = gap + lineHeight(title, textScale + 1);
  const columnsTop = subtitleTop + lineHeight(subtitle, small);
  const top = columnsTop + (columnLabels.some((text) => text !== '') ? GLYPH_HEIGHT * textScale + gap / 2 : 0);
  const titleWidth = Math.max(textWidth(title, textScale + 1), textWidth(subtitle, small));
  const out = blank(
    Math.max(left + columnLabels.length * (cellWidth + gap), titleWidth + 2 * gap),
    Math.ceil(top) + rowLabels.length * (cellHeight + gap),
  );

  drawText(out, title, gap, gap, textScale + 1);
  drawText(out, subtitle, gap, subtitleTop, small);
  const xOf = (c: number) => left + c * (cellWidth + gap);
  const yOf = (r: number) => Math.ceil(top) + r * (cellHeight + gap);
  columnLabels.forEach((text, c) => {
    drawText(out, text, xOf(c), columnsTop, textScale);
  });
  rowLabels.forEach((text, r) => {
    const middle = Math.floor((cellHeight - captionHeight - 7 * textScale) / 2);
    drawText(out, text, gap, yOf(r) + middle, textScale);
    cells[r]!.forEach((cell, c) => {
      paste(out, cell, xOf(c), yOf(r));
      if (!caption) return;
      const fits = [...caption(r, c)].slice(0, Math.floor((cellWidth / small + 1) / ADVANCE)).join('');
      drawText(out, fits, xOf(c), yOf(r) + cell.height + 4, small);
    });
  });
  return out;
}
