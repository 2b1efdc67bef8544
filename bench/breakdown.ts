/**
 * Where a program's time goes, dispatch by dispatch: by the driver's timestamps where they add up to what the clock says of the
 * whole, else by running each distinct dispatch alone and again. Says which, and what the sum makes of the whole.
 */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import type { Program } from '../engine/program.ts';
import type { ScalarValues } from '../engine/scalar.ts';
import { profile, repeat } from '../engine/timed.ts';
import { type DispatchWork, dispatchWork } from './cost.ts';
import { shortest } from './harness.ts';

/** One dispatch and the seconds it takes. */
export interface DispatchTime extends DispatchWork {
  readonly seconds: number;
}

/** The times of all dispatches of a program, in order. */
export interface ProgramTimes {
  readonly clock: 'timestamps' | 'alone';
  /** In words: why this clock, and how far to trust it. */
  readonly reason: string;
  /** Of a whole run by the host's clock, from submission to end, and the sum of all dispatches. */
  readonly wallSeconds: number;
  readonly sumSeconds: number;
  readonly dispatches: readonly DispatchTime[];
}

/** Some of a program's dispatches together. */
export interface Share {
  readonly name: string;
  readonly dispatches: number;
  readonly seconds: number;
  /** Of the sum of all dispatches. */
  readonly share: number;
  /** Null where not all of them have a known cost. */
  readonly flops: number | null;
  readonly bytes: number | null;
  readonly gflops: number | null;
  readonly gbytes: number | null;
}

/** How far the sum of timestamps may be from the clock's time of the whole. */
const AGREES = 0.2;

/**
 * Times every dispatch of a program, by the fastest of several runs: what disturbs a run only makes it slower. In-place changes (an
 * optimiser's) are made many times over. `clock` keeps to one of the two, as another run was timed by it. @throws InterruptedError.
 */
export async function timeDispatches(
  engine: Engine,
  program: Program,
  options: { values?: ScalarValues; rounds?: number; clock?: ProgramTimes['clock']; signal?: AbortSignal } = {},
): Promise<ProgramTimes> {
  const { values = {}, rounds = 5, signal, clock } = options;
  const works = program.nodes.map((node) => dispatchWork(node, values));
  const hasStamps = engine.device.features.has('timestamp-query');
  let wallSeconds = Number.POSITIVE_INFINITY;
  let stamped: number[] | undefined;
  // In turn, so that both meet the same load.
  for (let round = 0; round < rounds; round++) {
    throwIfAborted(signal);
    wallSeconds = Math.min(wallSeconds, await fastest(engine, 1, () => program.run(values)));
    if (!hasStamps || clock === 'alone') continue;
    const profiled = await profile(engine, program, values);
    stamped = profiled.map(({ seconds }, i) => Math.min(seconds, stamped?.[i] ?? Number.POSITIVE_INFINITY));
  }
  const whole = `${milliseconds(wallSeconds)} ms that a whole run takes by the clock`;
  const told = (seconds: readonly number[]) => {
    const sum = total(seconds);
    return `${milliseconds(sum)} ms, ${(sum / wallSeconds).toFixed(2)} of the ${whole}`;
  };
  if (stamped && (clock === 'timestamps' || agrees(stamped, wallSeconds))) {
    return timed(works, stamped, wallSeconds, 'timestamps', `timestamps add up to ${told(stamped)}`);
  }
  const why = stamped
    ? `timestamps add up to ${told(stamped)}, and were not used`
    : hasStamps
      ? 'timestamps were not used'
      : 'the device has no timestamps';
  const alone = await secondsAlone(engine, program, works, values, signal);
  const doubt = agrees(alone, wallSeconds)
    ? ''
    : total(alone) < wallSeconds
      ? '; what is missing passes between dispatches, or is the host'
      : '; alone and again, dispatches take longer than in their place';
  const reason = `${why}; each distinct dispatch was run alone, which adds up to ${told(alone)}${doubt}`;
  return timed(works, alone, wallSeconds, 'alone', reason);
}

const total = (seconds: readonly number[]): number => seconds.reduce((a, b) => a + b, 0);
const milliseconds = (seconds: number): string => (seconds * 1000).toPrecision(3);

/** Whether times of dispatches are what the clock says of the whole, within `AGREES`; false for nonsense. */
export function agrees(seconds: readonly number[], wallSeconds: number): boolean {
  return seconds.every((s) => s >= 0) && Math.abs(total(seconds) / wallSeconds - 1) <= AGREES;
}

function timed(
  works: readonly DispatchWork[],
  seconds: readonly number[],
  wallSeconds: number,
  clock: ProgramTimes['clock'],
  reason: string,
): ProgramTimes {
  const dispatches = works.map((work, i) => ({ ...work, seconds: seconds[i]! }));
  return { clock, reason, wallSeconds, sumSeconds: total(seconds), dispatches };
}

/** Seconds from submission to end, the least of several. */
async function fastest(engine: Engine, runs: number, run: () => void): Promise<number> {
  let seconds = Number.POSITIVE_INFINITY;
  for (let i = 0; i < runs; i++) {
    const started = performance.now();
    run();
    await engine.idle();
    seconds = Math.min(seconds, (performance.now() - started) / 1000);
  }
  return seconds;
}

const MOST_TIMES = 256;

/** Each distinct dispatch by the clock, in submissions that are long enough for it. */
async function secondsAlone(
  engine: Engine,
  program: Program,
  works: readonly DispatchWork[],
  values: ScalarValues,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const enough = shortest(engine, 'wall');
  const known = new Map<string, number>();
  const out: number[] = [];
  for (const [i, work] of works.entries()) {
    const { label: _, ...same } = work;
    const key = JSON.stringify(same);
    let seconds = work.grid.includes(0) ? 0 : known.get(key);
    if (seconds === undefined) {
      throwIfAborted(signal);
      const once = await fastest(engine, 2, () => repeat(engine, program, { index: i, times: 1 }, values));
      const times = Math.max(1, Math.min(MOST_TIMES, Math.ceil(enough / once)));
      const again = () => fastest(engine, 3, () => repeat(engine, program, { index: i, times }, values));
      seconds = times === 1 ? once : (await again()) / times;
      known.set(key, seconds);
    }
    out.push(seconds);
  }
  return out;
}

/** Sums by name, largest first; shares add up to 1. */
export function sharesBy(
  dispatches: readonly DispatchTime[],
  name: (d: DispatchTime) => string = (d) => d.kernel,
): Share[] {
  const sum = total(dispatches.map(({ seconds }) => seconds));
  const groups = new Map<string, DispatchTime[]>();
  for (const d of dispatches) groups.set(name(d), [...(groups.get(name(d)) ?? []), d]);
  const all = (some: readonly DispatchTime[], of: (d: DispatchTime) => number | null): number | null =>
    some.reduce<number | null>((n, d) => (n === null || of(d) === null ? null : n + of(d)!), 0);
  return [...groups]
    .map(([group, some]) => {
      const seconds = total(some.map((d) => d.seconds));
      const [flops, bytes] = [all(some, (d) => d.flops), all(some, (d) => d.bytes)];
      const rate = (n: number | null) => (n === null || n === 0 || seconds === 0 ? null : n / seconds / 1e9);
      const share = sum === 0 ? 0 : seconds / sum;
      return {
        name: group,
        dispatches: some.length,
        seconds,
        share,
        flops,
        bytes,
        gflops: rate(flops),
        gbytes: rate(bytes),
      };
    })
    .sort((a, b) => b.seconds - a.seconds);
}
