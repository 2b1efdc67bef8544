/**
 * Tuning: for each problem, every candidate is checked, those that compute right are timed in turn, the slow ones drop out early, and
 * the fastest takes the place of the reviewed choice if it beats it by more than the noise.
 */
import { chooseClock } from '../bench/clock.ts';
import { type Clock, interleave, timingOf } from '../bench/harness.ts';
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, DeviceLostError, OutOfMemoryError } from '../engine/errors.ts';
import { shapeKey, type TuningChoice } from '../engine/tuning.ts';
import { families as allFamilies, type TunedFamily } from '../kernels/families.ts';
import { Checks, type Entrant, endsTuning, settle } from './candidate.ts';
import { isFresh, measuredIds } from './choices.ts';
import { fingerprint } from './fingerprint.ts';
import { problemText, type Subject, subjectOf, type TuningProblem, trialOf } from './problem.ts';
import { beats, ratioTo, type Samples, stillIn } from './select.ts';
import type { TuningResult } from './table.ts';

/** Times entrants in turn, for so many rounds after one that does not count. */
export type TimeEntrants = (entrants: readonly Entrant[], rounds: number) => Promise<Samples[]>;

/** How far tuning is. */
export interface TuneProgress {
  readonly problem: TuningProblem;
  /** From 0. */
  readonly index: number;
  readonly total: number;
  /** What is being done, such as "register-64x64: check". */
  readonly doing: string;
}

/** How to tune, and who is told. */
export interface TuneOptions {
  /** Numbers of samples to time; the choice is one for all, by the geometric mean. Default: 1 and 16. */
  readonly batches?: readonly number[];
  /**
   * Results of before: problems whose kernels have not changed since are left out, but for what the budget left untried of them. Default:
   * none.
   */
  readonly known?: readonly TuningResult[];
  /**
   * After so many seconds no problem is begun and no further candidate of the one at hand is tried: the best of those that were is taken,
   * and the others are left for another time. One candidate is tried all the same, so that every run gets on. Default: no limit.
   */
  readonly budget?: number;
  /** Default: all of odelt's. */
  readonly families?: readonly TunedFamily[];
  readonly signal?: AbortSignal;
  /** Told what is being done, many times a problem. */
  readonly onProgress?: (progress: TuneProgress) => void;
  /** Told which variant is about to be run: keep it, and after a loss of the device or the process it can be among `suspects`. */
  readonly onTry?: (attempt: TuningChoice) => void | Promise<void>;
  /** Variants with which a device or a process was lost before: they are rejected, not tried again. Default: none. */
  readonly suspects?: readonly TuningChoice[];
  /** Told each result as it comes: keep it, and nothing is lost when tuning is interrupted. */
  readonly onResult?: (result: TuningResult) => void | Promise<void>;
  /** The clock: entrants in, seconds out. Default: bench/harness.ts, by timestamps where they can be trusted. */
  readonly time?: TimeEntrants;
  /** Seconds since some moment, for the budget. */
  readonly now?: () => number;
}

/** What tuning did. */
export interface Tuned {
  /** New results, in the order in which they came. */
  readonly results: readonly TuningResult[];
  /** Problems that `known` covers, that have but one variant, and that the budget did not reach or did not suffice for. */
  readonly known: readonly TuningProblem[];
  readonly single: readonly TuningProblem[];
  readonly left: readonly TuningProblem[];
  /** Problems that their family's trial does not exercise, or of which the device can bind no batch: nothing can be said of them. */
  readonly uncovered: readonly TuningProblem[];
}

/**
 * Finds the fastest variant for each problem on an engine's adapter. What weighs most comes first. Nothing else may use the engine
 * meanwhile; its own tuning is as before afterwards.
 * @throws ConfigError for batches that make no sense; InterruptedError; OutOfMemoryError for batches that are too large;
 * DeviceLostError, naming the variant under test.
 */
