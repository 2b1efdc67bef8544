/**
 * The accountant: every GPU buffer and texture odelt creates is created here, so live and peak bytes are facts, not estimates.
 * Knows nothing of tensors.
 */

import { LimitError, OutOfMemoryError, UsageError } from '../errors.ts';
import type { MirrorFormat } from '../wgsl.ts';

/** What a buffer is for; the memory reports are broken down by it. 'mirrors' are textures. */
export type MemoryKind =
  | 'weights'
  | 'gradients'
  | 'optimizer'
  | 'activations'
  | 'mirrors'
  | 'data'
  | 'uniforms'
  | 'staging';

/** What is counted. */
type Made = GPUBuffer | GPUTexture;

/** What an engine holds on the GPU, in bytes. */
export interface MemoryReport {
  readonly live: number;
  /** A buffer that the device turns out to have no memory for counts until that is known. */
  readonly peak: number;
  readonly buffers: number;
  /** Buffers ever created; replaying a program must not move it. */
  readonly created: number;
  readonly byKind: Readonly<Partial<Record<MemoryKind, number>>>;
}

/** Measures the most bytes that are alive at once, beside others that do. */
export interface PeakMeter {
  /** From `meterPeak` or the last `restart` on. */
  readonly bytes: number;
  /** Begins anew with what is live now. */
  restart(): void;
  /** Counts no more. */
  stop(): void;
}

const COPY_DST_STORAGE_BINDING = 0x2 | 0x8;

/** Creates and counts every buffer and texture of an engine. */
export class Memory {
  readonly #device: GPUDevice;
  /** `number`: how many buffers were created before. */
  readonly #live = new Map<Made, { bytes: number; kind: MemoryKind; number: number }>();
  #bytes = 0;
  #peak = 0;
  #created = 0;
  /** Error scopes that have yet to say whether their buffer was made. */
  readonly #pending = new Set<Promise<OutOfMemoryError | null>>();
  /** Why buffers were not made, for whoever still holds one of them. */
  readonly #failures = new WeakMap<Made, OutOfMemoryError>();
  /** The first failure that nobody has been told of. */
  #failure: OutOfMemoryError | null = null;
  readonly #meters = new Set<{ bytes: number }>();
  #limit = Number.POSITIVE_INFINITY;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Bytes that may be live at once; creating more throws OutOfMemoryError. Default: no limit. @throws UsageError for what is no size. */
  get limit(): number {
    return this.#limit;
  }
  set limit(bytes: number) {
    if (typeof bytes !== 'number' || !(bytes >= 0))
      throw new UsageError(`the memory limit is to be ${bytes}; it must be a number of bytes`);
    this.#limit = bytes;
  }

