/**
 * What a candidate goes through before it may be timed: it must compile, and agree with float64 at small and odd sizes, forward,
 * backward and replayed, and at every size that is timed. What that takes on the host, and the tensors, is made once for all candidates.
 */
import type { Clock, Timed } from '../bench/harness.ts';
import { type Prepared, prepareCase } from '../bench/prepare.ts';
import { isLarge, type ReadyCase, readyCase } from '../bench/ready-case.ts';
import type { Engine } from '../engine/engine.ts';
import { DeviceLostError, InterruptedError } from '../engine/errors.ts';
import { Program, record } from '../engine/program.ts';
import type { Tensor } from '../engine/tensor.ts';
import { type CaseTensors, checkCase, placeCase, releaseCase } from '../kernels/check.ts';
import { type Expected, expectCase } from '../kernels/expected.ts';
import { runTrial } from './fingerprint.ts';
import { type Subject, trialOf, withVariant } from './problem.ts';

/** A candidate that computes right, ready to be timed at each number of samples. */
export interface Entrant {
  readonly id: string;
  /** Forward, or forward and backward together where there is a backward; one for each number of samples. */
  readonly timed: readonly (Timed & { readonly roundSeconds: number })[];
  /** Seconds of one use as first measured, by size, the smallest first. */
  readonly paces: readonly number[];
  /** Frees its programs. */
  dispose(): void;
}

interface Size {
  readonly samples: number;
  readonly tokens: number;
}

/** Odd, so that tiles are left over. Gradients are compared here. */
const SMALL: Size = { samples: 2, tokens: 3 };
/** One row, and rows around the edges of tiles of 32 and 128. */
const EDGES: readonly Size[] = [
  { samples: 1, tokens: 1 },
  { samples: 1, tokens: 33 },
  { samples: 3, tokens: 43 },
];
/** Elements of each gradient that are compared; each costs four references. */
const PICKS = 12;
/** Where the problem has no small case. */
const FEW_PICKS = 2;
/** Operations above which part of the outputs is compared: a fifth of a second of the host, for each size of each problem. */
const MOST_REFERENCE_FLOPS = 2e8;
/** The same where gradients are, each of whose elements costs four references. */
const MOST_SMALL_FLOPS = 5e7;

/**
 * What is so many times slower than the reviewed variant at one size is not run at the next, where it would take so many seconds: drivers
 * end what takes too long (Windows after two seconds), and the device with it.
 */
const HOPELESS = { ratio: 4, seconds: 0.25 } as const;
/** Operations of the smallest timed case above which a sixteenth of it is run before. */
const PROBED_FLOPS = 1e10;
const PROBE = 16;

/** A problem's cases, and the host's share of checking candidates by them. The caller disposes it, after its entrants. */
export class Checks {
  readonly #engine: Engine;
  readonly #subject: Subject;
  /** Numbers of samples that are timed. */
  readonly batches: readonly number[];
  readonly #clock: Clock;
  readonly #small: Size;
  readonly #edges: readonly Size[];
  /** What is timed, after what only tells how long that will take. */
  readonly #timed: readonly Size[];
  readonly #owned: (() => void)[] = [];
  #smallCase: { readonly expected: Expected; readonly placed: CaseTensors } | undefined;
  readonly #ready = new Map<string, ReadyCase>();

  private constructor(
    engine: Engine,
    subject: Subject,
    timed: { batches: readonly number[]; clock: Clock },
    sizes: { small: Size; edges: readonly Size[]; timed: readonly Size[] },
  ) {
    this.#engine = engine;
    this.#subject = subject;
    this.batches = timed.batches;
    this.#clock = timed.clock;
    this.#small = sizes.small;
    this.#edges = sizes.edges;
    this.#timed = sizes.timed;
  }

  /**
   * The checks of a problem, of those batches whose tensors the device can bind; null where there is none, or where its family's trial
   * is not about it, so that nothing could be said.
   */
  static async of(
    engine: Engine,
    subject: Subject,
    timed: { batches: readonly number[]; clock: Clock },
  ): Promise<Checks | null> {
    const { tokens } = subject.problem;
    const batches: number[] = [];
    for (const samples of [...timed.batches].sort((a, b) => a - b)) {
      const { asked, fits } = await look(engine, subject, { samples, tokens });
      if (!asked) return null;
      if (fits) batches.push(samples);
    }
    if (batches.length === 0) return null;
    // Not every size is of the problem's shape: it may name the tokens, and one token a sample is not many rows of one.
    const caseOf = (size: Size) => JSON.stringify(trialOf(subject, size.samples, size.tokens).case);
    const one = { samples: 1, tokens };
    // Of a shape that names the tokens one sample is the smallest case.
    const small = caseOf({ samples: 1, tokens: 3 }) !== caseOf(one) && (await look(engine, subject, SMALL)).asked;
    const known = new Set(batches.map((samples) => caseOf({ samples, tokens })));
    const edges: Size[] = [];
    for (const edge of EDGES) {
      const { contract, case: k } = trialOf(subject, edge.samples, edge.tokens);
      const key = caseOf(edge);
      if (known.has(key) || isLarge(contract, k) || !(await look(engine, subject, edge)).asked) continue;
      known.add(key);
      edges.push(edge);
    }
    const sizes = batches.map((samples): Size => ({ samples, tokens }));
    const [least] = sizes as [Size];
    const probe = { ...least, tokens: Math.max(1, Math.floor(tokens / PROBE)) };
    const isShorter = flopsOf(subject, least) > PROBED_FLOPS && caseOf(probe) !== caseOf(least);
    if (isShorter && (await look(engine, subject, probe)).asked) sizes.unshift(probe);
    return new Checks(engine, subject, { ...timed, batches }, { small: small ? SMALL : one, edges, timed: sizes });
  }

