/** How programs are timed: submissions of at least 10 ms, variants interleaved, with median and quartiles. Checks nothing. */
import type { Engine } from '../engine/engine.ts';
import type { Program } from '../engine/program.ts';

/** Something to time: a compiled program that does the same work `repeats` times in one submission. */
export interface Timed {
  readonly engine: Engine;
  readonly program: Program;
  readonly repeats: number;
}

/** Seconds of one repeat. */
export interface Timing {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
  readonly samples: number;
}

/** Seconds from submitting the program to its end. Sleeps through most of `expected`, for Dawn under Node polls on a whole core. */
export async function runSeconds(
  { engine, program }: Timed,
  expected = 0,
): Promise<{ seconds: number; late: boolean }> {
  const nap = engine.adapterClass === 'gpu' ? 0 : Math.max(0, 0.7 * expected - 0.002);
  const started = performance.now();
  program.run();
  const done = engine.device.queue.onSubmittedWorkDone();
  if (nap > 0) await new Promise((resolve) => setTimeout(resolve, nap * 1000));
  const rested = performance.now();
  await done;
  const now = performance.now();
  engine.check();
  // Over before the nap was: the time is an upper bound only.
  return { seconds: (now - started) / 1000, late: nap > 0 && now - rested < 0.5 };
}

/** Quantile of sorted values, interpolated. */
export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}

/** Times several programs in turn (A, B, A, B, ...), so that a change of the machine's load meets all of them. */
export async function interleave(timed: readonly Timed[], rounds: number): Promise<Timing[]> {
  const seconds = timed.map((): number[] => []);
  const fastest = timed.map(() => 0);
  for (let round = -1; round < rounds; round++) {
    for (const [i, t] of timed.entries()) {
      const run = await runSeconds(t, fastest[i]);
      if (run.late) fastest[i]! *= 0.7;
      else fastest[i] = fastest[i] === 0 ? run.seconds : Math.min(fastest[i]!, run.seconds);
      if (round >= 0) seconds[i]!.push(run.seconds / t.repeats);
    }
  }
  return seconds.map((all) => {
    const sorted = all.sort((a, b) => a - b);
    return {
      median: quantile(sorted, 0.5),
      q1: quantile(sorted, 0.25),
      q3: quantile(sorted, 0.75),
      samples: all.length,
    };
  });
}
