/** Every family of kernels with what it may choose among, and tuning that says which: pages without tuning load none of it. */
import { UsageError } from '../engine/errors.ts';
import { type Runner, type ShapeClass, shapeKey, type Tuning, type TuningChoice } from '../engine/tuning.ts';
import { attentionCandidates } from './attention/candidates.ts';
import { convolutionCandidates } from './conv/candidates.ts';
import type { Candidates, Variant } from './family.ts';
import { productCandidates } from './matmul/candidates.ts';
import { normCandidates } from './norm/candidates.ts';
import { tokenSumCandidates } from './token-sums.ts';

/** Of all families. */
const ALL = [
  productCandidates,
  normCandidates,
  tokenSumCandidates,
  attentionCandidates,
  convolutionCandidates,
] as unknown as readonly Candidates[];

/**
 * The variant of that id.
 * @throws UsageError where there is none on the engine's device, or no such family.
 */
export function variantOf(engine: Runner, { family, candidates }: Candidates, shape: ShapeClass, id: string): Variant {
  const all = candidates(engine, shape);
  const found = all.find((v) => v.id === id);
  if (found) return found;
  throw new UsageError(
    `tuning asks for '${id}' for ${family.name} ${JSON.stringify(shape)}, which is none of its variants`,
    { hint: `on this device there are ${all.map((v) => v.id).join(', ')}; tune again` },
  );
}

/**
 * Tuning by a rule of your own: the id of the variant for a family's shape, or undefined to leave the family its choice. What the rule
 * makes is not known beforehand, so that training runs cannot write it down: they need `tuningOf`. `families`: default odelt's.
 */
export function tuningBy(
  idOf: (family: string, shape: ShapeClass) => string | undefined,
  families: readonly Candidates[] = ALL,
): Tuning {
  return {
    variant(engine, name, shape) {
      const id = idOf(name, shape);
      const found = families.find(({ family }) => family.name === name);
      return id === undefined || !found ? undefined : variantOf(engine, found, shape, id);
    },
  };
}

/** Tuning that makes these choices, in one order for equal ones; of two for one shape the last. `families`: default odelt's. */
export function tuningOf(choices: readonly TuningChoice[], families?: readonly Candidates[]): Tuning {
  const known = new Map(choices.map((c) => [shapeKey(c.family, c.shape), c]));
  return {
    ...tuningBy((family, shape) => known.get(shapeKey(family, shape))?.variant, families),
    choices: [...known].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, choice]) => choice),
  };
}
