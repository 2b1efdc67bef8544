/**
 * The memory planner: places tensors with known lifetimes into as few bytes as it can. Pure; runs without a device.
 *
 * Greedy by size (largest first; Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference"), each at
 * the lowest offset that is free for its whole lifetime, in slabs of at most `slabLimit` bytes (a device's largest buffer).
 */
import { LimitError } from '../errors.ts';

export interface Lifetime {
  readonly label: string;
  readonly bytes: number;
  /** Index of the first and of the last dispatch that touches it. */
  readonly first: number;
  readonly last: number;
}

/** A place in a slab, in bytes from its start. */
export interface Placement {
  readonly slab: number;
  readonly offset: number;
}

/** Where every planned tensor lies, and what that takes. */
export interface Plan {
  readonly placements: readonly Placement[];
  /** Size of each slab in bytes. */
  readonly slabs: readonly number[];
  readonly bytes: number;
  /** The most bytes alive at any one dispatch: no plan can do with less. */
  readonly lowerBound: number;
}

export function plan(lifetimes: readonly Lifetime[], slabLimit: number, alignment = 256): Plan {
  const sizes = lifetimes.map((t) => Math.ceil(t.bytes / alignment) * alignment);
  const order = lifetimes.map((_, i) => i).sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const placements: Placement[] = new Array(lifetimes.length);
  const slabs: { end: number; placed: number[] }[] = [];
  for (const i of order) {
    const { label, first, last } = lifetimes[i]!;
    const size = sizes[i]!;
    if (size > slabLimit) {
      throw new LimitError(
        `tensor '${label}' needs ${size} bytes; the device allows ${slabLimit} in one buffer`,
        { asked: size, available: slabLimit },
        { hint: 'use a smaller batch' },
      );
    }
    for (let slab = 0; placements[i] === undefined; slab++) {
      if (!slabs[slab]) slabs[slab] = { end: 0, placed: [] };
      const { placed } = slabs[slab]!;
      const overlapping = placed
        .filter((j) => lifetimes[j]!.first <= last && first <= lifetimes[j]!.last)
        .map((j) => ({ start: placements[j]!.offset, end: placements[j]!.offset + sizes[j]! }))
        .sort((a, b) => a.start - b.start);
      let offset = 0;
      for (const o of overlapping) {
        if (o.start - offset >= size) break;
        offset = Math.max(offset, o.end);
      }
      if (offset + size > slabLimit) continue;
      placements[i] = { slab, offset };
      placed.push(i);
      slabs[slab]!.end = Math.max(slabs[slab]!.end, offset + size);
    }
  }
  const ends = slabs.map((s) => s.end);
  return { placements, slabs: ends, bytes: ends.reduce((a, b) => a + b, 0), lowerBound: lowerBound(lifetimes, sizes) };
}

function lowerBound(lifetimes: readonly Lifetime[], sizes: readonly number[]): number {
  const change = new Map<number, number>();
  lifetimes.forEach((t, i) => {
    change.set(t.first, (change.get(t.first) ?? 0) + sizes[i]!);
    change.set(t.last + 1, (change.get(t.last + 1) ?? 0) - sizes[i]!);
  });
  let live = 0;
  let most = 0;
  for (const at of [...change.keys()].sort((a, b) => a - b)) {
    live += change.get(at)!;
    most = Math.max(most, live);
  }
  return most;
}
