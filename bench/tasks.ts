/** Tasks timed in turn, whatever they are: programs run several times in a row, training steps, whole requests. */
import type { Engine } from '../engine/engine.ts';
import { InterruptedError } from '../engine/errors.ts';
import { type Timing, timingOf } from './harness.ts';

/** Something that can be done again and again. */
export interface Task {
  readonly run: () => unknown;
  /** Whether runs may be submitted one after another before the end of the last is awaited. */
  readonly queues?: boolean;
}

/** How two tasks compare: quartiles of the ratios of their times in the same round. */
export type Ratio = Timing;

/** A CPU adapter is waited for in steps of up to 2 ms. */
const shortest = (engine: Engine): number => (engine.adapterClass === 'gpu' ? 0.012 : 0.03);
const MOST_REPEATS = 200;

/** Quartiles of a[i] / b[i]. */
export const ratioOf = (a: readonly number[], b: readonly number[]): Ratio => timingOf(a.map((x, i) => x / b[i]!));

/**
 * Seconds of every task in every round, in turn (A, B, B, A, A, B, ...): a change of the machine's load meets all of them, and none
 * is always the first. Short tasks run several times in a round. @throws InterruptedError.
 */
export async function interleaveTasks(
  engine: Engine,
  tasks: readonly Task[],
  rounds: number,
  signal?: AbortSignal,
): Promise<number[][]> {
  const timed = async ({ run, queues }: Task, repeats: number) => {
    if (signal?.aborted) throw new InterruptedError('the benchmark was interrupted');
    const started = performance.now();
    for (let i = 0; i < repeats; i++) {
      const done = run();
      if (!queues) await done;
    }
    if (queues) await engine.idle();
    return (performance.now() - started) / 1000 / repeats;
  };
  const repeats: number[] = [];
  for (const task of tasks) {
    await timed(task, 1); // some drivers compile at the first run
    repeats.push(Math.max(1, Math.min(MOST_REPEATS, Math.ceil(shortest(engine) / (await timed(task, 1))))));
  }
  const seconds = tasks.map((): number[] => []);
  const order = [...tasks.entries()];
  for (let round = 0; round < rounds; round++) {
    for (const [i, task] of order) seconds[i]!.push(await timed(task, repeats[i]!));
    order.reverse();
  }
  return seconds;
}
