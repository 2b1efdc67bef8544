/** Pictures in memory, the PNG encoder against an independent decoder, contact sheets, the font, and SVG plots. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { OutputError, UsageError } from '../../engine/errors.ts';
import { words } from '../../engine/philox.ts';
import { OWN_NAME } from '../../formats/files.node.ts';
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyph } from '../../pictures/font.ts';
import { linearTicks, linePlot, logTicks, readable } from '../../pictures/line-plot.ts';
import {
  blank,
  contactSheet,
  drawText,
  enlarge,
  fromBytes,
  fromUnit,
  grid,
  type Picture,
  paste,
  textWidth,
  toByte,
} from '../../pictures/picture.ts';
import { writePng } from '../../pictures/png.node.ts';
import { encodePng } from '../../pictures/png.ts';

const at = ({ width, pixels }: Picture, x: number, y: number) => [
  ...pixels.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
];
const dark = (picture: Picture, x: number, y: number) => at(picture, x, y)[0]! < 128;

describe('numbers to pixels', () => {
  it('rounds, clamps and takes NaN as black', () => {
    expect([-1, 1, 0, -5, 5, Number.NaN, Number.NEGATIVE_INFINITY].map(toByte)).toEqual([0, 255, 128, 0, 255, 0, 0]);
    for (let byte = 0; byte < 256; byte++) expect(toByte(Math.fround(byte / 127.5 - 1))).toBe(byte);
  });

  it('spreads grey, keeps colour, cuts batches, and refuses the rest', () => {
    expect([...fromBytes(Uint8Array.of(1, 2), 1, 2, 1).pixels]).toEqual([1, 1, 1, 2, 2, 2]);
    const [first, second] = fromUnit(Float32Array.of(-1, 0, 1, 1, 0, -1), 1, 1, 3);
    expect([at(first!, 0, 0), at(second!, 0, 0)]).toEqual([
      [0, 128, 255],
      [255, 128, 0],
    ]);
    expect(() => fromBytes(new Uint8Array(4), 1, 1, 4)).toThrow(/1 or 3 channels, not 4/);
    expect(() => fromBytes(new Uint8Array(4), 1, 1, 3)).toThrow(UsageError);
    expect(() => fromUnit(new Float32Array(4), 1, 1, 3)).toThrow(UsageError);
  });
});

describe('composition', () => {
  const two = fromBytes(Uint8Array.of(10, 20), 1, 2, 1);

  it('enlarges by squares', () => {
    const big = enlarge(two, 3);
    expect([big.width, big.height]).toEqual([6, 3]);
    for (let y = 0; y < 3; y++) expect([0, 2, 3, 5].map((x) => at(big, x, y)[0])).toEqual([10, 10, 20, 20]);
    expect(() => enlarge(two, 1.5)).toThrow(UsageError);
  });

  it('pastes with clipping on every side', () => {
    for (const [x, y] of [
      [-1, -1],
      [3, 3],
      [-1, 3],
      [3, -1],
      [9, 0],
      [0, -9],
    ] as const) {
      const onto = blank(4, 4, [0, 0, 0]);
      paste(onto, blank(2, 2), x, y);
      const lit = Array.from({ length: 16 }, (_, i) => i).filter((i) => at(onto, i % 4, i >> 2)[0] === 255);
      const inside = (i: number) => (i % 4) - x >= 0 && (i % 4) - x < 2 && (i >> 2) - y >= 0 && (i >> 2) - y < 2;
      expect(lit).toEqual(Array.from({ length: 16 }, (_, i) => i).filter(inside));
    }
  });

  it('lays a grid row by row with padding', () => {
    const pictures = [10, 20, 30, 40, 50].map((v) => fromBytes(Uint8Array.of(v), 1, 1, 1));
    const sheet = grid(pictures, { columns: 3, pad: 1, scale: 2, background: [0, 0, 255] });
    expect([sheet.width, sheet.height]).toEqual([8, 5]);
    expect([0, 3, 6].map((x) => at(sheet, x, 0)[0])).toEqual([10, 20, 30]);
    expect([at(sheet, 1, 4)[0], at(sheet, 4, 3)[0]]).toEqual([40, 50]);
    expect([at(sheet, 2, 0), at(sheet, 6, 4)]).toEqual([
      [0, 0, 255],
      [0, 0, 255],
    ]);
    expect(grid([]).width).toBe(0);
    expect(grid(pictures.slice(0, 4)).width).toBe(4); // two columns by default
    expect(() => grid(pictures, { columns: 0 })).toThrow(UsageError);
  });
});

describe('font', () => {
  const printable = Array.from({ length: 95 }, (_, k) => String.fromCharCode(32 + k));

  it('has a distinct glyph of the right size for every printable character, capitals above the base line', () => {
    const drawn = printable.map((c) =>
      glyph(c)
        .map((row) => row.map(Number).join(''))
        .join('/'),
    );
    expect(new Set(drawn).size).toBe(95);
    for (const c of printable) {
      expect(glyph(c)).toHaveLength(GLYPH_HEIGHT);
      for (const row of glyph(c)) expect(row).toHaveLength(GLYPH_WIDTH);
      if (/[A-Z0-9]/.test(c)) expect(glyph(c).slice(7).flat().some(Boolean)).toBe(false);
      if (/[gjpqy]/.test(c)) expect(glyph(c)[7]!.some(Boolean)).toBe(true);
    }
    expect(glyph('é')).toEqual(glyph('\u4e00')); // the box
  });

  it('draws text where asked, scaled and clipped', () => {
    const out = blank(40, 24);
    drawText(out, 'LI', 1, 2, 2);
    expect([dark(out, 1, 2), dark(out, 2, 15), dark(out, 10, 15), dark(out, 3, 2), dark(out, 1, 16)]).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect([dark(out, 13, 2), dark(out, 15, 2)]).toEqual([false, true]);
    expect([textWidth('LI', 2), textWidth('')]).toEqual([22, 0]);
    expect(() => drawText(out, 'edge', 38, 20)).not.toThrow();
  });
});

describe('contact sheet', () => {
  it('places every cell, its labels and captions without overlap', () => {
    const colour = (r: number, c: number): [number, number, number] => [200, 40 + 40 * r, 40 + 40 * c];
    const sheet = contactSheet({
      title: 'T',
      rowLabels: ['L=4', 'L=12'],
      columnLabels: ['T=1', 'T=4', 'T=16'],
      cell: (r, c) => [1, 2].map(() => blank(28, 28, colour(r, c))),
      caption: () => 'a caption far too long for its cell',
      grid: { columns: 2, pad: 0 },
    });
    const boxes = [0, 1].flatMap((r) =>
      [0, 1, 2].map((c) => {
        const found: [number, number][] = [];
        for (let y = 0; y < sheet.height; y++) {
          for (let x = 0; x < sheet.width; x++) if (at(sheet, x, y).join() === colour(r, c).join()) found.push([x, y]);
        }
        return { r, c, n: found.length, x: found[0]![0], y: found[0]![1] };
      }),
    );
    for (const { n } of boxes) expect(n).toBe(56 * 28); // nothing is drawn over a cell
    for (const { r, c, x, y } of boxes) {
      expect(x).toBe(boxes[c]!.x);
      expect(y).toBe(boxes[3 * r]!.y);
    }
    const left = boxes[0]!.x;
    const rowInk = (y0: number, y1: number) => {
      for (let y = y0; y < y1; y++) for (let x = 0; x < left; x++) if (dark(sheet, x, y)) return true;
      return false;
    };
    expect([rowInk(boxes[0]!.y, boxes[0]!.y + 28), rowInk(boxes[3]!.y, boxes[3]!.y + 28)]).toEqual([true, true]);
  });

  it('works with nothing to show', () => {
    expect(contactSheet({ rowLabels: [], columnLabels: [], cell: () => [] }).pixels.length).toBeGreaterThan(0);
    expect(contactSheet({ rowLabels: ['a'], columnLabels: [''], cell: () => [] }).height).toBeGreaterThan(GLYPH_HEIGHT);
  });
});

describe('PNG', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'odelt-png-'));
  afterAll(() => rmSync(scratch, { recursive: true }));
  const noise = words({ seed: 1, stream: 0, step: 0 }, 37 * 21 * 3).map((w) => w >>> 24);
  const pictures: [string, Picture][] = [
    ['noise', { width: 37, height: 21, pixels: Uint8Array.from(noise) }],
    [
      'a slope',
      { width: 64, height: 48, pixels: Uint8Array.from({ length: 64 * 48 * 3 }, (_, i) => (i % 192) + (i >> 9)) },
    ],
    ['one pixel', { width: 1, height: 1, pixels: Uint8Array.of(1, 2, 3) }],
  ];
  it.each(pictures)('of %s decodes to the same bytes', async (_, picture) => {
    const { data, info } = await sharp(encodePng(picture)).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([picture.width, picture.height, 3]);
    expect(Buffer.compare(data, Buffer.from(picture.pixels))).toBe(0);
  });

  it('is written whole, into new folders, leaving no temporary file', async () => {
    const file = join(scratch, 'a', 'b', 'out.png');
    const bytes = await writePng(file, pictures[0]![1]);
    expect((await sharp(file).metadata()).width).toBe(37);
    expect(bytes).toBe(encodePng(pictures[0]![1]).length);
    await writePng(file, pictures[2]![1]);
    expect((await sharp(file).metadata()).width).toBe(1);
    expect(readdirSync(join(scratch, 'a', 'b'))).toEqual(['out.png']);
    await expect(writePng(join(scratch, 'a'), pictures[0]![1])).rejects.toThrow(OutputError); // a folder is in the way
    expect(existsSync(join(scratch, `a.${OWN_NAME}.tmp`))).toBe(false);
  });
});

describe('plots', () => {
  it('choose ticks on round numbers', () => {
    expect(linearTicks(0, 99_995)).toEqual([0, 20_000, 40_000, 60_000, 80_000]);
    expect(linearTicks(0.31, 0.79)).toEqual([0.4, 0.5, 0.6, 0.7]);
    expect(linearTicks(-3, 3)).toEqual([-3, -2, -1, 0, 1, 2, 3]);
    expect(logTicks(0.004, 1.3)).toEqual([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]);
    expect(logTicks(1e-5, 1e5)).toEqual([1e-5, 1e-3, 1e-1, 10, 1e3, 1e5]);
    expect(logTicks(0.31, 0.36).length).toBeGreaterThanOrEqual(3);
  });

  it('write numbers shortly', () => {
    expect([0, 20_000, 1_500_000, 0.05, 0.00012, 1e-4, 0.1 + 0.2, -5, 3e12].map(readable)).toEqual([
      '0',
      '20,000',
      '1.5M',
      '0.05',
      '1.2e-4',
      '1e-4',
      '0.3',
      '-5',
      '3e12',
    ]);
  });

  const axes = { title: 'a < b & "c"', x: { label: 'step' }, y: { label: 'loss', unit: 'nats', log: true } };
  const paths = (svg: string) => [...svg.matchAll(/<path d="([^"]*)"/g)].map((m) => m[1]!);

  it('map data to the frame, break lines at what cannot be shown, and escape text', () => {
    const svg = linePlot({ ...axes, series: [{ name: 'x&y', x: [0, 1, 2, 3, 4], y: [1, 10, 0, Number.NaN, 100] }] });
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
    expect(svg).toContain('loss [nats]');
    // Frame 84..780 x 44..424 with 4 % of two decades above and below: 1 lies at 424 - 380 * 0.04 / 1.08.
    const y = (decade: number) => (424 - (380 * (decade + 0.08)) / 2.16).toFixed(1);
    expect(paths(svg)).toEqual([`M84.0 ${y(0)}h0L258.0 ${y(1)}M780.0 ${y(2)}h0`]);
  });

  it('thin long curves but keep their extremes', () => {
    const n = 200_000;
    const ys = Float64Array.from({ length: n }, (_, i) => (i === 123_456 ? 50 : i === 54_321 ? 0.5 : 2 + (i % 2)));
    const svg = linePlot({ ...axes, series: [{ name: 'a', x: Array.from(ys, (_, i) => i), y: ys }] });
    expect(svg.length).toBeLessThan(80_000);
    const drawn = [...paths(svg)[0]!.matchAll(/ ([\d.]+)/g)].map((m) => Number(m[1]));
    expect(Math.min(...drawn)).toBeCloseTo(44 + (380 * 0.04) / 1.08, 0);
    expect(Math.max(...drawn)).toBeCloseTo(424 - (380 * 0.04) / 1.08, 0);
  });

  it('labels of points that lie together do not cover each other, and one without room is left out', () => {
    const labels = ['first', 'second', 'third'];
    const baseLines = (texts: readonly string[], x: readonly number[]) => {
      const svg = linePlot({ ...axes, series: [{ name: 'a', x, y: x.map(() => 10), labels: texts }] });
      return texts.map((text) => Number(new RegExp(`y="([\\d.]+)"[^>]*font-size="10"[^>]*>${text}<`).exec(svg)?.[1]));
    };
    expect(new Set(baseLines(labels, [1, 50, 100])).size).toBe(2); // above on the left, below on the right
    const close = baseLines([...labels, 'far'], [1, 1.01, 1.02, 100]);
    expect(close.every(Number.isFinite)).toBe(true);
    const sorted = close.slice(0, 3).toSorted((a, b) => a - b);
    for (const i of [1, 2]) expect(sorted[i]! - sorted[i - 1]!).toBeGreaterThanOrEqual(11);
    const many = Array.from('abcdefghijkl', (letter) => `label ${letter}`);
    const drawn = baseLines([...many, 'far'], [...many.map((_, i) => 1 + i / 1e4), 100]);
    expect(drawn.filter(Number.isFinite).length).toBe(9); // four lines above, four below, and the far one
  });

  it('give a document that renders, with a legend, even without data', async () => {
    const many = linePlot({ ...axes, series: ['a', 'b'].map((name, k) => ({ name, x: [1, 2], y: [1 + k, 2] })) });
    expect(many).toContain('>b</text>');
    expect((await sharp(Buffer.from(many)).png().toBuffer()).length).toBeGreaterThan(1000);
    const empty = linePlot({ ...axes, series: [] });
    expect(empty).not.toMatch(/NaN|Infinity/);
    expect(linePlot({ ...axes, series: [{ name: 'flat', x: [5, 5], y: [3, 3] }] })).not.toMatch(/NaN|Infinity/);
    expect(() => linePlot({ ...axes, series: [{ name: 'a', x: [1], y: [] }] })).toThrow(UsageError);
  });
});

it('refuses to encode what is no picture', () => {
  const picture = { width: 2, height: 1, pixels: new Uint8Array(6) };
  expect(encodePng(picture).length).toBeGreaterThan(60);
  for (const change of [
    { width: 0 },
    { width: 3 },
    { height: 1.5 },
    { height: Number.NaN },
    { pixels: new Uint8Array(5) },
  ]) {
    expect(() => encodePng({ ...picture, ...change })).toThrow(/^a picture of .* cannot be written$/);
  }
  expect(() => encodePng(undefined as never)).toThrow(
    new UsageError('a picture of undefined x undefined with undefined of pixels cannot be written').message,
  );
});
