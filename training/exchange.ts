/**
 * What goes through all processes of a run in an update. Gradients: the step's program runs in parts that end where a bucket of gradients
 * is complete; each bucket is then mapped, summed in place over all ranks while the backward pass goes on, and written back; the update
 * comes last. Where each rank updates its share of the parameters only, the new ones go from there to all others, in the same buckets. Buffers
 * are made once: a replay allocates nothing.
 */
import type { Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import { MappedTensors } from '../engine/mapped.ts';
import type { Program } from '../engine/program.ts';
import type { ScalarValues } from '../engine/scalar.ts';
import { byteSize, range, type Tensor } from '../engine/tensor.ts';
import type { Division, Share } from './share.ts';

/** Gradients are summed in buckets of at least so many bytes: small ones cost more in messages than they gain by being early. */
const BUCKET_BYTES = 4 * 2 ** 20;

/** What each rank makes its share of, and all need whole: sets of flat buffers, in the order of the gradients'. */
interface Made {
  readonly division: Division;
  readonly sets: readonly (readonly Tensor[])[];
}

interface Bucket {
  /** Dispatches after which its gradients are complete. */
  readonly end: number;
  readonly gradients: MappedTensors;
  readonly shares: BucketShares | null;
}

interface BucketShares {
  /** The shares of all ranks in one buffer after the other; empty ones are left out. */
  readonly sets: readonly MappedTensors[];
  /** Of each share the rank. */
  readonly ranks: readonly number[];
  /** Elements of each rank in each buffer. */
  readonly counts: readonly (readonly number[])[];
}

const sizeOf = ({ first, end }: Share): number => end - first;

export class Exchange {
  readonly #engine: Engine;
  readonly #program: Program;
  readonly #communicator: Communicator;
  readonly #overlap: boolean;
  readonly #buckets: readonly Bucket[];

  /** `gradients`: what the program makes for its update, persistent tensors. @throws OutOfMemoryError, LimitError; nothing stays allocated then. */
  constructor(
    engine: Engine,
    program: Program,
    gradients: readonly Tensor[],
    communicator: Communicator,
    options: { readonly made?: Made | null; readonly bucketBytes?: number; readonly overlap?: boolean } = {},
  ) {
    const { made, bucketBytes = BUCKET_BYTES, overlap = true } = options;
    this.#engine = engine;
    this.#overlap = overlap;
    this.#program = program;
    this.#communicator = communicator;
    const ends = gradients.map((t) => program.lastWrite(t));
    const inOrder = [...gradients.keys()].sort((a, b) => ends[a]! - ends[b]!);
    const groups: number[][] = [];
    let room = 0;
    for (const g of inOrder) {
      if (room <= 0) {
        groups.push([]);
        room = bucketBytes;
      }
      groups.at(-1)!.push(g);
      room -= byteSize(gradients[g]!);
    }
    this.#buckets = engine.memory.allOrNothing(() =>
      groups.map((group, b): Bucket => {
        const mapped = new MappedTensors(
          engine,
          `exchange${b}`,
          group.map((g) => gradients[g]!),
        );
        const shares = made ? sharesOfBucket(engine, made, group, mapped) : null;
        return { end: ends[group.at(-1)!]!, gradients: mapped, shares };
      }),
    );
  }

  /** Buckets, and bytes that they stage on the host. */
  get plan(): { readonly buckets: number; readonly bytes: number } {
    return { buckets: this.#buckets.length, bytes: this.#buckets.reduce((sum, b) => sum + b.gradients.bytes, 0) };
  }

  /** Runs the program once, on gradients that are the sums over all ranks. @throws ClusterError, DeviceLostError. */
  async run(values: ScalarValues): Promise<void> {
    let from = 0;
    // All of the backward pass is on its way before the first bucket is waited for.
    for (const { end, gradients } of this.#buckets) {
      if (end > from) this.#program.run(values, { from, to: end });
      from = Math.max(from, end);
      gradients.copy();
    }
    if (!this.#overlap) await this.#engine.idle();
    for (const { gradients } of this.#buckets) {
      const sums = await gradients.values();
      try {
        await this.#communicator.allReduce(sums);
        gradients.back(sums);
      } finally {
        gradients.drop();
      }
    }
    this.#program.run(values, { from });
    await this.#gather();
  }

  /** Brings what each rank has made of its share to all others. */
  async #gather(): Promise<void> {
    const { rank } = this.#communicator;
    const buckets = this.#buckets.flatMap(({ shares }) => shares ?? []);
    for (const set of buckets[0]?.sets.keys() ?? []) {
      for (const { sets, ranks } of buckets) sets[set]!.copy((i) => ranks[i] === rank);
      for (const { sets, ranks, counts } of buckets) {
        const mapped = sets[set]!;
        const made = await mapped.values();
        try {
          let at = 0;
          for (const own of counts) {
            const first = at;
            at += own.reduce((a, b) => a + b);
            await this.#communicator.allGather(made.subarray(first, at), own);
          }
          mapped.back(made, (i) => ranks[i] !== rank);
        } finally {
          mapped.drop();
        }
      }
    }
  }

  dispose(): void {
    for (const { gradients } of this.#buckets) gradients.dispose();
  }
}

/** The shares in a bucket's buffers, staged where its gradients are. */
function sharesOfBucket(
  engine: Engine,
  { division, sets }: Made,
  group: readonly number[],
  staging: MappedTensors,
): BucketShares {
  const shares = group.map((g) => division.buffers[g]!.shares);
  const ranks = shares.flatMap((of) => [...of.keys()].filter((r) => sizeOf(of[r]!) > 0));
  const mapped = sets.map((parts, s) => {
    const ranges = group.flatMap((g, i) =>
      shares[i]!.filter((share) => sizeOf(share) > 0).map(({ first, end }) => range(parts[g]!, first, end)),
    );
    return new MappedTensors(engine, `made${s}`, ranges, staging);
  });
  return { sets: mapped, ranks, counts: shares.map((of) => of.map(sizeOf)) };
}
