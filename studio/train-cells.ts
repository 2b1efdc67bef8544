/** What a run draws with each number of steps and blocks, on the same noise: a table of small planes or of pictures, one of them chosen. */
import { fromUnit, grid } from '../pictures/picture.ts';
import type { Samples } from '../sampling/sampler.ts';
import type { Shown } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { drawPlane } from './train-plane.ts';

/** A place in the table. */
export interface Cell {
  readonly steps: number;
  readonly blocks: number;
}

/** Pictures beside each other in a cell. */
const COLUMNS = 4;

export interface Cells {
  /** An empty table. @param choosable whether a cell is a button. */
  lay(blocks: readonly number[], steps: readonly number[], choosable: boolean): void;
  /** Fills it, in the order of its rows. */
  fill(shown: Shown): void;
  /** Fills it again, in other colours. */
  redraw(): void;
  mark(cell: Cell): void;
}

/** @param onChoose told which cell is to be looked at. */
export function createCells(onChoose: (cell: Cell) => void): Cells {
  const box = byId('train-cells', 'div');
  let canvases: HTMLCanvasElement[] = [];
  let last: Shown = { samples: [], flow: [] };
  const draw = () => {
    for (const [i, each] of last.flow.entries()) drawPlane(canvases[i]!, 190, { flow: each });
    for (const [i, each] of last.samples.entries()) paintAll(canvases[i]!, each);
  };
  return {
    lay(blocks, steps, choosable) {
      canvases = [];
      last = { samples: [], flow: [] };
      const cell = (L: number, T: number) => {
        const canvas = make('canvas', { width: 1, height: 1, className: choosable ? 'train-plane' : 'train-pictures' });
        canvases.push(canvas);
        const label = `${T} steps, ${L} blocks`;
        if (!choosable) {
          canvas.role = 'img';
          canvas.ariaLabel = label;
          return make('td', {}, canvas);
        }
        const button = make('button', { type: 'button', ariaLabel: label }, canvas);
        Object.assign(button.dataset, { steps: T, blocks: L });
        button.addEventListener('click', () => onChoose({ steps: T, blocks: L }));
        return make('td', {}, button);
      };
      const head = make('tr', {}, make('td'));
      head.append(...steps.map((T) => make('th', { scope: 'col', textContent: `T ${T}` })));
      const rows = blocks.map((L) =>
        make('tr', {}, make('th', { scope: 'row', textContent: `L ${L}` }), ...steps.map((T) => cell(L, T))),
      );
      box.replaceChildren(make('table', {}, make('thead', {}, head), make('tbody', {}, ...rows)));
    },
    fill(shown) {
      last = shown;
      draw();
    },
    redraw: draw,
    mark({ steps, blocks }) {
      for (const button of box.querySelectorAll('button')) {
        const { dataset } = button;
        button.ariaPressed = `${dataset.steps === `${steps}` && dataset.blocks === `${blocks}`}`;
      }
    },
  };
}

/** Paints all samples onto one canvas, pixel for pixel. */
function paintAll(canvas: HTMLCanvasElement, { values, shape }: Samples): void {
  const [, height, width, channels] = shape;
  const { pixels, ...size } = grid(fromUnit(values, height, width, channels), { columns: COLUMNS, pad: 1 });
  const image = new ImageData(size.width, size.height);
  for (let i = 0; i < size.width * size.height; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  Object.assign(canvas, { width: size.width, height: size.height });
  canvas.getContext('2d')!.putImageData(image, 0, 0);
}
