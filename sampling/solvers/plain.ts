/** The same methods on plain arrays in double precision: what the tableaux, the controller and the loop are held against. */
import type { Machine } from './integrate.ts';
import type { Tableau } from './tableaux.ts';

/** Velocity at (t, y). */
export type Field = (t: number, y: readonly number[]) => readonly number[];

/** y + h sum_j row[j] k_j. */
const along = (y: readonly number[], h: number, row: readonly number[], k: readonly (readonly number[])[]): number[] =>
  y.map((value, e) => value + h * row.reduce((sum, a, j) => sum + a * k[j]![e]!, 0));

/** Velocities at all stages of a step; the first where it is known. */
function stagesOf(field: Field, { nodes, stages }: Tableau, from: number, to: number, y: readonly number[]) {
  const k: (readonly number[])[] = [];
  for (const [i, row] of stages.entries()) {
    const node = nodes[i]!;
    k.push(field(node === 1 ? to : from + node * (to - from), along(y, to - from, row, k)));
  }
  return k;
}

/** `steps` equal steps from 0 to 1. */
export function solveFixed(field: Field, tableau: Tableau, start: readonly number[], steps: number): number[] {
  let y = [...start];
  for (let i = 0; i < steps; i++) {
    const k = stagesOf(field, tableau, i / steps, (i + 1) / steps, y);
    y = along(y, 1 / steps, tableau.weights, k);
  }
  return y;
}

const rms = (values: readonly number[]) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);

/** A machine for `integrate` that starts at `start`; `states` are the accepted ones so far. */
export function plainMachine(
  field: Field,
  tableau: Tableau,
  start: readonly number[],
  tolerance: number,
): Machine & { readonly states: readonly (readonly number[])[] } {
  const states: (readonly number[])[] = [];
  let y = start;
  let next = start;
  const scaled = (values: readonly number[], end: readonly number[]) =>
    rms(values.map((x, e) => x / (tolerance + tolerance * Math.max(Math.abs(y[e]!), Math.abs(end[e]!)))));
  return {
    states,
    async attempt(from, to) {
      const k = stagesOf(field, tableau, from, to, y);
      next = along(y, to - from, tableau.weights, k);
      const nothing = y.map(() => 0);
      return scaled(along(nothing, to - from, tableau.error ?? [], k), next);
    },
    accept() {
      y = next;
      states.push(y);
    },
    norms: async () => ({ state: scaled(y, y), velocity: scaled(field(0, y), y) }),
    async bend(h) {
      const k = field(0, y);
      const end = along(y, h, [1], [k]);
      const other = field(h, end);
      return scaled(
        k.map((value, e) => (other[e]! - value) / h),
        end,
      );
    },
  };
}