  /**
   * Holds a candidate to float64 and compiles what is to be timed, the smallest first; null where it is so much slower than `base` that it is
   * not run at the largest. @throws OdeltError saying what is wrong with it.
   */
  async prepare(id: string, base: Entrant | null = null): Promise<Entrant | null> {
    const prepared: Prepared[] = [];
    const dispose = () => {
      for (const p of prepared) p.dispose();
    };
    const paces: number[] = [];
    let hopeless = false;
    try {
      await withVariant(this.#engine, this.#subject, id, async () => {
        await this.#compiles();
        await this.#smallIsRight();
        for (const edge of this.#edges) await (await this.#at(edge, false)).check();
        for (const [i, size] of this.#timed.entries()) {
          const isTimed = this.#timed.length - i <= this.batches.length;
          const { contract, case: k } = trialOf(this.#subject, size.samples, size.tokens);
          const made = await prepareCase(
            this.#engine,
            contract,
            k,
            this.#clock,
            isTimed,
            true,
            await this.#at(size, true),
          );
          const { roundSeconds, repeats } = made.both ?? made.forward;
          paces.push(roundSeconds / repeats);
          if (isTimed) prepared.push(made);
          else made.dispose();
          hopeless = this.#isHopeless(i, paces[i]!, base?.paces[i]);
          if (hopeless) return;
        }
      });
    } catch (error) {
      dispose();
      throw error;
    }
    if (!hopeless) return { id, timed: prepared.map(({ forward, both }) => both ?? forward), paces, dispose };
    dispose();
    return null;
  }

  /** Whether a candidate of this pace at a size is not to be run at the next. */
  #isHopeless(at: number, pace: number, base = Number.POSITIVE_INFINITY): boolean {
    const [size, next] = [this.#timed[at]!, this.#timed[at + 1]];
    if (!next || !(pace > HOPELESS.ratio * base)) return false;
    return (pace * flopsOf(this.#subject, next)) / flopsOf(this.#subject, size) > HOPELESS.seconds;
  }

  /** Frees the tensors that candidates shared. */
  dispose(): void {
    for (const free of this.#owned.splice(0)) free();
  }

  /** Compiled as a program first: errors of the compiler come with its words there, and leave nothing behind. */
  async #compiles(): Promise<void> {
    const engine = this.#engine;
    const made: Tensor[] = [];
    const trial = trialOf(this.#subject, this.#small.samples, this.#small.tokens);
    try {
      const { recording } = record(engine, trial.contract.name, (ctx) =>
        runTrial(ctx, trial, (label, shape, dtype) => {
          const t = engine.tensor(label, shape, { dtype });
          made.push(t);
          return t;
        }),
      );
      (await Program.compile(engine, recording)).dispose();
    } finally {
      for (const t of made) engine.release(t);
    }
  }

  async #smallIsRight(): Promise<void> {
    const { contract, case: k } = trialOf(this.#subject, this.#small.samples, this.#small.tokens);
    if (!this.#smallCase) {
      const expected = expectCase(contract, k, this.#small === SMALL ? PICKS : FEW_PICKS, MOST_SMALL_FLOPS);
      const placed = placeCase(this.#engine, contract, k, expected);
      this.#owned.push(() => releaseCase(this.#engine, placed));
      this.#smallCase = { expected, placed };
    }
    const { expected, placed } = this.#smallCase;
    await checkCase(this.#engine, contract, k, expected, placed);
  }

  /** The case of a size, the same for every candidate. */
  async #at(size: Size, backward: boolean): Promise<ReadyCase> {
    const key = JSON.stringify([size, backward]);
    const known = this.#ready.get(key);
    if (known) return known;
    const { contract, case: k } = trialOf(this.#subject, size.samples, size.tokens);
    const made = await readyCase(this.#engine, contract, k, { backward, mostFlops: MOST_REFERENCE_FLOPS });
    this.#owned.push(() => made.dispose());
    this.#ready.set(key, made);
    return made;
  }
}

/** Operations of the trial at a size; 1 where its contract does not say. */
function flopsOf(subject: Subject, { samples, tokens }: Size): number {
  const { contract, case: k } = trialOf(subject, samples, tokens);
  return Math.max(1, contract.bench?.cost(k).flops ?? 1);
}

/** Whether the trial at this size asks for the problem's choice, and whether the device can bind its tensors. */
export async function look(
  engine: Engine,
  subject: Subject,
  { samples, tokens }: Size,
): Promise<{ asked: boolean; fits: boolean }> {
  const trial = trialOf(subject, samples, tokens);
  const { value, asked } = await withVariant(engine, subject, subject.reviewed.id, () =>
    record(engine, trial.contract.name, (ctx) => runTrial(ctx, trial)),
  );
  const bytes = value.recording.nodes.flatMap(({ bindings }) => bindings.map((b) => b.tensor.storage.bytes));
  return { asked, fits: Math.max(...bytes) <= engine.largestBinding };
}

/** Lets the device report all that follows from a candidate's failure, and forgets it. @throws DeviceLostError. */
export async function settle(engine: Engine): Promise<void> {
  await engine.done();
  for (let left = 100; left > 0; left--) {
    try {
      await engine.allocated();
      engine.check();
      return;
    } catch (error) {
      if (error instanceof DeviceLostError) throw error;
    }
  }
}

/** Whether an error ends all tuning, rather than one candidate's part in it. */
export const endsTuning = (error: unknown): boolean =>
  error instanceof DeviceLostError || error instanceof InterruptedError;
