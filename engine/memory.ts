/**
 * The accountant: every GPU buffer odelt creates is created here, so live and peak bytes are facts, not estimates.
 * Knows nothing of tensors.
 */
import { LimitError, OutOfMemoryError } from './errors.ts';

/** What a buffer is for; the memory reports are broken down by it. */
export type MemoryKind = 'weights' | 'gradients' | 'optimizer' | 'activations' | 'data' | 'uniforms' | 'staging';

export interface MemoryReport {
  readonly live: number;
  readonly peak: number;
  readonly buffers: number;
  /** Buffers ever created; replaying a program must not move it. */
  readonly created: number;
  readonly byKind: Readonly<Partial<Record<MemoryKind, number>>>;
}

export class Memory {
  readonly #device: GPUDevice;
  readonly #live = new Map<GPUBuffer, { bytes: number; kind: MemoryKind }>();
  #bytes = 0;
  #peak = 0;
  #created = 0;
  /** Bytes that may be live at once; creating more throws OutOfMemoryError. */
  limit = Number.POSITIVE_INFINITY;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * Creates a labelled buffer of `size` bytes (rounded up to 4).
   * @throws LimitError above the device's maxBufferSize; OutOfMemoryError above `limit`.
   */
  create(kind: MemoryKind, label: string, size: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const bytes = Math.max(4, Math.ceil(size / 4) * 4);
    const max = this.#device.limits.maxBufferSize;
    if (bytes > max) {
      throw new LimitError(
        `buffer '${label}' needs ${bytes} bytes; the device allows ${max} in one buffer`,
        { asked: bytes, available: max },
        { hint: 'use a smaller batch, or request the device with higher limits' },
      );
    }
    if (this.#bytes + bytes > this.limit) {
      throw new OutOfMemoryError(
        `buffer '${label}' needs ${bytes} bytes with ${this.#bytes} live; the limit is ${this.limit}`,
        { hint: 'use a smaller batch or fewer blocks, or raise the memory limit' },
      );
    }
    const buffer = this.#device.createBuffer({ label, size: bytes, usage });
    this.#live.set(buffer, { bytes, kind });
    this.#bytes += bytes;
    this.#created += 1;
    this.#peak = Math.max(this.#peak, this.#bytes);
    return buffer;
  }

  /** Destroys a buffer; a second call is harmless. */
  destroy(buffer: GPUBuffer): void {
    const entry = this.#live.get(buffer);
    if (!entry) return;
    this.#live.delete(buffer);
    this.#bytes -= entry.bytes;
    buffer.destroy();
  }

  destroyAll(): void {
    for (const buffer of [...this.#live.keys()]) this.destroy(buffer);
  }

  /** Starts a new peak measurement from what is live now. */
  resetPeak(): void {
    this.#peak = this.#bytes;
  }

  report(): MemoryReport {
    const byKind: Partial<Record<MemoryKind, number>> = {};
    for (const { bytes, kind } of this.#live.values()) byKind[kind] = (byKind[kind] ?? 0) + bytes;
    return { live: this.#bytes, peak: this.#peak, buffers: this.#live.size, created: this.#created, byKind };
  }
}
