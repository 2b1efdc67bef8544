/** Bytes from the GPU to the host, through staging buffers that are kept: reading the same tensors at every step allocates once. */
import type { Memory } from './memory/accountant.ts';

const [MAP_READ, COPY_DST] = [0x1, 0x8];
/** Of buffers that the host reads. */
export const READBACK_USAGE = MAP_READ | COPY_DST;
/** Bytes of the smallest staging buffer, and between what lies in one. */
const [SMALLEST, ALIGNMENT] = [256, 16];

/** Where something to read lies. */
export interface Stretch {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** What is read through one staging buffer: the stretches `from` .. `to` - 1. */
interface Load {
  readonly from: number;
  to: number;
  bytes: number;
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

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
   * All stretches as they are at one time, copied by one submission. A device allows buffers of some size only, so that more than that
   * goes through several. @throws OutOfMemoryError; what mapping throws.
   */
  async read(stretches: readonly Stretch[], wait: <T>(pending: Promise<T>) => Promise<T>): Promise<ArrayBuffer[]> {
    const loads = this.#loads(stretches);
    const taken: GPUBuffer[] = [];
    try {
      for (const { bytes } of loads) taken.push(this.#take(bytes));
      const encoder = this.#device.createCommandEncoder({ label: 'readback' });
      loads.forEach(({ from, to }, i) => {
        let at = 0;
        for (const { buffer, offset, bytes } of stretches.slice(from, to)) {
          if (bytes > 0) encoder.copyBufferToBuffer(buffer, offset, taken[i]!, at, bytes);
          at += aligned(bytes);
        }
      });
      this.#device.queue.submit([encoder.finish()]);
      await wait(Promise.all(taken.map((staging) => staging.mapAsync(MAP_READ))));
    } catch (error) {
      for (const staging of taken) this.#memory.destroy(staging);
      throw error;
    }
    const out = loads.flatMap(({ from, to }, i) => {
      const mapped = taken[i]!.getMappedRange();
      let at = 0;
      return stretches.slice(from, to).map(({ bytes }) => {
        const begin = at;
        at += aligned(bytes);
        return mapped.slice(begin, begin + bytes);
      });
    });
    for (const staging of taken) {
      staging.unmap();
      this.#keep(staging);
    }
    return out;
  }

  /** Frees the buffers that are kept. */
  release(): void {
    for (const pool of this.#idle.values()) for (const buffer of pool) this.#memory.destroy(buffer);
    this.#idle.clear();
  }

  /** As few as hold everything, each as large as the device allows at most. */
  #loads(stretches: readonly Stretch[]): readonly Load[] {
    const most = this.#device.limits.maxBufferSize;
    const loads: Load[] = [];
    stretches.forEach(({ bytes }, i) => {
      const last = loads.at(-1);
      if (last && last.bytes + aligned(bytes) <= most) {
        last.to = i + 1;
        last.bytes += aligned(bytes);
      } else loads.push({ from: i, to: i + 1, bytes: aligned(bytes) });
    });
    return loads;
  }

  #take(bytes: number): GPUBuffer {
    const size = Math.max(SMALLEST, bytes);
    return this.#idle.get(size)?.pop() ?? this.#memory.create('staging', 'readback', size, READBACK_USAGE);
  }

  #keep(staging: GPUBuffer): void {
    const pool = this.#idle.get(staging.size);
    if (pool) pool.push(staging);
    else this.#idle.set(staging.size, [staging]);
  }
}
