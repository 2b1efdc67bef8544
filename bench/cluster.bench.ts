/** What sums over the processes of a run take, by size: as training calls them, polled from the event loop. */
import type { Communicator } from '../cluster/communicator.ts';
import { throwIfAborted } from '../engine/abort.ts';

/** Times of one size. */
export interface ReduceTimes {
  /** Of the array that each rank has. */
  readonly bytes: number;
  /** Median and quartiles of the rounds, on rank 0. */
  readonly seconds: number;
  readonly quartiles: readonly [number, number];
  /** Bytes of the array per second: what a step's gradients take is their bytes over this. */
  readonly bytesPerSecond: number;
}

/** Sizes in bytes: fourfold steps from a kilobyte to 64 MiB. */
export const REDUCE_SIZES: readonly number[] = Array.from({ length: 9 }, (_, i) => 4 ** i * 1024);

/** Rounds before those that count. */
const WARM = 2;

/**
 * Times sums over all ranks. @throws ClusterError; InterruptedError between sizes.
 * All ranks must call it with the same arguments.
 */
export async function measureReduce(
  communicator: Communicator,
  options: { readonly sizes?: readonly number[]; readonly rounds?: number; readonly signal?: AbortSignal } = {},
): Promise<ReduceTimes[]> {
  const { sizes = REDUCE_SIZES, rounds = 9, signal } = options;
  const times: ReduceTimes[] = [];
  for (const bytes of sizes) {
    throwIfAborted(signal);
    const values = new Float32Array(bytes / 4);
    const taken: number[] = [];
    for (let round = 0; round < rounds + WARM; round++) {
      values.fill(communicator.rank + 1);
      await communicator.barrier();
      const began = performance.now();
      await communicator.allReduce(values);
      if (round >= WARM) taken.push((performance.now() - began) / 1000);
    }
    taken.sort((a, b) => a - b);
    const at = (share: number) => taken[Math.round(share * (taken.length - 1))]!;
    const seconds = at(0.5);
    times.push({ bytes, seconds, quartiles: [at(0.25), at(0.75)], bytesPerSecond: bytes / seconds });
  }
  return times;
}

/** The times as a Markdown table. */
export function formatReduce(times: readonly ReduceTimes[], ranks: number): string {
  const size = (bytes: number) => (bytes < 2 ** 20 ? `${bytes / 1024} KiB` : `${bytes / 2 ** 20} MiB`);
  const ms = (seconds: number) => (1000 * seconds).toPrecision(3);
  const rows = times.map(
    ({ bytes, seconds, quartiles: [low, high], bytesPerSecond }) =>
      `| ${size(bytes)} | ${ms(seconds)} | ${ms(low)} to ${ms(high)} | ${(bytesPerSecond / 1e9).toPrecision(3)} |`,
  );
  return [`| array, ${ranks} ranks | ms | quartiles | GB/s |`, '|--:|--:|--:|--:|', ...rows].join('\n');
}
