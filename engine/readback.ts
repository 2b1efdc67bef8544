/** Bytes from the GPU to the host, through staging buffers that are kept: reading the same tensors at every step allocates once. */
import type { Memory } from './memory/accountant.ts';

const [MAP_READ, COPY_DST] = [0x1, 0x8];
/** Of buffers that the host reads. */
export const READBACK_USAGE = MAP_READ | COPY_DST;
/** Bytes of the smallest staging buffer, and what each stretch begins at a multiple of. */
const [SMALLEST, ALIGNMENT] = [256, 16];

/** Where something to read lies. */
export interface Stretch {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

export class Readback {
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  /** Idle staging buffers by size. */
  readonly #idle = new Map<number, GPUBuffer[]>();

  constructor(device: GPUDevice, memory: Memory) {
    this.#device = device;
    this.#memory = memory;
  }

  /**
   * All stretches as they are at one time, copied by one submission: through several staging buffers where the device allows none of that
   * size, which are kept for the next time if `keep`. @throws OutOfMemoryError; what mapping throws.
   */
  async read(
    stretches: readonly Stretch[],
    wait: <T>(pending: Promise<T>) => Promise<T>,
    keep: boolean,
  ): Promise<ArrayBuffer[]> {
    const most = this.#device.limits.maxBufferSize;
    /** Bytes in each staging buffer, and of each stretch which of them it is copied to and where. */
    const sizes = [0];
    const places = stretches.map(({ bytes }) => {
      const room = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
      if (sizes.at(-1)! + room > most) sizes.push(0);
      const to = sizes.length - 1;
      const at = sizes[to]!;
      sizes[to] = at + room;
      return { to, at };
    });
    const staging: GPUBuffer[] = [];
    try {
      for (const size of sizes) staging.push(this.#take(Math.max(SMALLEST, size), keep));
      const encoder = this.#device.createCommandEncoder({ label: 'readback' });
      stretches.forEach(({ buffer, offset, bytes }, i) => {
        const { to, at } = places[i]!;
        if (bytes > 0) encoder.copyBufferToBuffer(buffer, offset, staging[to]!, at, bytes);
      });
      this.#device.queue.submit([encoder.finish()]);
      await wait(Promise.all(staging.map((buffer) => buffer.mapAsync(MAP_READ))));
    } catch (error) {
      for (const buffer of staging) this.#memory.destroy(buffer);
      throw error;
    }
    const mapped = staging.map((buffer) => buffer.getMappedRange());
    const out = places.map(({ to, at }, i) => mapped[to]!.slice(at, at + stretches[i]!.bytes));
    for (const buffer of staging) {
      buffer.unmap();
      if (!keep) this.#memory.destroy(buffer);
      else this.#idle.set(buffer.size, [...(this.#idle.get(buffer.size) ?? []), buffer]);
    }
    return out;
  }

  /** Frees the buffers that are kept. */
  release(): void {
    for (const buffers of this.#idle.values()) for (const buffer of buffers) this.#memory.destroy(buffer);
    this.#idle.clear();
  }

  #take(size: number, kept: boolean): GPUBuffer {
    return (
      (kept ? this.#idle.get(size)?.pop() : null) ?? this.#memory.create('staging', 'readback', size, READBACK_USAGE)
    );
  }
}
