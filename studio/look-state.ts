/** Where to look inside a sample, and how that stands in the address. Pure: knows neither page nor worker. */
import type { Changes } from './address.ts';
import { whole } from './state.ts';

/** What of a velocity is shown: itself, or the picture that it leads to. */
export type Shown = 'picture' | 'velocity';

/** Null is a choice that is left to the page: the step and the patch in the middle, the last block. */
export interface Look {
  readonly step: number | null;
  readonly block: number | null;
  /** Null: the mean of all. */
  readonly head: number | null;
  readonly patch: number | null;
  readonly shown: Shown;
}

/** What the address says of it. Steps, blocks and heads are counted from 1 there, as on the page. */
export function lookOf(given: URLSearchParams): Look {
  const counted = (name: string) => {
    const n = whole(given.get(name), (value) => value >= 1);
    return n === undefined ? null : n - 1;
  };
  return {
    step: counted('step'),
    block: counted('block'),
    head: counted('head'),
    patch: counted('patch'),
    shown: given.get('show') === 'velocity' ? 'velocity' : 'picture',
  };
}

/** What the address says of a look: what is not left to the page. */
export function lookChanges({ step, block, head, patch, shown }: Look): Changes {
  const counted = (n: number | null) => (n === null ? null : `${n + 1}`);
  return {
    step: counted(step),
    block: counted(block),
    head: counted(head),
    patch: counted(patch),
    show: shown === 'picture' ? null : shown,
  };
}

/** The look that there is: at one of so many steps, blocks, heads and patches. */
export function fittedLook(
  look: Look,
  { steps, blocks, heads, patches }: { steps: number; blocks: number; heads: number; patches: number },
): Look & { readonly step: number; readonly block: number; readonly patch: number } {
  const within = (n: number | null, count: number, otherwise: number) => (n === null || n >= count ? otherwise : n);
  const side = Math.sqrt(patches);
  return {
    ...look,
    step: within(look.step, steps, Math.floor(steps / 2)),
    block: within(look.block, blocks, blocks - 1),
    head: look.head !== null && look.head < heads ? look.head : null,
    patch: within(look.patch, patches, Math.floor(side / 2) * (side + 1)),
  };
}
