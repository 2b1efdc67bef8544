/** Times kernels' contracts, forward and backward, on one engine or several side by side, and holds their rates against the ceilings. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { checkCase } from '../kernels/check.ts';
import type { Contract, Work } from '../kernels/contract.ts';
import { type CaseChoice, casesOf } from './cases.ts';
import { type DecoderUse, decoderUse } from './decoder-cases.ts';
import { type Clock, interleave, type Repeated, type Timing, timingOf } from './harness.ts';
import { type Prepared, prepareCase } from './prepare.ts';
import { type OpenCeilings, type Roof, roofOf } from './roofline.ts';

/** An engine to measure, and what to call it. */
export interface Subject {
  readonly name: string;
  readonly engine: Engine;
  /** Another build's kernels on its own engine, by the function of this name that its `odelt/bench` has. Default: this build's. */
  readonly prepareCase?: typeof prepareCase;
  /** Another build's contracts, looked up by name. A case that one of the subjects does not know is left out. */
  readonly contracts?: readonly Contract[];
}

/** A subject whose ceilings and clock are known; the programs of its ceilings are timed beside its kernels. */
export interface Measurable extends Subject {
  readonly clock: Clock;
  readonly ceilings: OpenCeilings;
}

/** By round: 10^9 bytes and 10^9 operations per second. */
export interface CeilingRates {
  readonly copy: readonly number[];
  readonly multiplyAdd: readonly number[];
}

/** One pass of one case of one kernel on one subject. */
export interface KernelResult {
  readonly kernel: string;
  readonly case: object;
  readonly subject: string;
  readonly pass: 'forward' | 'backward';
  /** Of the shapes `decoder`: whose layer it is, and how often that occurs in one picture; else null. */
  readonly layer: DecoderUse | null;
  /**
   * Seconds of one use of the kernel, all its dispatches. Of a backward: the differences between forward and backward together and
   * forward alone, round by round, so that a sample may be negative where noise is larger than the backward.
   */
  readonly timing: Timing;
  /** How often the case was prepared: the samples are so many groups of as many rounds, one after the other. */
  readonly placements: number;
  /** Forward and backward together, as measured; of a forward: null. */
  readonly both: Timing | null;
  readonly clock: Clock;
  readonly repeats: number;
  readonly dispatches: number;
  /** The work that the contract states (kernels/contract.ts); null where it states none for a backward. */
  readonly flops: number | null;
  readonly bytes: number | null;
  /** 10^9 operations, and bytes, per second. Null without work of that kind, or without a time above zero. */
  readonly gflops: number | null;
  readonly gbytes: number | null;
  /** The nearer ceiling; null without work. */
  readonly bound: Roof['bound'] | null;
  /** What the ceilings' programs reached in the same rounds. */
  readonly ceilingRates: CeilingRates;
  /**
   * The share of that ceiling that the pass reached, median over rounds: 0 to 1, above 1 where caches serve what the ceiling fetches from
   * memory. Null without work, or without a time above zero.
   */
  readonly roofline: number | null;
  /** Of the forward pass against float64: largest relative error, and how many of the outputs were compared. */
  readonly error: number;
  readonly checked: number;
  readonly outputs: number;
  /** Pipelines that this case compiled, and the seconds from recording to the end of the first run, less those of a later run. */
  readonly pipelines: number;
  readonly coldSeconds: number;
}

/** How many cases have been timed, of how many. */
export interface CaseProgress {
  readonly done: number;
  readonly total: number;
}

/** What is timed, how often, and who is told. */
export interface KernelBenchOptions extends CaseChoice {
  readonly contracts: readonly Contract[];
  /**
   * Timed submissions of each program. Default: `mostRounds` (9), fewer (at least 3) for cases that take long. Of several subjects each
   * case is prepared 4 times, and the rounds are shared out among these, rounded up (at least 2 each by default).
   */
  readonly rounds?: number;
  readonly mostRounds?: number;
  /** Times forward passes alone. Default false. */
  readonly forward?: boolean;
  /** Holds each contract to all its `cases` first: forward, gradients, replay. Default false. */
  readonly check?: boolean;
  readonly signal?: AbortSignal;
  /** Told before each case, and how many of all have been timed. */
  readonly onCase?: (text: string, progress: CaseProgress) => void;
  /** Told each result as it comes. */
  readonly onResult?: (result: KernelResult) => void;
}

