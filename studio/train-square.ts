/** The square in which points are drawn by hand, or filled from a shape by a button. */
import { POINT_SHAPES, pointsOf } from '../training/points.ts';
import { byId, make } from './dom.ts';
import { drawPlane } from './train-plane.ts';
import { REACH } from './train-request.ts';
import { count } from './words.ts';

/** Points of a shape; most that are kept; those that one touch of the brush leaves, and how far around it. */
const OF_SHAPE = 1000;
const MOST = 5000;
const TOUCH = 4;
const BRUSH = 0.12;

export interface Square {
  /** [points, 2] */
  readonly points: Float32Array;
  set(points: Float32Array): void;
  redraw(): void;
}

/** @param onChange told when there are other points. */
export function createSquare(onChange: () => void): Square {
  const canvas = byId('train-square', 'canvas');
  const said = byId('train-count', 'p');
  let points: Float32Array<ArrayBufferLike> = pointsOf('two moons', OF_SHAPE);
  let drawing = false;
  const redraw = () => {
    drawPlane(canvas, 480, { points });
    const number = count(points.length / 2, 'point');
    canvas.setAttribute('aria-label', `${number} to learn`);
    said.textContent =
      points.length === 0 ? 'Draw some points, or choose a shape.' : `${number}. Draw more, or choose a shape.`;
  };
  const set = (next: Float32Array) => {
    points = next;
    redraw();
    onChange();
  };
  const spray = ({ clientX, clientY }: PointerEvent) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const [x, y] = [((clientX - left) / width - 0.5) * 2 * REACH, (0.5 - (clientY - top) / height) * 2 * REACH];
    const inside = (v: number) => Math.min(REACH, Math.max(-REACH, v + BRUSH * (2 * Math.random() - 1)));
    const more = Float32Array.from({ length: 2 * TOUCH }, (_, i) => inside(i % 2 === 0 ? x : y));
    set(Float32Array.from([...points, ...more].slice(-2 * MOST)));
  };
  canvas.addEventListener('pointerdown', (event) => {
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    spray(event);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (drawing) spray(event);
  });
  for (const end of ['pointerup', 'pointercancel'] as const) {
    canvas.addEventListener(end, () => {
      drawing = false;
    });
  }
  const capital = (text: string) => `${text[0]!.toUpperCase()}${text.slice(1)}`;
  const shapes = POINT_SHAPES.map((shape) => {
    const button = make('button', { type: 'button', textContent: capital(shape) });
    button.addEventListener('click', () => set(pointsOf(shape, OF_SHAPE)));
    return button;
  });
  const clear = make('button', { type: 'button', textContent: 'Clear' });
  clear.addEventListener('click', () => set(new Float32Array(0)));
  byId('train-shapes', 'div').replaceChildren(...shapes, clear);
  redraw();
  return {
    get points() {
      return points;
    },
    set,
    redraw,
  };
}
