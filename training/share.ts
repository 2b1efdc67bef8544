/**
 * Where several processes divide the optimizer's state: which elements of the parameters each of them updates, and so keeps the moments
 * and, where no target needs it whole, the moving average of. Rank r of n has the r-th n-th of every buffer of the parameters, to whole
 * lines of 64 floats, so that shares differ by a line of each buffer at most. Pure, but for `wholeOf`.
 */
import type { Communicator } from '../cluster/communicator.ts';
import { ALIGNMENT, layoutOf, type ParamLayout, type ParamSet, placed, zero, zeroParams } from '../model/params.ts';
import { storedGroup } from '../model/weights/quantize.ts';

/** Elements first .. end - 1; both are multiples of 64. */
export interface Share {
  readonly first: number;
  readonly end: number;
}

/** One buffer of the parameters, as `Weights.parts` has them. */
export interface SharedBuffer {
  /** The group whose values it holds, and where they begin in the group's own. */
  readonly group: number;
  readonly start: number;
  readonly length: number;
  /** The share of each rank. */
  readonly shares: readonly Share[];
}

/** Who keeps what. */
export interface Division {
  readonly rank: number;
  readonly size: number;
  readonly buffers: readonly SharedBuffer[];
  /** Whether the moving average is divided, too. */
  readonly average: boolean;
}

/** The shares of `size` processes in a buffer of `length` floats, a multiple of 64: without gaps, in the order of ranks. */
export function sharesOf(length: number, size: number): Share[] {
  const lines = length / ALIGNMENT;
  const start = (rank: number) => Math.floor((lines * rank) / size) * ALIGNMENT;
  return Array.from({ length: size }, (_, rank) => ({ first: start(rank), end: start(rank + 1) }));
}

/** Divides a model's state. `largest`: bytes of a buffer of weights at most; a matrix that is larger cannot be trained (`Weights.get`). */
export function divide(
  layout: ParamLayout,
  largest: number,
  { rank, size }: Pick<Communicator, 'rank' | 'size'>,
  average: boolean,
): Division {
  const buffers = layout.groups.flatMap((of, group) => {
    const { params, parts } = storedGroup(of, 'f32', largest);
    return parts.map((bytes, part): SharedBuffer => {
      const { spec } = params.find((param) => param.part === part)!;
      return { group, start: spec.offset, length: bytes / 4, shares: sharesOf(bytes / 4, size) };
    });
  });
  return { rank, size, buffers, average };
}

/** Bytes of the optimizer's state, both moments and the average: of one process, and of one that has all of it. */
export function stateBytes({ buffers, rank, average }: Division): { readonly own: number; readonly whole: number } {
  const all = buffers.reduce((sum, { length }) => sum + length, 0);
  const share = buffers.reduce((sum, { shares }) => sum + shares[rank]!.end - shares[rank]!.first, 0);
  return { own: 4 * (2 * share + (average ? share : all)), whole: 12 * all };
}

/** What a rank keeps, as a layout: one group for each buffer of the parameters. */
export function shareLayout({ buffers, rank }: Division): ParamLayout {
  return layoutOf(
    buffers.map(({ shares }, b) => {
      const { first, end } = shares[rank]!;
      return placed(`share${b}`, [{ name: `share${b}`, shape: [end - first], init: zero }]);
    }),
  );
}

/** A rank's share of values, as views of them. */
export function shareOf(set: ParamSet, division: Division): ParamSet {
  const groups = division.buffers.map(({ group, start, shares }) => {
    const { first, end } = shares[division.rank]!;
    return set.groups[group]!.subarray(start + first, start + end);
  });
  return { layout: shareLayout(division), groups };
}

/** All values of which each process has its share, on the first; null on the others. All must call it. @throws ClusterError. */
export async function wholeOf(
  own: ParamSet,
  layout: ParamLayout,
  { buffers, rank }: Division,
  communicator: Communicator,
): Promise<ParamSet | null> {
  const set = rank === 0 ? zeroParams(layout) : null;
  for (const [b, { group, start, shares }] of buffers.entries()) {
    const values = await communicator.gather(
      own.groups[b]!,
      shares.map(({ first, end }) => end - first),
    );
    if (set && values) set.groups[group]!.set(values, start);
  }
  return set;
}