/** How many cases of these contracts are timed. */
export const totalCases = (contracts: readonly Contract[], choice: CaseChoice): number =>
  contracts.reduce((sum, c) => sum + casesOf(c, choice).length, 0);

/** Rounds of a case may take so many seconds, where their number is not given. */
const CASE_SECONDS = 2;
const LEAST_ROUNDS = 3;

/** How often each case is prepared where subjects are compared: even, so that each is the first as often as the other. */
const COMPARED_PLACEMENTS = 4;
const LEAST_IN_PLACEMENT = 2;

/** Measures the cases of `contracts`. @throws OdeltError ('wrong-result') for a kernel that computes wrong; InterruptedError. */
export async function benchKernels(
  subjects: readonly Measurable[],
  options: KernelBenchOptions,
): Promise<KernelResult[]> {
  const results: KernelResult[] = [];
  const total = totalCases(options.contracts, options);
  let done = 0;
  const next = (text: string) => {
    throwIfAborted(options.signal, 'the benchmark was interrupted');
    options.onCase?.(text, { done, total });
  };
  for (const c of options.contracts) {
    const known = subjects.map(({ contracts }) => (contracts ? contracts.find(({ name }) => name === c.name) : c));
    const all = known.filter((own) => own !== undefined);
    if (all.length < subjects.length) continue;
    for (const k of options.check ? c.cases : []) {
      next(`${c.name} ${JSON.stringify(k)}: check`);
      for (const [i, { engine, contracts }] of subjects.entries()) if (!contracts) await checkCase(engine, all[i]!, k);
    }
    for (const k of casesOf(c, options)) {
      next(`${c.name} ${JSON.stringify(k)}`);
      for (const result of await benchCase(subjects, all, k, options)) {
        results.push(result);
        options.onResult?.(result);
      }
      done++;
    }
  }
  return results;
}

/** `known`: the contract as each subject's build has it. */
async function benchCase(
  subjects: readonly Measurable[],
  known: readonly Contract[],
  k: object,
  { rounds, mostRounds = 9, forward: alone = false, shapes = [] }: Omit<KernelBenchOptions, 'contracts'>,
): Promise<KernelResult[]> {
  const placements = subjects.length > 1 ? COMPARED_PLACEMENTS : 1;
  const least = placements > 1 ? LEAST_IN_PLACEMENT : LEAST_ROUNDS;
  const roundsOf = (roundSeconds: number): number => {
    const fitting = Math.floor(CASE_SECONDS / roundSeconds / placements);
    return rounds === undefined
      ? Math.max(least, Math.min(Math.ceil(mostRounds / placements), fitting))
      : Math.ceil(rounds / placements);
  };
  const all = [await placeCase(subjects, known, k, alone, 0, roundsOf)];
  // The same number of rounds in each.
  const each = all[0]!.seconds[0]!.length;
  while (all.length < placements) all.push(await placeCase(subjects, known, k, alone, all.length, () => each));
  const [{ prepared, programs }] = all as [Placement];
  const timings = programs.map((_, i) => timingOf(all.flatMap(({ seconds }) => seconds[i]!)));
  const timingFor = new Map(programs.map((program, i) => [program, timings[i]!]));
  // The work is the first build's: the rates of two builds are of the same work.
  const cost = known[0]!.bench!.cost(k);
  const works = { forward: cost, backward: cost.backward ?? null };
  return prepared.flatMap(({ forward, both, accuracy }, i) => {
    const subject = subjects[i]!;
    const { name: kernel } = known[0]!;
    const layer = shapes.includes('decoder') ? decoderUse(kernel, k) : null;
    const about = { kernel, case: k, layer, subject: subject.name, clock: subject.clock, ...accuracy! };
    const once = timingFor.get(forward)!;
    const result = (
      pass: KernelResult['pass'],
      program: Repeated,
      timing: Timing,
      together: Timing | null,
    ): KernelResult => {
      const work = works[pass];
      const { repeats, dispatches, pipelines, coldSeconds } = program;
      return {
        ...{ ...about, pass, timing, placements, both: together, repeats, dispatches, pipelines, coldSeconds },
        ...ratesOf(work, timing, subject.ceilings, timingFor),
      };
    };
    const results = [result('forward', forward, once, null)];
    // A build from before it could be left out makes it all the same.
    if (both && !alone) {
      const together = timingFor.get(both)!;
      const difference = timingOf(together.seconds.map((seconds, round) => seconds - once.seconds[round]!));
      const own = { ...both, dispatches: both.dispatches - forward.dispatches };
      results.push(result('backward', own, difference, together));
    }
    return results;
  });
}

