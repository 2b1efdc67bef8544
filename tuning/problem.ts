/** Problems: a family's shape as a model has it; and running something with one variant forced upon it. */
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import { type ShapeClass, shapeKey } from '../engine/tuning.ts';
import { variantOf } from '../kernels/candidates.ts';
import type { Trial, TunedFamily } from '../kernels/families.ts';
import type { Variant } from '../kernels/family.ts';

/** What one choice is to be made for. */
export interface TuningProblem {
  /** Name of the family. */
  readonly family: string;
  readonly shape: ShapeClass;
  /** Tokens of a sample, for the cases that are timed. */
  readonly tokens: number;
  /** How often the model's programs ask for it. What weighs most is tuned first. */
  readonly uses: number;
}

/** A problem with what its family knows of it. */
export interface Subject {
  readonly problem: TuningProblem;
  readonly family: TunedFamily;
  readonly candidates: readonly Variant[];
  readonly reviewed: Variant;
}

/** @throws UsageError for a family that is none of `families`. */
export function subjectOf(engine: Engine, families: readonly TunedFamily[], problem: TuningProblem): Subject {
  const found = families.find(({ family }) => family.name === problem.family);
  if (!found) throw new UsageError(`there is no family of kernels '${problem.family}'`);
  const { shape } = problem;
  return {
    problem,
    family: found,
    candidates: found.candidates(engine, shape),
    reviewed: found.family.reviewed(engine, shape),
  };
}

/** The case that exercises a problem, for so many samples; of its own number of tokens unless another is given. */
export const trialOf = ({ family, problem }: Subject, samples: number, tokens = problem.tokens): Trial =>
  family.trial(problem.shape, { samples, tokens });

/** Runs `body` on an engine that takes variant `id` for this problem; `asked`: whether anything in it was about the problem. */
export async function withVariant<T>(
  engine: Engine,
  { problem: { family, shape }, family: from }: Subject,
  id: string,
  body: () => T | Promise<T>,
): Promise<{ value: T; asked: boolean }> {
  const before = engine.tuning;
  const key = shapeKey(family, shape);
  let asked = false;
  engine.tuning = {
    variant(on, name, of) {
      if (shapeKey(name, of) !== key) return before?.variant(on, name, of);
      asked = true;
      return variantOf(on, from, of, id);
    },
  };
  try {
    return { value: await body(), asked };
  } finally {
    engine.tuning = before;
  }
}

/** A problem in words: the family, then its shape's fields. */
export const problemText = ({ family, shape }: Pick<TuningProblem, 'family' | 'shape'>): string =>
  `${family} ${Object.entries(shape)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}`;