export async function tune(
  engine: Engine,
  problems: readonly TuningProblem[],
  options: TuneOptions = {},
): Promise<Tuned> {
  const { batches = [1, 16], families = allFamilies, now = () => performance.now() / 1000 } = options;
  if (batches.length === 0 || !batches.every((n) => Number.isInteger(n) && n > 0)) {
    throw new ConfigError(`batches are ${JSON.stringify(batches)}; they must be positive integers`);
  }
  const began = now();
  const spent = () => now() - began >= (options.budget ?? Number.POSITIVE_INFINITY);
  const known = new Map((options.known ?? []).map((r) => [shapeKey(r.family, r.shape), r]));
  const subjects = problems
    .map((problem) => subjectOf(engine, families, problem))
    .sort((a, b) => weight(b) - weight(a));
  const tuned = { results: [], known: [], single: [], left: [], uncovered: [] } as {
    [K in keyof Tuned]: Tuned[K][number][];
  };
  let begun = false;
  // Held against the host's clock once something is to be measured.
  let clock: Clock | undefined = options.time && 'wall';
  for (const [index, subject] of subjects.entries()) {
    const { problem, candidates } = subject;
    stopIfAborted(options.signal, index, subjects.length);
    const before = known.get(shapeKey(problem.family, problem.shape));
    const asBefore = before?.candidates.join() === candidates.map((v) => v.id).join();
    const fresh = before !== undefined && asBefore && (await isFresh(engine, subject, before));
    if (candidates.length < 2) tuned.single.push(problem);
    else if (fresh && before.untried.length === 0) tuned.known.push(problem);
    else if (spent() && begun) tuned.left.push(problem);
    else {
      clock ??= (await chooseClock(engine)).clock;
      const doing = (text: string) => {
        stopIfAborted(options.signal, index, subjects.length);
        options.onProgress?.({ problem, index, total: subjects.length, doing: text });
      };
      const time = options.time ?? inTurn;
      const first = !begun;
      const enough = (tried: number) => spent() && (tried > 0 || !first);
      const { family, shape } = problem;
      const key = shapeKey(family, shape);
      const suspects = (options.suspects ?? []).filter((s) => shapeKey(s.family, s.shape) === key);
      const how: How = {
        ...{ batches, clock, time, doing, enough, before: fresh ? before : null },
        trying: async (variant) => options.onTry?.({ family, shape, variant }),
        isSuspect: (variant) => suspects.some((s) => s.variant === variant),
      };
      const result = await tuneOne(engine, subject, how);
      if (result === 'uncovered' || result === 'left') tuned[result].push(problem);
      else {
        tuned.results.push(result);
        if (result.untried.length > 0) tuned.left.push(problem);
        await options.onResult?.(result);
      }
      begun ||= result !== 'uncovered';
    }
  }
  return tuned;
}

function stopIfAborted(signal: AbortSignal | undefined, done: number, total: number): void {
  throwIfAborted(signal, `tuning was interrupted after ${done} of ${total} problems`);
}

/** About how much of a model's time a problem is: its uses, by the numbers that go into one. */
function weight(subject: Subject): number {
  const { contract, case: k } = trialOf(subject, 1);
  const sizes = Object.values(contract.inputs(k)).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  return subject.problem.uses * sizes.reduce((a, b) => a + b, 0);
}

const inTurn: TimeEntrants = async (entrants, rounds) => {
  const timings = await interleave(
    entrants.flatMap(({ timed }) => timed),
    rounds,
  );
  let at = 0;
  return entrants.map(({ timed }) => timed.map(() => timings[at++]!.seconds));
};

interface How {
  readonly batches: readonly number[];
  readonly clock: Clock;
  readonly time: TimeEntrants;
  readonly doing: (text: string) => void;
  /** Whether the budget allows no further candidate, after so many that had not been tried before. */
  readonly enough: (tried: number) => boolean;
  /** Told before a candidate is run. */
  readonly trying: (variant: string) => Promise<void>;
  readonly isSuspect: (variant: string) => boolean;
  /** What was found before the budget was spent. */
  readonly before: TuningResult | null;
}

/** Candidates in the order in which they are tried: of a problem that goes on the best so far, then those that are left. */
function orderOf({ candidates, reviewed }: Subject, before: TuningResult | null): string[] {
  const all = candidates.map((v) => v.id);
  const best = before?.challenger ? [before.challenger.variant] : [];
  const rest = before ? [...best, ...before.untried] : all;
  return [...new Set([reviewed.id, ...rest])].filter((id) => all.includes(id));
}

const LOST =
  'the device or the process was lost while it was tried, and it is not tried again (`odelt tune --again` does)';

/** Rounds between the last few, and of the last challenger against the base, which take their time from no earlier round. */
const HEAT_ROUNDS = 3;
const FINAL = { seconds: 6, least: 7, most: 15 } as const;

