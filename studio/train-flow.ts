/** The large view of a flow: one number of steps and blocks, at a time that is chosen or runs. */
import type { Flow } from '../evaluation/flow.ts';
import { byId } from './dom.ts';
import type { Cell } from './train-cells.ts';
import { drawPlane } from './train-plane.ts';
import { flowNoise } from './train-request.ts';
import { count } from './words.ts';

/** Milliseconds from noise to data. */
const LASTS = 2500;

export interface FlowView {
  clear(): void;
  /** What has been drawn with every number of steps and blocks. */
  show(flows: readonly Flow[]): void;
  choose(cell: Cell): void;
  redraw(): void;
}

/** @param points what is learnt. */
export function createFlowView(points: () => Float32Array): FlowView {
  const canvas = byId('train-flow', 'canvas');
  const slider = byId('train-t', 'input');
  const play = byId('train-play', 'button');
  let flows: readonly Flow[] = [];
  let cell: Cell | null = null;
  let began: number | null = null;

  function redraw(): void {
    const flow = flows.find(({ steps, blocks }) => steps === cell?.steps && blocks === cell.blocks);
    const t = slider.valueAsNumber;
    slider.disabled = play.disabled = !flow;
    slider.setAttribute('aria-valuetext', `time ${t.toFixed(2)}`);
    if (!flow) {
      const noise = flowNoise();
      drawPlane(canvas, 480, { flow: { steps: 1, blocks: 0, ways: noise, field: new Float32Array(0) }, t: 0 });
      canvas.setAttribute('aria-label', 'Noise, which has not been moved yet');
      byId('train-cell', 'p').textContent = 'Noise. Train, and see where it goes.';
      return;
    }
    drawPlane(canvas, 480, { points: points(), flow, t, arrows: true });
    const what = `${count(flow.steps, 'step')} with ${count(flow.blocks, 'block')}`;
    canvas.setAttribute('aria-label', `Noise moved in ${what}, at time ${t.toFixed(2)}`);
    byId('train-cell', 'p').textContent = `${what}, at time ${t.toFixed(2)}: arrows are velocities.`;
  }

  function frame(now: number): void {
    if (began === null) return;
    const t = Math.min(1, (now - began) / LASTS);
    slider.value = `${t}`;
    redraw();
    if (t < 1) requestAnimationFrame(frame);
    else began = null;
  }

  slider.addEventListener('input', () => {
    began = null;
    redraw();
  });
  play.addEventListener('click', () => {
    const running = began !== null;
    began = performance.now();
    if (!running) requestAnimationFrame(frame);
  });
  redraw();
  return {
    clear() {
      flows = [];
      redraw();
    },
    show(next) {
      flows = next;
      redraw();
    },
    choose(next) {
      cell = next;
      redraw();
    },
    redraw,
  };
}
