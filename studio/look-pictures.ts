/** What the network expects with every number of blocks, beside each other, and what each adds to the one before. */
import type { Inspection } from '../sampling/inspect.ts';
import type { Inspected } from '../web/protocol.ts';
import { make } from './dom.ts';
import type { Shown } from './look-state.ts';
import { paint } from './paint.ts';

/** Blue for less, orange for more: seen on white as on black, and by the colour-blind. */
const [LESS, MORE] = [
  [0, 114, 178],
  [213, 94, 0],
] as const;

/** Mean over channels of a - b, pixel by pixel. */
function difference(a: Float32Array, b: Float32Array, channels: number): Float32Array {
  return Float32Array.from({ length: a.length / channels }, (_, pixel) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += a[pixel * channels + c]! - b[pixel * channels + c]!;
    return sum / channels;
  });
}

const rootMeanSquare = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

const largest = (all: readonly Float32Array[]): number =>
  all.reduce((most, values) => values.reduce((m, value) => Math.max(m, Math.abs(value)), most), 1e-9);

/** Signed numbers on a canvas, the stronger the further from zero; `most` is the strongest. */
function paintSigned(canvas: HTMLCanvasElement, values: Float32Array, width: number, most: number): void {
  const height = values.length / width;
  const image = new ImageData(width, height);
  values.forEach((value, i) => {
    image.data.set(value < 0 ? LESS : MORE, 4 * i);
    image.data[4 * i + 3] = Math.round((255 * Math.abs(value)) / most);
  });
  Object.assign(canvas, { width, height });
  canvas.getContext('2d')!.putImageData(image, 0, 0);
}

/** What was seen, with pictures of latents where there are some. */
export function decodedInspection({ decoded, ...inspection }: Inspected): Inspection {
  if (!decoded) return inspection;
  const [count, ...shape] = decoded.shape;
  const size = decoded.values.length / count;
  const at = (i: number) => decoded.values.subarray(i * size, (i + 1) * size);
  const lengths = inspection.lengths.map((length, i) => ({ ...length, picture: at(i + 1) }));
  return { ...inspection, shape, x: at(0), lengths };
}

/** A figure of the sample under way, and one for each number of blocks. */
export function showPictures(into: HTMLElement, { shape, x, lengths, from }: Inspection, shown: Shown): void {
  const [height, width, channels] = shape;
  const values = lengths.map((length) => length[shown]);
  // Velocities are shown about grey, all on the same scale.
  const scale = shown === 'velocity' ? largest(values) : 1;
  const added = values.map((value, i) => (i === 0 ? null : difference(value, values[i - 1]!, channels)));
  const most = largest(added.filter((each) => each !== null));
  const canvasOf = (label: string) => {
    const canvas = make('canvas', { role: 'img' });
    canvas.setAttribute('aria-label', label);
    return canvas;
  };
  const figure = (label: string, unit: Float32Array, name: string, below: HTMLElement, caption: string) => {
    const canvas = canvasOf(label);
    paint(canvas, { values: unit, shape: [1, height, width, channels] }, 0);
    const title = make('p', { textContent: name });
    return make('figure', {}, canvas, title, below, make('figcaption', { textContent: caption }));
  };
  const legend = make(
    'div',
    { className: 'look-legend' },
    make('span', { textContent: 'What more blocks add' }),
    make('span', { className: 'look-scale' }),
    make('span', { textContent: 'darker to brighter, and its root mean square' }),
  );
  const figures = lengths.map(({ blocks }, i) => {
    const change = added[i]!;
    const size = change && rootMeanSquare(change).toFixed(3);
    const below = change
      ? canvasOf(`What ${blocks} blocks add to ${lengths[i - 1]!.blocks}`)
      : make('div', { className: 'look-none' });
    if (change) paintSigned(below as HTMLCanvasElement, change, width, most);
    const unit = values[i]!.map((value) => value / scale);
    const what = shown === 'velocity' ? 'The velocity' : 'The picture that is expected';
    return figure(`${what} with ${blocks} blocks`, unit, `L ${blocks}`, below, size ? `\u00b1 ${size}` : '\u00a0');
  });
  const underWay = figure('The picture under way', x, `t ${Number(from.toFixed(4))}`, legend, '\u00a0');
  into.replaceChildren(underWay, ...figures);
}