/** A case prepared and timed once. The programs are gone; what is known of them is not. */
interface Placement {
  /** By subject. */
  readonly prepared: readonly Prepared[];
  /** Those of the subjects, in their order, and of their ceilings; and the seconds of each by round. */
  readonly programs: readonly Repeated[];
  readonly seconds: readonly (readonly number[])[];
}

/**
 * `alone` leaves out the backward pass. `place` 0 compares with float64, the others need not. In odd ones the subjects change places: in memory, as they are prepared, and in
 * the rounds, where what ran before leaves its data in the caches.
 */
async function placeCase(
  subjects: readonly Measurable[],
  known: readonly Contract[],
  k: object,
  alone: boolean,
  place: number,
  roundsOf: (roundSeconds: number) => number,
): Promise<Placement> {
  const order = [...subjects.keys()];
  if (place % 2 === 1) order.reverse();
  const made = new Map<number, Prepared>();
  const programsOf = (i: number): Repeated[] => {
    const { forward, both } = made.get(i)!;
    return both && !alone ? [forward, both] : [forward];
  };
  try {
    for (const i of order) {
      const { engine, clock, prepareCase: prepare = prepareCase } = subjects[i]!;
      made.set(i, await prepare(engine, known[i]!, k, clock, place === 0, !alone));
    }
    const ceilings = subjects.flatMap(({ ceilings: { copy, multiplyAdd } }) => [copy, multiplyAdd]);
    const inOrder = [...new Set([...order.flatMap(programsOf), ...ceilings])];
    const roundSeconds = order.flatMap(programsOf).reduce((sum, program) => sum + program.roundSeconds, 0);
    const timings = await interleave(inOrder, roundsOf(roundSeconds));
    const programs = [...new Set([...subjects.keys()].flatMap(programsOf).concat(ceilings))];
    return {
      prepared: subjects.map((_, i) => made.get(i)!),
      programs,
      seconds: programs.map((program) => timings[inOrder.indexOf(program)]!.seconds),
    };
  } finally {
    for (const p of made.values()) p.dispose();
  }
}

type Rates = Pick<KernelResult, 'flops' | 'bytes' | 'gflops' | 'gbytes' | 'bound' | 'ceilingRates' | 'roofline'>;

function ratesOf(
  work: Work | null,
  { median, seconds }: Timing,
  { ceilings, copy, multiplyAdd }: OpenCeilings,
  timingFor: ReadonlyMap<Repeated, Timing>,
): Rates {
  const reached = (program: Repeated, perRepeat: number) =>
    timingFor.get(program)!.seconds.map((s) => perRepeat / s / 1e9);
  const ceilingRates = {
    copy: reached(copy, ceilings.copy.work),
    multiplyAdd: reached(multiplyAdd, ceilings.multiplyAdd.work),
  };
  const rate = (amount: number | undefined) => (amount && median > 0 ? amount / median / 1e9 : null);
  const bound = work && work.flops + work.bytes > 0 ? roofOf(work, ceilings).bound : null;
  // Work at the ceiling in the seconds taken: a single sample of these may be zero, a median hardly is.
  const rates = bound === 'compute' ? ceilingRates.multiplyAdd : ceilingRates.copy;
  const possible = timingOf(seconds.map((s, round) => s * rates[round]!)).median;
  const amount = bound && (bound === 'compute' ? work!.flops : work!.bytes);
  return {
    flops: work?.flops ?? null,
    bytes: work?.bytes ?? null,
    gflops: rate(work?.flops),
    gbytes: rate(work?.bytes),
    bound,
    ceilingRates,
    roofline: amount && possible > 0 ? amount / 1e9 / possible : null,
  };
}
