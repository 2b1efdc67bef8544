/** Several ranks in one process: communicators that meet in memory, so that what ranks do can be tested without MPI. */
import type { Communicator } from '../../cluster/communicator.ts';

/** Communicators of `size` ranks. Sums are taken in the order of ranks. */
export function ranksTogether(size: number): Communicator[] {
  /** By number of the operation: what each rank brought, and who waits for all. */
  interface Meeting {
    readonly brought: unknown[];
    readonly wake: ((all: unknown[]) => void)[];
    count: number;
  }
  const meetings = new Map<number, Meeting>();
  return Array.from({ length: size }, (_, rank) => {
    let operation = 0;
    const meet = <T>(mine: T): Promise<T[]> =>
      new Promise((resolve) => {
        const n = operation++;
        const meeting: Meeting = meetings.get(n) ?? { brought: new Array(size), count: 0, wake: [] };
        meetings.set(n, meeting);
        meeting.brought[rank] = mine;
        meeting.wake.push(resolve as (all: unknown[]) => void);
        if (++meeting.count < size) return;
        meetings.delete(n);
        for (const wake of meeting.wake) wake(meeting.brought);
      });
    const start = (counts: readonly number[], r: number) => counts.slice(0, r).reduce((a, b) => a + b, 0);
    const sum = (all: readonly Float32Array[]) =>
      all[0]!.map((_, i) => all.reduce((total, values) => Math.fround(total + values[i]!), 0));
    return {
      rank,
      size,
      async allReduce(values) {
        values.set(sum(await meet(values.slice())));
      },
      async allGather(values, counts) {
        const all = await meet(values.slice());
        all.forEach((of, r) => {
          const first = start(counts, r);
          values.set(of.subarray(first, first + counts[r]!), first);
        });
      },
      async gather(part, counts) {
        const all = await meet(part.slice());
        if (rank > 0) return null;
        const whole = new Float32Array(counts.reduce((a, b) => a + b));
        all.forEach((of, r) => void whole.set(of, start(counts, r)));
        return whole;
      },
      async broadcast(bytes) {
        bytes.set((await meet(bytes.slice()))[0]!);
      },
      exchange: (text) => meet(text),
      async barrier() {
        await meet(null);
      },
      abort: async () => {},
    };
  });
}
