/** How programs are timed: submissions of at least 10 ms, variants interleaved, every sample kept. Checks nothing. */
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { Program, record } from '../engine/program.ts';
import { timed } from '../engine/timed.ts';

/** Who tells the time: the adapter's timestamps around the whole program, or the host from submission to end. */
export type Clock = 'timestamp' | 'wall';

/** Something to time: a compiled program that does the same work `repeats` times in one submission. */
export interface Timed {
  readonly engine: Engine;
  readonly program: Program;
  readonly repeats: number;
  /** Default 'wall'; bench/clock.ts says which to trust. */
  readonly clock?: Clock;
}

/** Seconds of one repeat. */
export interface Timing {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
  readonly samples: number;
  /** The samples in the order of their rounds: those of programs that were timed together can be paired. */
  readonly seconds: readonly number[];
}

/** Seconds of one submission by the program's clock. */
export async function runSeconds({ engine, program, clock = 'wall' }: Timed): Promise<number> {
  if (clock === 'timestamp') return timed(engine, program);
  const started = performance.now();
  program.run();
  // Not the bare promise: while one is pending, Dawn under Node polls on a whole core, which kernels on a CPU adapter need.
  await engine.idle();
  return (performance.now() - started) / 1000;
}

/** Quantile of sorted values, interpolated. */
export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}

/** Median and quartiles of samples that are in the order of their rounds. */
export function timingOf(seconds: readonly number[]): Timing {
  const sorted = [...seconds].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    q1: quantile(sorted, 0.25),
    q3: quantile(sorted, 0.75),
    samples: seconds.length,
    seconds,
  };
}

/**
 * Seconds of each in every round, in turn (A, B, B, A, A, B, ...), so that a change of the machine's load meets all of them and none is
 * always the first.
 */
export async function inTurn<T>(
  all: readonly T[],
  rounds: number,
  time: (one: T, index: number) => Promise<number>,
): Promise<number[][]> {
  const seconds = all.map((): number[] => []);
  const order = [...all.entries()];
  for (let round = 0; round < rounds; round++) {
    for (const [i, one] of order) seconds[i]!.push(await time(one, i));
    order.reverse();
  }
  return seconds;
}

/** Times several programs in turn. One round before the others is not counted. */
export async function interleave(timed: readonly Timed[], rounds: number): Promise<Timing[]> {
  const seconds = await inTurn(timed, rounds + 1, async (t) => (await runSeconds(t)) / t.repeats);
  return seconds.map(([, ...counted]) => timingOf(counted));
}

/** Seconds of the shortest submission. By the host's clock under Node, a CPU adapter is waited for in steps of up to 2 ms. */
export const shortest = (engine: Engine, clock: Clock): number =>
  clock === 'wall' && engine.adapterClass !== 'gpu' ? 0.03 : 0.012;
const MOST_REPEATS = 400;

/** A program that repeats some work, and what compiling and running it for the first time was like. */
export interface Repeated extends Timed {
  readonly clock: Clock;
  /** Of one repeat. */
  readonly dispatches: number;
  /** Pipelines that were compiled, and the seconds from recording to the end of the first run, less those of a later run. */
  readonly pipelines: number;
  readonly coldSeconds: number;
  /** Of one submission, about. */
  readonly roundSeconds: number;
}

/** Compiles `use`, as often in one submission as it takes to fill 10 ms, or 400 times. The caller disposes the program. */
export async function compileRepeated(
  engine: Engine,
  name: string,
  clock: Clock,
  use: (ctx: Context) => void,
): Promise<Repeated> {
  const before = engine.pipelines.size;
  const started = performance.now();
  const once = await Program.compile(engine, record(engine, `${name} once`, use).recording);
  once.run();
  await engine.idle(); // some drivers finish compiling only at the first run
  const firstSeconds = (performance.now() - started) / 1000;
  const pipelines = engine.pipelines.size - before;
  let seconds = Number.POSITIVE_INFINITY;
  for (let run = 0, total = 0; run < 3 && total < 0.3; run++) {
    const taken = await runSeconds({ engine, program: once, repeats: 1, clock });
    total += taken;
    seconds = Math.min(seconds, taken);
  }
  const { dispatches } = once;
  const enough = shortest(engine, clock);
  const about = { engine, clock, dispatches, pipelines, coldSeconds: Math.max(0, firstSeconds - seconds) };
  let repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(enough / Math.max(seconds, 1e-9))));
  if (repeats === 1) return { ...about, repeats, roundSeconds: seconds, program: once };
  once.dispose();
  for (;;) {
    const { recording } = record(engine, `${name} x ${repeats}`, (ctx) => {
      for (let i = 0; i < repeats; i++) use(ctx);
    });
    const program = await Program.compile(engine, recording);
    // A run alone may be shorter than a step of the clock, or mostly what the clock takes: only many say how long one is.
    const round = { engine, clock, program, repeats };
    const roundSeconds = Math.min(await runSeconds(round), await runSeconds(round));
    if (repeats === MOST_REPEATS || roundSeconds >= enough / 2) return { ...about, repeats, roundSeconds, program };
    program.dispose();
    const wanted = Math.ceil((repeats * enough) / Math.max(roundSeconds, 1e-9));
    repeats = Math.min(MOST_REPEATS, Math.max(2 * repeats, wanted));
  }
}
