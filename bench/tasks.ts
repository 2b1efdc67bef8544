/** Tasks timed in turn, whatever they are: programs run several times in a row, training steps, whole requests. */
import { throwIfAborted } from '../engine/abort.ts';
import type { Engine } from '../engine/engine.ts';
import { inTurn, shortest, type Timing, timingOf } from './harness.ts';

/** Something that can be done again and again. */
export interface Task {
  readonly run: () => unknown;
  /** Whether runs may be submitted one after another before the end of the last is awaited. */
  readonly queues?: boolean;
}

/** How two tasks compare: quartiles of the ratios of their times in the same round. */
export type Ratio = Timing;

const MOST_REPEATS = 200;

/** Quartiles of a[i] / b[i]. */
export const ratioOf = (a: readonly number[], b: readonly number[]): Ratio => timingOf(a.map((x, i) => x / b[i]!));

/** Seconds of every task in every round, in turn. Short tasks run several times in a round. @throws InterruptedError. */
export async function interleaveTasks(
  engine: Engine,
  tasks: readonly Task[],
  rounds: number,
  signal?: AbortSignal,
): Promise<number[][]> {
  const timed = async ({ run, queues }: Task, repeats: number) => {
    throwIfAborted(signal, 'the benchmark was interrupted');
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
    repeats.push(Math.max(1, Math.min(MOST_REPEATS, Math.ceil(shortest(engine, 'wall') / (await timed(task, 1))))));
  }
  return inTurn(tasks, rounds, (task, i) => timed(task, repeats[i]!));
}