  /**
   * Creates a labelled buffer of `size` bytes (rounded up to 4). Whether the device has the memory is known later: see `settled`.
   * @throws LimitError above the device's maxBufferSize; OutOfMemoryError above `limit`.
   */
  create(kind: MemoryKind, label: string, size: number, usage: number): GPUBuffer {
    const bytes = Math.max(4, Math.ceil(size / 4) * 4);
    const max = this.#device.limits.maxBufferSize;
    if (bytes > max) {
      throw new LimitError(
        `buffer '${label}' needs ${bytes} bytes; the device allows ${max} in one buffer`,
        { asked: bytes, available: max },
        { hint: 'use a smaller batch, or request the device with higher limits' },
      );
    }
    return this.#counted(kind, `buffer '${label}'`, bytes, () =>
      this.#device.createBuffer({ label, size: bytes, usage }),
    );
  }

  /**
   * Creates a texture to copy to and to be read. Whether the device has the memory is known later.
   * @throws OutOfMemoryError above `limit`.
   */
  createTexture(
    kind: MemoryKind,
    label: string,
    { size, format, texelBytes }: { size: readonly [number, number]; format: MirrorFormat; texelBytes: number },
  ): GPUTexture {
    const usage = COPY_DST_STORAGE_BINDING;
    return this.#counted(kind, `texture '${label}'`, size[0] * size[1] * texelBytes, () =>
      this.#device.createTexture({ label, size: [...size], format, usage }),
    );
  }

  #counted<T extends Made>(kind: MemoryKind, what: string, bytes: number, make: () => T): T {
    if (this.#bytes + bytes > this.limit) {
      throw new OutOfMemoryError(`${what} needs ${bytes} bytes with ${this.#bytes} live; the limit is ${this.limit}`, {
        hint: 'use a smaller batch or fewer blocks, or raise the memory limit',
      });
    }
    const made = this.#make(`${what} needs ${bytes} bytes with ${this.#bytes} live`, make);
    this.#live.set(made, { bytes, kind, number: this.#created });
    this.#bytes += bytes;
    this.#created += 1;
    this.#peak = Math.max(this.#peak, this.#bytes);
    for (const meter of this.#meters) meter.bytes = Math.max(meter.bytes, this.#bytes);
    return made;
  }

  /** Makes it under an error scope of its own, which tells later when there was no memory for it. */
  #make<T extends Made>(asked: string, make: () => T): T {
    const failure = (why: string, cause?: unknown) =>
      new OutOfMemoryError(`${asked}; the device has no memory for it`, {
        details: why,
        cause,
        hint: 'use a smaller batch or fewer blocks, or free other users of the GPU',
      });
    this.#device.pushErrorScope('out-of-memory');
    let made: T;
    try {
      made = make();
    } catch (cause) {
      this.#device.popErrorScope().catch(() => null);
      throw cause instanceof RangeError ? failure(cause.message, cause) : cause;
    }
    const scope = this.#device.popErrorScope().then(
      (error) => {
        if (!error) return null;
        this.destroy(made);
        const failed = failure(error.message);
        this.#failures.set(made, failed);
        this.#failure ??= failed;
        return failed;
      },
      () => null, // the device is lost, which is reported as such
    );
    this.#pending.add(scope);
    void scope.then(() => this.#pending.delete(scope));
    return made;
  }

  /** Whether a buffer has yet to turn out to be made. */
  get pending(): boolean {
    return this.#pending.size > 0;
  }

  /** Resolves when all buffers created so far are known to be made or not, to the first failure. Never rejects. */
  async settled(): Promise<OutOfMemoryError | null> {
    const failures = await Promise.all(this.#pending);
    return failures.find((failure) => failure !== null) ?? null;
  }

  /** Takes a failure to tell of it: by default the first since the last that was taken, if there is one. Each is taken once. */
  takeFailure(failure: OutOfMemoryError | null = this.#failure): OutOfMemoryError | null {
    if (failure === this.#failure) this.#failure = null;
    return failure;
  }

  /** False once a buffer is destroyed, or known not to have been made. */
  isLive(made: GPUBuffer | GPUTexture): boolean {
    return this.#live.has(made);
  }

  /** @throws OutOfMemoryError for a buffer that is known not to have been made. */
  check(made: GPUBuffer | GPUTexture): void {
    const failure = this.#failures.get(made);
    if (failure) throw failure;
  }

  /** Destroys a buffer; a second call is harmless. */
  destroy(made: GPUBuffer | GPUTexture): void {
    const entry = this.#live.get(made);
    if (!entry) return;
    this.#live.delete(made);
    this.#bytes -= entry.bytes;
    made.destroy();
  }

  /**
   * Returns what `body` makes; where it throws, the buffers that it created are destroyed. It must not wait for anything: what
   * others created meanwhile would go with them.
   */
  allOrNothing<T>(body: () => T): T {
    const first = this.#created;
    try {
      return body();
    } catch (error) {
      for (const [buffer, { number }] of [...this.#live]) if (number >= first) this.destroy(buffer);
      throw error;
    }
  }

  /** Destroys every buffer. */
  destroyAll(): void {
    for (const buffer of [...this.#live.keys()]) this.destroy(buffer);
  }

  /** Starts a new peak measurement from what is live now. */
  resetPeak(): void {
    this.#peak = this.#bytes;
  }

  /** Begins a measurement of the peak of one's own, to be stopped; `resetPeak` leaves it alone. */
  meterPeak(): PeakMeter {
    const meter = { bytes: this.#bytes };
    this.#meters.add(meter);
    return {
      get bytes() {
        return meter.bytes;
      },
      restart: () => {
        meter.bytes = this.#bytes;
      },
      stop: () => void this.#meters.delete(meter),
    };
  }

  /** What is held now, and the most that was held since the start or `resetPeak`. */
  report(): MemoryReport {
    const byKind: Partial<Record<MemoryKind, number>> = {};
    for (const { bytes, kind } of this.#live.values()) byKind[kind] = (byKind[kind] ?? 0) + bytes;
    return { live: this.#bytes, peak: this.#peak, buffers: this.#live.size, created: this.#created, byKind };
  }
}
