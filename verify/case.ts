/** What a check of `odelt verify` is: a name, a tolerance, and a function that measures an error. */

/** What is compared: the first part of a case's name after its model. */
export type Kind =
  | 'recording'
  | 'solver'
  | 'random'
  | 'evaluation'
  | 'model'
  | 'checkpoint'
  | 'forward'
  | 'storage'
  | 'autoencoder'
  | 'gradients'
  | 'targets'
  | 'trajectory'
  | 'sampling';

export interface Measured {
  /** ||out - ref|| / ||ref||, of the sample with the largest where there are several, unless the case says otherwise; NaN when there is no output to compare. */
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

/** How a case went; `ok`: its error is within the tolerance. */
export interface CaseResult extends Measured {
  /** Folder of the golden model. */
  readonly model: string;
  readonly kind: Kind;
  readonly name: string;
  readonly tolerance: number;
  readonly ok: boolean;
}

/**
 * The largest errors that pass, relative to the reference's norm, of the worst sample where a recording has several; the recording's
 * own rounding noise may tighten them. Ten to twenty times the largest that lavapipe and SwiftShader have (in brackets), as GPUs
 * contract and reorder differently: no more, since a tolerance hides every fault that is smaller.
 */
export const TOLERANCES = {
  /** Without a GPU: sums in double precision (3e-14). */
  parameters: 1e-12,
  /** Without a GPU: solves in double precision, whose errors grow from step to step (1.8e-8). */
  solver: 2e-7,
  /** Without a GPU: random numbers, to the bit. */
  random: 0,
  /** Without a GPU; roots of what is zero but for rounding, in covariances of lower rank, are in the recorded values (7e-7). */
  distances: 6e-6,
  /** Without a GPU: sums over a leaf of a checkpoint, in another order (2.6e-14). */
  sums: 4e-13,
  /** Without a GPU: times, levels and labels, to the bit. */
  rows: 0,
  /** Without a GPU; recorded in float32 (1.6e-7). */
  learningRate: 2e-6,
  /** (2.6e-7) */
  forward: 4e-6,
  /** Of the time and the step: cosines of up to 1,000 times a frequency, whose last digit counts (7.2e-7). */
  embeddings: 8e-6,
  /** Of PyTorch's DiT, whose frequencies differ by rounding and are multiplied by up to 999 (1.2e-6, with a guidance of 4). */
  pytorch: 2e-5,
  /** Of autoencoders of latents: encodes and decodes of each picture. */
  autoencoder: 1e-5,
  /** Of Stable Diffusion's, by the largest value. */
  deepAutoencoder: 1e-4,
  /** Without a GPU: recorded in float32. */
  gaussian: 2e-6,
  /** Parameters that make the blocks, and with them attention, dominate the output (1.6e-6). */
  strong: 2e-5,
  /**
   * Numbers stored with 11 bits (f16) or 8 (int8), not 24: three times the error (in brackets), which is that of rounding them and
   * the same on every adapter.
   */
  storage: {
    /** (3.3e-4, 4.0e-4, 1.3e-3, 1.3e-3, 1.3e-3) */
    plain: {
      f16_weights: 1e-3,
      int8_weights: 1.2e-3,
      f16_activations: 4e-3,
      f16_weights_f16_activations: 4e-3,
      int8_weights_f16_activations: 4e-3,
    },
    /** (1.0e-3, 1.1e-2, 9.0e-4, 1.3e-3, 1.1e-2) */
    strong: {
      f16_weights: 3e-3,
      int8_weights: 3e-2,
      f16_activations: 3e-3,
      f16_weights_f16_activations: 4e-3,
      int8_weights_f16_activations: 3e-2,
    },
  },
  /** Of every parameter, and of the loss and the norm (1.1e-6). */
  gradients: 2e-5,
  /** (1.1e-5) */
  strongGradients: 1.5e-4,
  /** Of a key bias, by the largest gradient: softmax ignores such a bias, so both sides are rounding noise (8e-9). */
  keyBiases: 1.5e-7,
  /** Training targets. `points`: of the path (1.4e-7); `velocities`: targets and predictions (3.8e-7). */
  targets: {
    points: 1.5e-6,
    velocities: 5e-6,
    /** Targets that are differences by the time that remains, which may be 1/128 (1.4e-6). */
    quotients: 2e-5,
    /** Squared differences of nearly independent velocities, their means, and the gradient's norm (5e-7). */
    losses: 8e-6,
    /** Means of squared differences of velocities that are nearly equal (3e-6). */
    consistency: 5e-5,
  },
  /** Twelve updates, whose errors grow: predictions, and their losses by sample, come from the last parameters. */
  trajectory: {
    /** (8e-8) */
    points: 1.5e-6,
    /** (3e-7) */
    targets: 5e-6,
    /** (1e-5) */
    predictions: 1.5e-4,
    /** (8e-7) */
    losses: 1.5e-5,
    /** Losses of single samples among them (2.2e-5). */
    consistency: 3e-4,
    /** (8e-6) */
    gradNorm: 1e-4,
    /**
     * Of the change over the recorded run (8e-6; 5.5e-4, as the average has hardly moved: twelve times half of its last bit, and shares of the
     * reference's, rounded one by one, that are 1 + 1.3e-8 together; 1e-5; 3e-6).
     */
    params: 1e-4,
    ema: 5e-3,
    m: 1.5e-4,
    v: 5e-5,
  },
  /** (2.1e-7) */
  sampling: 1e-5,
  /** Adaptive solvers. */
  adaptive: {
    /** Of the samples, where the recording says that rounding does not decide the steps (8.6e-7). */
    plain: 1e-5,
    /** (2.4e-6) */
    strong: 3e-5,
    /** Of their accepted times, by the whole interval: they follow from the last digits of small differences (6.1e-5). */
    times: 8e-4,
    /** Of the samples where rounding decides the steps: both solves are near the truth, to the solver's tolerance (5.3e-4). */
    rounding: 6e-3,
  },
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

/** A sample's norm that counts as at least this share of the batch's: one that is nearly zero is rounding noise. */
const SAMPLE_FLOOR = 1e-3;

/**
 * The relative error of the sample that has the largest, of `samples` that lie one after the other: an error in one of them must
 * not hide behind those that are right.
 */
export function worstSample(actual: Float32Array, expected: Float32Array, samples: number): Measured {
  if (actual.length !== expected.length) return { error: Number.NaN, detail: 'the numbers of elements differ' };
  const size = expected.length / samples;
  const floor = SAMPLE_FLOOR * Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / samples);
  let found: Measured = { error: 0, detail: 'all samples' };
  for (let i = 0; i < samples; i++) {
    const of = (values: Float32Array) => values.subarray(i * size, (i + 1) * size);
    const error = relativeError(of(actual), of(expected), floor);
    if (Number.isNaN(error) || error > found.error) found = { error, detail: `sample ${i}` };
  }
  return found;
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
