/**
 * Tensors that leave the GPU and come back without another copy on the host: one staging buffer, made once, which is mapped, changed in
 * place by whoever asked for it, and written back from where it lies.
 */
import type { Engine } from './engine.ts';
import { DeviceLostError, UsageError } from './errors.ts';
import { READBACK_USAGE } from './readback.ts';
import { byteSize, placeOf, type Tensor } from './tensor.ts';

const MAP_READ = 1;

/** Which of the tensors, by their places in the list. */
type Which = (index: number) => boolean;
const all: Which = () => true;

/** Persistent f32 tensors that are read, changed and written again and again. */
export class MappedTensors {
  readonly #engine: Engine;
  readonly #tensors: readonly Tensor[];
  readonly #staging: GPUBuffer;
  #mapped = false;

  /**
   * `tensors` are whole, of f32, and outlive this. `staging`: takes the staging buffer of others, of as many bytes, which are not used at
   * the same time. @throws OutOfMemoryError, LimitError; UsageError for others of another size.
   */
  constructor(engine: Engine, label: string, tensors: readonly Tensor[], staging?: MappedTensors) {
    this.#engine = engine;
    this.#tensors = tensors;
    const bytes = tensors.reduce((sum, t) => sum + byteSize(t), 0);
    if (staging && staging.bytes !== bytes) {
      throw new UsageError(
        `'${label}' has ${bytes} bytes; the staging buffer that it is to share has ${staging.bytes}`,
      );
    }
    this.#staging = staging ? staging.#staging : engine.memory.create('staging', label, bytes, READBACK_USAGE);
  }

  /** Bytes of all tensors. */
  get bytes(): number {
    return this.#staging.size;
  }

  /** Submits the copy of the tensors, or of some, as they are after all that was submitted before. */
  copy(which = all): void {
    const encoder = this.#engine.device.createCommandEncoder({ label: this.#staging.label });
    let at = 0;
    for (const [i, t] of this.#tensors.entries()) {
      const { buffer, offset } = placeOf(t);
      if (which(i)) encoder.copyBufferToBuffer(buffer, offset, this.#staging, at, byteSize(t));
      at += byteSize(t);
    }
    this.#engine.device.queue.submit([encoder.finish()]);
  }

  /**
   * What was copied last, once it is there: all tensors' elements one after the other, in the mapped memory itself. They may be
   * changed, until `back` or `drop`. @throws DeviceLostError.
   */
  async values(): Promise<Float32Array> {
    try {
      await this.#engine.waitFor(this.#staging.mapAsync(MAP_READ), this.#staging.label);
    } catch (cause) {
      this.#engine.check();
      throw new DeviceLostError('reading back from the GPU failed', { cause });
    }
    this.#mapped = true;
    return new Float32Array(this.#staging.getMappedRange());
  }

  /** Writes the values that `values` gave back to the tensors, or to some. */
  back(values: Float32Array, which = all): void {
    let at = 0;
    for (const [i, t] of this.#tensors.entries()) {
      const size = byteSize(t) / 4;
      if (which(i)) this.#engine.write(t, values.subarray(at, at + size));
      at += size;
    }
    this.drop();
  }

  /** Gives the mapped memory back. */
  drop(): void {
    if (this.#mapped) this.#staging.unmap();
    this.#mapped = false;
  }

  dispose(): void {
    this.#engine.memory.destroy(this.#staging);
  }
}
