/**
 * Differences of cells. Sample n of every cell starts from the same noise, is of the same class, and is in the same resampled sets: what
 * chance does to one cell it does to the others, so that a difference is known far better than either distance.
 */
import { intervalOf, type Measured } from './measured.ts';
import { type BehindBest, type Cell, keyOf } from './results.ts';

/**
 * By how much the Fréchet distance of `a` is above that of `b`, of the same evaluation, with the interval of 95 % of the difference (that
 * of the resampled sets which both have); undefined where there are fewer than two.
 */
export function pairedDifference(
  a: Pick<Cell, 'fd' | 'resampled'>,
  b: Pick<Cell, 'fd' | 'resampled'>,
): Measured | undefined {
  const [own, other] = [a.resampled ?? [], b.resampled ?? []];
  const sets = Math.min(own.length, other.length);
  if (sets < 2) return undefined;
  const differences = Array.from({ length: sets }, (_, i) => own[i]! - other[i]!);
  return intervalOf(a.fd.value - b.fd.value, differences);
}

/** All cells beside the best of those that have resampled sets; undefined where none has. */
export function behindBest(cells: readonly Cell[]): BehindBest | undefined {
  const compared = cells.filter(({ resampled = [] }) => resampled.length > 1);
  if (compared.length === 0) return undefined;
  const best = compared.reduce((a, b) => (b.fd.value < a.fd.value ? b : a));
  const others = compared.filter((cell) => cell !== best);
  return {
    best: keyOf(best),
    cells: others.map((cell) => ({ ...keyOf(cell), behind: pairedDifference(cell, best)! })),
  };
}
