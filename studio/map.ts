/** The map of T x L: one noise drawn in every cell, with the time that it took. */
import { usualSteps } from '../model/config.ts';
import type { LoadedModel, Sampled } from '../web/protocol.ts';
import { byId, make } from './dom.ts';
import { paint } from './paint.ts';
import { STEPS, type State } from './state.ts';
import { time } from './words.ts';

/** A place in the map. */
export type Cell = Pick<State, 'steps'> & { readonly blocks: number };

export interface MapOptions {
  readonly model: LoadedModel;
  /** What is drawn in each cell. */
  readonly caption: string;
  draw(cell: Cell): Promise<Sampled>;
  onChoose(cell: Cell): void;
}

/** Draws the map cell by cell, few blocks and few steps first. @throws what `draw` throws; what has been drawn stays. */
export async function drawMap({ model, caption, draw, onChoose }: MapOptions): Promise<void> {
  const known = usualSteps(model.config, STEPS);
  const cells = model.lengths.map(({ blocks }) =>
    known.map((steps) => {
      const canvas = make('canvas', { width: 1, height: 1 });
      const said = make('span', { textContent: '\u00a0' });
      const button = make('button', { type: 'button', disabled: true }, canvas, said);
      button.addEventListener('click', () => onChoose({ steps, blocks }));
      Object.assign(button.dataset, { steps, blocks });
      return { steps, blocks, canvas, said, button };
    }),
  );
  const head = make('tr', {}, make('th', { scope: 'col', textContent: '' }));
  head.append(...known.map((steps) => make('th', { scope: 'col', textContent: `T ${steps}` })));
  const rows = cells.map((row) => {
    const title = make('th', { scope: 'row', textContent: `L ${row[0]!.blocks}` });
    return make('tr', {}, title, ...row.map(({ button }) => make('td', {}, button)));
  });
  head.firstElementChild!.replaceWith(make('td'));
  const table = make('table', {}, make('caption', { textContent: caption }), make('thead', {}, head));
  table.append(make('tbody', {}, ...rows));
  byId('map', 'div').replaceChildren(table);
  for (const { steps, blocks, canvas, said, button } of cells.flat()) {
    const pictures = await draw({ steps, blocks });
    paint(canvas, pictures, 0);
    said.textContent = time(pictures.milliseconds);
    button.setAttribute('aria-label', `${steps} steps, ${blocks} blocks: ${time(pictures.milliseconds)}`);
    button.disabled = false;
  }
}

/** Marks the cell that is chosen, where there is a map. */
export function markMap({ steps, blocks }: Cell): void {
  for (const button of byId('map', 'div').querySelectorAll('button')) {
    const { dataset } = button;
    button.setAttribute('aria-pressed', `${dataset.steps === `${steps}` && dataset.blocks === `${blocks}`}`);
  }
}
