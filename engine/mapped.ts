/**
 * Tensors that leave the GPU and come back without another copy on the host: one staging buffer, made once, which is mapped, changed in
 * place by whoever asked for it, and written back from where it lies.
 */
import { type Engine, READBACK_USAGE } from './engine.ts';
import { DeviceLostError } from './errors.ts';
import { byteSize, placeOf, type Tensor } from './tensor.ts';

const MAP_READ = 1;

/** Persistent f32 tensors that are read, changed and written again and again. */
export class MappedTensors {
  readonly #engine: Engine;
  readonly #tensors: readonly Tensor[];
  readonly #staging: GPUBuffer;
  #mapped = false;

  /** `tensors` are whole, of f32, and outlive this. @throws OutOfMemoryError, LimitError. */
  constructor(engine: Engine, label: string, tensors: readonly Tensor[]) {
    this.#engine = engine;
    this.#tensors = tensors;
    const bytes = tensors.reduce((sum, t) => sum + byteSize(t), 0);
    this.#staging = engine.memory.create('staging', label, bytes, READBACK_USAGE);
  }

  /** Bytes of all tensors. */
  get bytes(): number {
    return this.#staging.size;
  }

  /** Submits the copy of the tensors as they are after all that was submitted before. */
  copy(): void {
    const encoder = this.#engine.device.createCommandEncoder({ label: this.#staging.label });
    let at = 0;
    for (const t of this.#tensors) {
      const { buffer, offset } = placeOf(t);
      encoder.copyBufferToBuffer(buffer, offset, this.#staging, at, byteSize(t));
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

  /** Writes the values that `values` gave back to the tensors. */
  back(values: Float32Array): void {
    let at = 0;
    for (const t of this.#tensors) {
      const size = byteSize(t) / 4;
      this.#engine.write(t, values.subarray(at, at + size));
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
