/**
 * What several processes of one run are to each other: their number, and the operations that all of them take part in. Who trains knows
 * this and nothing of MPI; a process by itself is a cluster of one (`alone`).
 */

/**
 * Operations must be called by all ranks in the same order, with arrays of the same sizes; each begins when the one before has ended.
 * What is reduced has the same bits on every rank, and the same from run to run for a given number of ranks.
 * All of them throw ClusterError, naming the rank, when another process has ended or failed.
 */
export interface Communicator {
  /** This process' number, from 0, and how many there are. */
  readonly rank: number;
  readonly size: number;
  /** Replaces the values by the sums over all ranks, element by element. */
  allReduce(values: Float32Array): Promise<void>;
  /** Each rank's part, at its place in `values`, goes to all others: the first counts[0] elements are rank 0's, and so on. */
  allGather(values: Float32Array, counts: readonly number[]): Promise<void>;
  /** The parts of all ranks, one after the other, on rank 0; null on the others. counts[r] elements are rank r's. */
  gather(part: Float32Array, counts: readonly number[]): Promise<Float32Array | null>;
  /** Replaces the bytes by those of rank 0. */
  broadcast(bytes: Uint8Array): Promise<void>;
  /** The texts of all ranks, by rank. */
  exchange(text: string): Promise<string[]>;
  /** Returns when all ranks have called it. */
  barrier(): Promise<void>;
  /** Tells the others that this rank cannot go on, and why; they end with a ClusterError that says so. */
  abort(why: string): Promise<void>;
}

/** A process by itself: every operation leaves what there is. */
export const alone: Communicator = {
  rank: 0,
  size: 1,
  allReduce: async () => {},
  allGather: async () => {},
  gather: async (part) => part,
  broadcast: async () => {},
  exchange: async (text) => [text],
  barrier: async () => {},
  abort: async () => {},
};

/** What rank 0 makes, on every rank; plain data, for JSON. `make` runs on rank 0 alone. */
export async function fromFirst<T>({ rank, exchange }: Communicator, make: () => Promise<T>): Promise<T> {
  const made = rank === 0 ? { value: await make() } : null;
  const [first] = await exchange(made ? JSON.stringify(made) : '');
  return made ? made.value : (JSON.parse(first!) as { value: T }).value;
}
