/** The communicator of processes that mpirun or srun started: MPI's operations, polled from the event loop, and the watch over the others. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { ClusterError } from '../engine/errors.ts';
import type { Communicator } from './communicator.ts';
import { checkLaunch, type Launch } from './launch.node.ts';
import { type Mpi, type Progress, startMpi } from './mpi.node.ts';
import { Host, joinHost, type Meeting, type Watch } from './watch.node.ts';

/** Most elements of one message: larger ones leave the caches and take several times as long per byte. */
const MOST_ELEMENTS = 2 ** 20;

/** A communicator that ends. */
export interface Cluster extends Communicator {
  /** MPI's library and version. */
  readonly version: string;
  /** Number of this process among those of its machine. */
  readonly localRank: number | null;
  /** Ends in order, when all ranks do; none of the operations may be called then. */
  leave(): Promise<void>;
}

/**
 * Joins the processes that were started together. @throws UnsupportedError without koffi or Open MPI; ConfigError where MPI and the
 * launcher disagree; ClusterError where they cannot meet.
 */
export async function joinCluster(launch: Launch): Promise<Cluster> {
  const mpi = await startMpi();
  checkLaunch(launch, mpi);
  let watch: Watch | null = null;
  const check = () => {
    if (watch?.lost) throw lossOf(watch.lost.rank, watch.lost.why);
  };
  // One after the other, so that all ranks begin them in the same order whoever awaits them.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(body: () => Promise<T>): Promise<T> => {
    const next = last.then(body, body);
    last = next.catch(() => {});
    return next;
  };
  const done = async (begin: () => Progress): Promise<void> => {
    check();
    await until(begin(), check);
  };
  const exchange = (text: string) => inTurn(() => texts(mpi, text, done));
  const slices = async (count: number, each: (first: number, end: number) => Progress) => {
    for (let at = 0; at < count; at += MOST_ELEMENTS) {
      await done(() => each(at, Math.min(count, at + MOST_ELEMENTS)));
    }
  };
  watch = await meet(mpi, exchange);
  await inTurn(() => done(() => mpi.barrier()));
  return {
    rank: mpi.rank,
    size: mpi.size,
    version: mpi.version,
    localRank: launch.localRank,
    allReduce: (values) =>
      inTurn(() => slices(values.length, (first, end) => mpi.allReduce(values.subarray(first, end)))),
    allGather: (values, counts) => inTurn(() => done(() => mpi.allGather(values, Int32Array.from(counts)))),
    gather: (part, counts) =>
      inTurn(async () => {
        const whole = mpi.rank === 0 ? new Float32Array(counts.reduce((a, b) => a + b)) : null;
        await done(() => mpi.gather(part, whole, Int32Array.from(counts)));
        return whole;
      }),
    broadcast: (bytes) => inTurn(() => slices(bytes.length, (first, end) => mpi.broadcast(bytes.subarray(first, end)))),
    exchange,
    barrier: () => inTurn(() => done(() => mpi.barrier())),
    abort: async (why) => void (await watch?.fail(why)),
    leave: () =>
      inTurn(async () => {
        await done(() => mpi.barrier());
        watch?.leave();
        mpi.finalize();
      }),
  };
}

/** Ranks meet at rank 0, whose place MPI tells them. */
async function meet({ rank, size }: Mpi, exchange: (text: string) => Promise<string[]>): Promise<Watch | null> {
  if (size === 1) return null;
  const hosts = await exchange(hostname());
  const token = randomBytes(16).toString('hex');
  const local = hosts.every((host) => host === hosts[0]);
  const [host, meeting] = rank === 0 ? await Host.open(size, token, { local }) : [null, null];
  const [place] = await exchange(JSON.stringify(meeting));
  if (!host) return joinHost(rank, JSON.parse(place!) as Meeting);
  await host.ready();
  return host;
}

/** Texts of all ranks: their lengths first. */
async function texts(mpi: Mpi, text: string, done: (begin: () => Progress) => Promise<void>): Promise<string[]> {
  const own = new TextEncoder().encode(text);
  const lengths = new Int32Array(mpi.size);
  lengths[mpi.rank] = own.length;
  await done(() => mpi.allGather(lengths, new Int32Array(mpi.size).fill(1)));
  const bytes = new Uint8Array(lengths.reduce((a, b) => a + b));
  const starts = Array.from(lengths, (_, r) => lengths.subarray(0, r).reduce((a, b) => a + b, 0));
  bytes.set(own, starts[mpi.rank]);
  await done(() => mpi.allGather(bytes, lengths));
  return starts.map((start, r) => new TextDecoder().decode(bytes.subarray(start, start + lengths[r]!)));
}

/** Polls within a turn of the event loop, before others have theirs. */
const POLLS = 20;
/** Turns without a result after which waiting begins to sleep, and the longest sleep in milliseconds. */
const AWAKE = 50;
const LONGEST_SLEEP = 0.5;

/**
 * Polls until an operation has ended, and looks at each turn whether somebody has gone. Long waits sleep between polls: other
 * ranks of this machine, or a GPU's driver on the CPU, want the processor.
 */
async function until(ended: Progress, check: () => void): Promise<void> {
  const bell = new Int32Array(new SharedArrayBuffer(4));
  for (let turn = 0; ; turn++) {
    for (let poll = 0; poll < POLLS; poll++) if (ended()) return;
    check();
    if (turn > AWAKE) Atomics.wait(bell, 0, 0, Math.min(LONGEST_SLEEP, (turn - AWAKE) / 100));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const lossOf = (rank: number, why: string): ClusterError =>
  new ClusterError(`rank ${rank} is gone: ${why}`, {
    hint: 'start all processes again with --resume: the run goes on from its last checkpoint',
  });