async function tuneOne(engine: Engine, subject: Subject, how: How): Promise<TuningResult | 'uncovered' | 'left'> {
  const { problem, candidates, reviewed } = subject;
  const checks = await Checks.of(engine, subject, how);
  if (!checks) return 'uncovered';
  const rejected = (how.before?.rejected ?? []).filter(({ variant }) => variant !== reviewed.id);
  const untried: string[] = [];
  const open = new Set<Entrant>();
  const close = (entrant: Entrant) => {
    open.delete(entrant);
    entrant.dispose();
  };
  /** Runs a step of one candidate; what fails there is its own fault. */
  const attempt = async <T>(variant: string, step: () => Promise<T>): Promise<T | null> => {
    try {
      return await step();
    } catch (error) {
      try {
        if (endsTuning(error)) throw error;
        await settle(engine);
        // Of the reviewed one that is no fault: there is no memory for the problem.
        if (variant === reviewed.id && error instanceof OutOfMemoryError) throw error;
      } catch (end) {
        throw naming(end, variant, problem);
      }
      rejected.push({ variant, error: error instanceof Error ? error.message : String(error) });
      return null;
    }
  };
  try {
    let base: Entrant | null = null;
    let kept: { entrant: Entrant; ratio: number }[] = [];
    /** Of the base, as measured last. */
    let seconds: number[] | null = null;
    const medians = (samples: Samples) => samples.map((rounds) => timingOf(rounds).median);
    // The reviewed one first: the others are held against it or, where it fails, against the first that does not.
    let tried = 0;
    for (const id of orderOf(subject, how.before)) {
      const again = id === reviewed.id || id === how.before?.challenger?.variant;
      if (!again && how.enough(tried)) {
        untried.push(id);
        continue;
      }
      if (!again) tried++;
      how.doing(`${id}: check`);
      if (id !== reviewed.id && how.isSuspect(id)) {
        rejected.push({ variant: id, error: LOST });
        continue;
      }
      await how.trying(id);
      const entrant = await attempt(id, () => checks.prepare(id, base));
      if (!entrant) continue;
      open.add(entrant);
      if (!base) {
        base = entrant;
        continue;
      }
      how.doing(`${id}: first round`);
      const pair = [base, entrant];
      const samples = await attempt(id, () => how.time(pair, 1));
      if (!samples) {
        close(entrant);
        continue;
      }
      seconds = medians(samples[0]!);
      kept.push({ entrant, ratio: ratioTo(samples[1]!, samples[0]!).ratio });
      const staying = stillIn(new Map(kept.map((k) => [k.entrant.id, k.ratio])));
      for (const k of kept) if (!staying.includes(k.entrant.id)) close(k.entrant);
      kept = kept.filter((k) => staying.includes(k.entrant.id));
    }
    const found = async (rest: Pick<TuningResult, 'variant' | 'seconds' | 'challenger'>): Promise<TuningResult> => {
      const { family, shape, tokens } = problem;
      const all = candidates.map((v) => v.id);
      const about = {
        family,
        shape,
        tokens,
        batches: [...checks.batches],
        reviewed: reviewed.id,
        candidates: all,
        rejected,
        untried,
      };
      const kernels = await fingerprint(engine, subject, measuredIds({ ...about, ...rest }));
      return { ...about, ...rest, kernels };
    };
    if (tried === 0 && untried.length > 0) return 'left';
    if (!base) return await found({ variant: null, seconds: null, challenger: null });
    const challenger = await fastest(
      base,
      kept.map(({ entrant }) => entrant),
      how,
    );
    if (!challenger) {
      const same = seconds && { reviewed: seconds, variant: seconds };
      return await found({ variant: base.id, seconds: same, challenger: null });
    }
    how.doing(`${challenger.id} against ${base.id}`);
    const roundSeconds = [...base.timed, ...challenger.timed].reduce((sum, t) => sum + t.roundSeconds, 0);
    const rounds = Math.max(FINAL.least, Math.min(FINAL.most, Math.floor(FINAL.seconds / roundSeconds)));
    const [old, fresh] = (await how.time([base, challenger], rounds)) as [Samples, Samples];
    const ratio = ratioTo(fresh, old);
    const wins = beats(ratio);
    return await found({
      variant: wins ? challenger.id : base.id,
      seconds: { reviewed: medians(old), variant: medians(wins ? fresh : old) },
      challenger: { variant: challenger.id, ratio },
    });
  } finally {
    for (const entrant of open) entrant.dispose();
    checks.dispose();
  }
}

/** Of several that are left, the one that a few more rounds find the fastest. The last word is that of rounds to come. */
async function fastest(base: Entrant, kept: readonly Entrant[], how: How): Promise<Entrant | null> {
  if (kept.length < 2) return kept[0] ?? null;
  how.doing(`${kept.map(({ id }) => id).join(', ')} in turn`);
  const [old, ...others] = await how.time([base, ...kept], HEAT_ROUNDS);
  const ratios = others.map((samples) => ratioTo(samples, old!).ratio);
  return kept[ratios.indexOf(Math.min(...ratios))]!;
}

/** A lost device ends tuning: the message says what was being tried. */
function naming(error: unknown, variant: string, problem: TuningProblem): unknown {
  if (!(error instanceof DeviceLostError)) return error;
  return new DeviceLostError(`the device was lost while '${variant}' was tried for ${problemText(problem)}`, {
    cause: error,
    hint: 'what was found before is kept; --only leaves this family out. Please report the variant, with `odelt info`',
  });
}
