/** Attention of one patch as a heat map over the picture: patches are buttons, chosen by click and by arrow keys. */
import type { AttentionInside } from '../sampling/inspect.ts';
import { byId, make } from './dom.ts';

/** What a patch takes of every patch [tokens], by one head or by the mean of all. */
export function attentionRow(
  { heads, side, weights }: Pick<AttentionInside, 'heads' | 'side' | 'weights'>,
  patch: number,
  head: number | null,
): Float32Array {
  const tokens = side * side;
  const of = (h: number) => weights.subarray((h * tokens + patch) * tokens, (h * tokens + patch + 1) * tokens);
  if (head !== null) return of(head);
  const mean = new Float32Array(tokens);
  for (let h = 0; h < heads; h++) {
    for (const [j, weight] of of(h).entries()) mean[j] = mean[j]! + weight / heads;
  }
  return mean;
}

const percent = (weight: number): string => `${(100 * weight).toFixed(1)}\u00a0%`;

export interface AttentionMap {
  show(attention: AttentionInside, patch: number, head: number | null): void;
}

/** @param onChoose told which patch is wanted. */
export function createAttentionMap(onChoose: (patch: number) => void): AttentionMap {
  const grid = byId('look-patches', 'div');
  const text = byId('look-attention-text', 'p');
  let side = 0;
  grid.addEventListener('click', ({ target }) => {
    const index = [...grid.children].indexOf(target as Element);
    if (index >= 0) onChoose(index);
  });
  grid.addEventListener('keydown', (event) => {
    const index = [...grid.children].indexOf(event.target as Element);
    const [row, column] = [Math.floor(index / side), index % side];
    const moves: Readonly<Record<string, readonly [row: number, column: number]>> = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, side - 1],
    };
    const move = moves[event.key];
    if (!move || index < 0) return;
    event.preventDefault();
    const [r, c] = move;
    if (r < 0 || c < 0 || r >= side || c >= side) return;
    onChoose(r * side + c);
    (grid.children[r * side + c] as HTMLElement).focus();
  });
  return {
    show(attention, patch, head) {
      if (side !== attention.side) {
        side = attention.side;
        grid.style.setProperty('--side', `${side}`);
        grid.replaceChildren(...Array.from({ length: side * side }, () => make('button', { type: 'button' })));
      }
      const row = attentionRow(attention, patch, head);
      const place = (i: number) => `row ${Math.floor(i / side) + 1}, column ${(i % side) + 1}`;
      const [least, most] = [Math.min(...row), Math.max(...row)];
      const strongest = row.indexOf(most);
      for (const [i, button] of [...grid.children].entries() as Iterable<[number, HTMLElement]>) {
        button.style.setProperty('--heat', `${(row[i]! - least) / Math.max(most - least, 1e-9)}`);
        button.setAttribute('aria-label', `${place(i)}: ${percent(row[i]!)}`);
        button.setAttribute('aria-pressed', `${i === patch}`);
        button.tabIndex = i === patch ? 0 : -1;
      }
      const from = strongest === patch ? 'itself' : place(strongest);
      text.textContent =
        `The patch in ${place(patch)} takes most from ${from}: ${percent(most)}, where it is brightest. ` +
        `From itself it takes ${percent(row[patch]!)}, and from others as little as ${percent(least)}; ` +
        `if it looked at all alike, each would have ${percent(1 / row.length)}.`;
    },
  };
}
