/**
 * What a training step by n processes takes, from parts that were measured: computing by rows, gradients' way to the host and back, and
 * their sums over all ranks. Pure. What the model leaves out is said in docs/scale.md.
 */
import { ConfigError } from '../engine/errors.ts';
import type { ReduceTimes } from './cluster.bench.ts';

/** How a sum over all ranks is computed: Open MPI's names of those that a sum in place can be. */
export const ALGORITHMS = ['binomial', 'rabenseifner', 'ring'] as const;
/** One of `ALGORITHMS`. */
export type Algorithm = (typeof ALGORITHMS)[number];

/** A way between two ranks: seconds before the first byte of a message is there, and bytes a second after that. */
export interface Link {
  readonly latency: number;
  readonly bandwidth: number;
}

/** Sums go in messages of so many bytes (cluster/cluster.node.ts), and gradients in buckets of about as many (training/exchange.ts). */
export const MESSAGE_BYTES = 4 * 2 ** 20;

/** Messages that follow one another in a sum over n ranks, and how often the slowest rank sends or receives its bytes. */
function sumCost(algorithm: Algorithm, ranks: number): { readonly rounds: number; readonly volume: number } {
  const depth = Math.ceil(Math.log2(ranks));
  // Up a tree and down again, whole arrays each time.
  if (algorithm === 'binomial') return { rounds: 2 * depth, volume: 2 * depth };
  const volume = (2 * (ranks - 1)) / ranks;
  return { rounds: algorithm === 'ring' ? 2 * (ranks - 1) : 2 * depth, volume };
}

/** Seconds of a sum of `bytes` over `ranks`. None where there is one. */
export function sumSeconds(bytes: number, ranks: number, link: Link, algorithm: Algorithm): number {
  if (ranks === 1) return 0;
  const { rounds, volume } = sumCost(algorithm, ranks);
  return Math.ceil(bytes / MESSAGE_BYTES) * rounds * link.latency + (volume * bytes) / link.bandwidth;
}

/**
 * The link that explains measured sums best, by relative errors: what messages and bytes each take, made what they would be between two
 * ranks. @throws ConfigError for fewer than two sizes
 */
export function fitLink(times: readonly ReduceTimes[], ranks: number, algorithm: Algorithm): Link {
  if (times.length < 2 || ranks < 2)
    throw new ConfigError(`${times.length} sizes summed by ${ranks} ranks tell no latency and bandwidth`, {
      hint: 'measure with mpirun -n 2 or more',
    });
  const { rounds, volume } = sumCost(algorithm, ranks);
  const rows = times.map(({ bytes, seconds }) => [
    (rounds * Math.ceil(bytes / MESSAGE_BYTES)) / seconds,
    (volume * bytes) / seconds,
  ]);
  const dot = (i: number, j: number) => rows.reduce((sum, row) => sum + row[i]! * row[j]!, 0);
  const total = (i: number) => rows.reduce((sum, row) => sum + row[i]!, 0);
  const [aa, ab, bb, a, b] = [dot(0, 0), dot(0, 1), dot(1, 1), total(0), total(1)];
  const det = aa * bb - ab * ab;
  let [latency, perByte] = [(a * bb - b * ab) / det, (b * aa - a * ab) / det];
  // A part that comes out below nothing is none, and the other explains all.
  if (latency < 0) [latency, perByte] = [0, b / bb];
  if (perByte <= 0) [latency, perByte] = [a / aa, 1e-15];
  return { latency, bandwidth: 1 / perByte };
}

/** What a rank's step is made of, without the other ranks. */
export interface StepParts {
  /** Seconds of a step whatever its rows, and of each row. */
  readonly fixed: number;
  readonly perRow: number;
  /** Shares of that time: the backward pass, during which gradients come, and the update, which waits for their sums. */
  readonly backward: number;
  readonly update: number;
  /** Of all gradients. */
  readonly bytes: number;
  /** Bytes a second from the GPU to the host, and back. */
  readonly transfer: number;
  /** Whether sums and transfers go on beside the backward pass: not where the processor computes that, too. */
  readonly overlap: boolean;
}

/** A step by n ranks. */
export interface StepTime {
  readonly ranks: number;
  /** Rows of the rank that has most. */
  readonly rows: number;
  readonly seconds: number;
  /** Of a rank by itself; what sums and transfers take, and how much of that the backward pass hides. */
  readonly computing: number;
  readonly sums: number;
  readonly transfers: number;
  readonly hidden: number;
  readonly samplesPerSecond: number;
  /** Samples a second, of n times those of one rank: its own, with as many rows (weak) or the whole batch (strong). */
  readonly efficiency: number;
}

/** A step of `batch` rows by `ranks`; `alone` is what efficiency compares with: rows of one rank. */
export function stepTime(
  parts: StepParts,
  { ranks, batch, alone }: { readonly ranks: number; readonly batch: number; readonly alone: number },
  link: Link,
  algorithm: Algorithm,
): StepTime {
  const rows = Math.ceil(batch / ranks);
  const compute = (of: number) => parts.fixed + parts.perRow * of;
  const computing = compute(rows);
  const count = Math.max(1, Math.floor(parts.bytes / MESSAGE_BYTES));
  const bytes = parts.bytes / count;
  const sum = sumSeconds(bytes, ranks, link, algorithm);
  const transfer = ranks === 1 ? 0 : (2 * bytes) / parts.transfer;
  const each = sum + transfer;
  const forward = 1 - parts.backward - parts.update;
  let done = 0;
  for (let bucket = 1; bucket <= count; bucket++) {
    const made = parts.overlap ? forward + (parts.backward * bucket) / count : forward + parts.backward;
    done = Math.max(done, made * computing) + each;
  }
  // The losses' sum is a message of few bytes after that.
  const losses = sumSeconds(4, ranks, link, algorithm);
  const seconds = done + parts.update * computing + losses;
  const way = count * each + losses;
  return {
    ...{ ranks, rows, seconds, computing },
    sums: count * sum + losses,
    transfers: count * transfer,
    hidden: way - (seconds - computing),
    samplesPerSecond: batch / seconds,
    efficiency: batch / seconds / ((ranks * alone) / compute(alone)),
  };
}

/** What is predicted: as many rows for each rank, or one batch for all. */
export type Scaling = { readonly rows: number } | { readonly batch: number };

/** Steps by numbers of ranks. A batch is given to no more ranks than it has rows. */
export function predict(
  parts: StepParts,
  scaling: Scaling,
  ranks: readonly number[],
  link: Link,
  algorithm: Algorithm,
): StepTime[] {
  if ('rows' in scaling) {
    const { rows } = scaling;
    return ranks.map((n) => stepTime(parts, { ranks: n, batch: n * rows, alone: rows }, link, algorithm));
  }
  const { batch } = scaling;
  return ranks
    .filter((n) => n <= batch)
    .map((n) => stepTime(parts, { ranks: n, batch, alone: batch }, link, algorithm));
}
