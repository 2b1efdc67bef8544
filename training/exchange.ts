/**
 * Gradients on their way through all processes of a run: the step's program runs in parts that end where a bucket of gradients is
 * complete; each bucket is then mapped, summed in place over all ranks while the backward pass goes on, and written back; the update comes
 * last. Buffers are made once: a replay allocates nothing.
 */
import type { Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import { MappedTensors } from '../engine/mapped.ts';
import type { Program } from '../engine/program.ts';
import type { ScalarValues } from '../engine/scalar.ts';
import { byteSize, type Tensor } from '../engine/tensor.ts';

/** Gradients are summed in buckets of at least so many bytes: small ones cost more in messages than they gain by being early. */
const BUCKET_BYTES = 4 * 2 ** 20;

interface Bucket {
  /** Dispatches after which its gradients are complete. */
  readonly end: number;
  readonly mapped: MappedTensors;
}

export class GradientExchange {
  readonly #program: Program;
  readonly #communicator: Communicator;
  readonly #buckets: readonly Bucket[];

  /** `gradients`: what the program makes for its update, persistent tensors. @throws OutOfMemoryError, LimitError; nothing stays allocated then. */
  constructor(
    engine: Engine,
    program: Program,
    gradients: readonly Tensor[],
    communicator: Communicator,
    bucketBytes = BUCKET_BYTES,
  ) {
    this.#program = program;
    this.#communicator = communicator;
    const ends = new Map(gradients.map((t) => [t, program.lastWrite(t)]));
    const inOrder = [...gradients].sort((a, b) => ends.get(a)! - ends.get(b)!);
    const groups: Tensor[][] = [];
    let room = 0;
    for (const t of inOrder) {
      if (room <= 0) {
        groups.push([]);
        room = bucketBytes;
      }
      groups.at(-1)!.push(t);
      room -= byteSize(t);
    }
    this.#buckets = engine.memory.allOrNothing(() =>
      groups.map((tensors, b) => ({
        end: ends.get(tensors.at(-1)!)!,
        mapped: new MappedTensors(engine, `exchange${b}`, tensors),
      })),
    );
  }

  /** Buckets, and bytes that they stage on the host. */
  get plan(): { readonly buckets: number; readonly bytes: number } {
    return { buckets: this.#buckets.length, bytes: this.#buckets.reduce((sum, { mapped }) => sum + mapped.bytes, 0) };
  }

  /** Runs the program once, on gradients that are the sums over all ranks. @throws ClusterError, DeviceLostError. */
  async run(values: ScalarValues): Promise<void> {
    let from = 0;
    // All of the backward pass is on its way before the first bucket is waited for.
    for (const { end, mapped } of this.#buckets) {
      if (end > from) this.#program.run(values, { from, to: end });
      from = Math.max(from, end);
      mapped.copy();
    }
    for (const { mapped } of this.#buckets) {
      const gradients = await mapped.values();
      try {
        await this.#communicator.allReduce(gradients);
        mapped.back(gradients);
      } finally {
        mapped.drop();
      }
    }
    this.#program.run(values, { from });
  }

  dispose(): void {
    for (const { mapped } of this.#buckets) mapped.dispose();
  }
}
