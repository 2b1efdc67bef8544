/** The plane on canvases: points, the ways that noise takes to them, and the velocities there. */
import type { Flow } from '../evaluation/flow.ts';
import { FLOW_PLACES, FLOW_SAMPLES, REACH } from './train-request.ts';

/** Pixels of a canvas's side, for each pixel of its place on the page: lines stay fine on any screen. */
const DENSITY = 2;

/** What is drawn, from back to front. */
export interface PlaneView {
  /** [points, 2]: what is learnt. */
  readonly points?: Float32Array;
  readonly flow?: Flow;
  /** Of the flow: from 0, noise, to 1. */
  readonly t?: number;
  /** Whether velocities are drawn as arrows. */
  readonly arrows?: boolean;
}

/** Draws on a canvas of `side` pixels of the page. */
export function drawPlane(canvas: HTMLCanvasElement, side: number, { points, flow, t = 1, arrows }: PlaneView): void {
  const pixels = side * DENSITY;
  if (canvas.width !== pixels) Object.assign(canvas, { width: pixels, height: pixels });
  const context = canvas.getContext('2d')!;
  const colours = getComputedStyle(canvas);
  const colour = (name: string) => colours.getPropertyValue(name).trim();
  const unit = pixels / (2 * REACH);
  context.setTransform(unit, 0, 0, -unit, pixels / 2, pixels / 2);
  context.clearRect(-REACH, -REACH, 2 * REACH, 2 * REACH);
  const dot = (x: number, y: number, radius: number) => {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  };
  const fine = DENSITY / unit;
  if (points) {
    context.fillStyle = colour(flow ? '--faint' : '--ink');
    context.beginPath();
    for (let i = 0; i < points.length; i += 2) dot(points[i]!, points[i + 1]!, (flow ? 1.1 : 1.4) * fine);
    context.fill();
  }
  if (!flow) return;
  if (arrows) {
    context.strokeStyle = colour('--soft');
    drawField(context, flow, t, fine);
  }
  context.strokeStyle = colour('--accent');
  context.lineWidth = 0.8 * fine;
  context.globalAlpha = side < 200 ? 0.22 : 0.3;
  context.beginPath();
  for (let i = 0; i < FLOW_SAMPLES; i++) {
    for (const [n, [x, y]] of wayTo(flow, i, t).entries()) n === 0 ? context.moveTo(x, y) : context.lineTo(x, y);
  }
  context.stroke();
  context.globalAlpha = 1;
  context.fillStyle = colour('--accent');
  context.beginPath();
  for (let i = 0; i < FLOW_SAMPLES; i++) {
    const [x, y] = wayTo(flow, i, t).at(-1)!;
    dot(x, y, (side < 200 ? 1.1 : 2.2) * fine);
  }
  context.fill();
}

/** Where sample `i` has been by time `t`: straight from step to step. */
function wayTo({ steps, ways }: Flow, i: number, t: number): [number, number][] {
  const at = (step: number, axis: 0 | 1) => ways[(step * FLOW_SAMPLES + i) * 2 + axis]!;
  const reached = Math.min(steps, t * steps);
  const whole = Math.floor(reached);
  const way = Array.from({ length: whole + 1 }, (_, step): [number, number] => [at(step, 0), at(step, 1)]);
  const part = reached - whole;
  if (part > 0) {
    const between = (axis: 0 | 1) => at(whole, axis) + part * (at(whole + 1, axis) - at(whole, axis));
    way.push([between(0), between(1)]);
  }
  return way;
}

/** Arrows of the step that is under way at `t`, none longer than the way to the next. */
function drawField(context: CanvasRenderingContext2D, { steps, field }: Flow, t: number, fine: number): void {
  const step = Math.min(steps - 1, Math.floor(t * steps));
  const gap = (2 * REACH) / FLOW_PLACES;
  context.lineWidth = 1.1 * fine;
  context.globalAlpha = 0.55;
  context.beginPath();
  for (let i = 0; i < FLOW_PLACES ** 2; i++) {
    const [column, row] = [i % FLOW_PLACES, Math.floor(i / FLOW_PLACES)];
    const at = 2 * (step * FLOW_PLACES ** 2 + i);
    const [vx, vy] = [field[at]!, field[at + 1]!];
    const speed = Math.hypot(vx, vy);
    if (speed < 0.05) continue;
    const length = gap * 0.8 * Math.min(1, speed / 3);
    const [dx, dy] = [vx / speed, vy / speed];
    const [x, y] = [(column + 0.5) * gap - REACH - (dx * length) / 2, (row + 0.5) * gap - REACH - (dy * length) / 2];
    const [endX, endY] = [x + dx * length, y + dy * length];
    const head = Math.min(0.35 * length, 0.09);
    context.moveTo(x, y);
    context.lineTo(endX, endY);
    context.moveTo(endX - head * (dx + 0.6 * dy), endY - head * (dy - 0.6 * dx));
    context.lineTo(endX, endY);
    context.lineTo(endX - head * (dx - 0.6 * dy), endY - head * (dy + 0.6 * dx));
  }
  context.stroke();
  context.globalAlpha = 1;
}
