/** What a check of `odelt verify` is: a name, a tolerance, and a function that measures an error. */

export type Kind = 'model' | 'forward' | 'storage' | 'gradients' | 'targets' | 'trajectory' | 'sampling';

export interface Measured {
  /** ||out - ref|| / ||ref|| unless the case says otherwise; NaN when there is no output to compare. */
  readonly error: number;
  /** Where the largest error is, or why there is none. */
  readonly detail?: string;
}

/** One recorded result and how to compute it anew. Cases of a group share work: whichever runs first does it. */
export interface Case {
  readonly kind: Kind;
  readonly name: string;
  readonly tolerance: number;
  run(): Promise<Measured>;
}

/** Cases of one golden model that share GPU memory, freed by `dispose` after the last of them. */
export interface CaseGroup {
  readonly cases: readonly Case[];
  /** Recordings that were found but that verify does not replay. */
  readonly skipped: readonly string[];
  dispose(): void;
}

export interface CaseResult extends Measured {
  /** Folder of the golden model. */
  readonly model: string;
  readonly kind: Kind;
  readonly name: string;
  readonly tolerance: number;
  readonly ok: boolean;
}

/** The largest errors that pass, relative to the reference's norm; the recording's own rounding noise may tighten them. */
export const TOLERANCES = {
  parameters: 1e-6,
  forward: 2e-5,
  /** Parameters that make the blocks, and with them attention, dominate the output. */
  strong: 2e-4,
  /** Numbers stored with 11 bits (f16) or 8 (int8), not 24. */
  storage: {
    f16_weights: 2e-3,
    int8_weights: 2e-2,
    f16_activations: 4e-3,
    f16_weights_f16_activations: 4e-3,
    int8_weights_f16_activations: 2e-2,
  },
  gradients: 1e-3,
  /** Of a key bias, by the largest gradient: softmax ignores such a bias, so both sides are rounding noise. */
  keyBiases: 1e-5,
  targets: 1e-4,
  trajectory: 1e-3,
  /** Of the change of all parameters over the recorded run. */
  update: 2e-2,
  sampling: 1e-3,
} as const;

/** Another summation order, and exp and tanh of another maths library, err a few times more than the reference's own float32. */
const NOISE_FACTOR = 20;
const NOISE_FLOOR = 2e-6;

/** `limit`, or less where the reference recorded how far its float32 result is from float64 (`noise`, relative). */
export function tightened(limit: number, noise: number | undefined): number {
  return noise === undefined ? limit : Math.min(limit, Math.max(NOISE_FACTOR * noise, NOISE_FLOOR));
}

/**
 * ||actual - expected|| / ||expected||, or by `floor` where that is larger: 0 when both are zero, NaN when the numbers of
 * elements differ.
 */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>, floor = 0): number {
  if (actual.length !== expected.length) return Number.NaN;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference) / Math.max(Math.sqrt(norm), floor);
}

/** |actual - expected| by |expected|, or by `floor` where that is larger: for values that may be rounding noise only. */
export const scalarError = (actual: number, expected: number, floor = 0): number =>
  actual === expected ? 0 : Math.abs(actual - expected) / Math.max(Math.abs(expected), floor);

/** The largest of several errors (NaN counts as the largest) and whose it is. */
export function worst(errors: Iterable<readonly [string, number]>): Measured {
  let found: readonly [string, number] | undefined;
  for (const entry of errors) {
    if (!found || Number.isNaN(entry[1]) || entry[1] > found[1]) found = entry;
    if (Number.isNaN(entry[1])) break;
  }
  return found
    ? { error: found[1], detail: `largest: ${found[0]}` }
    : { error: Number.NaN, detail: 'nothing recorded' };
}

/** Runs `work` when first asked, and gives everybody its promise. */
export function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let promise: Promise<T> | undefined;
  return () => {
    promise ??= work();
    return promise;
  };
}

/** The cases of one file, or, where it cannot be read, one case that fails naming it. */
export async function casesOf(kind: Kind, file: string, find: () => Promise<Case[]>): Promise<Case[]> {
  try {
    return await find();
  } catch (error) {
    return [{ kind, name: file, tolerance: 0, run: () => Promise.reject(error) }];
  }
}
