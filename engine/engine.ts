/**
 * The engine: one GPU device with its accountant, its pipelines and its persistent tensors, and the only way bytes go to
 * and come from the GPU. Knows no mathematics.
 */
import {
  type AdapterKind,
  adapterKind,
  type DeviceWatch,
  informed,
  type MatrixUnit,
  matrixUnitsOf,
  watchDevice,
} from './device.ts';
import { ConfigError, DeviceLostError, OdeltError, UsageError } from './errors.ts';
import { Memory, type MemoryKind } from './memory/accountant.ts';
import { PipelineCache } from './pipeline.ts';
import { Readback } from './readback.ts';
import {
  byteSize,
  checkTensor,
  type DType,
  isPacked,
  placeOf,
  type Shape,
  type Storage,
  shapeText,
  storageBytes,
  type Tensor,
  tensor,
} from './tensor.ts';
import type { Tuning } from './tuning.ts';

/** Values to upload, of the type that the tensor holds. */
export type TensorData = Float32Array | Uint32Array | Int32Array;

const { STORAGE, COPY_SRC, COPY_DST } = { STORAGE: 0x80, COPY_SRC: 0x4, COPY_DST: 0x8 };
export const STORAGE_USAGE = STORAGE | COPY_SRC | COPY_DST;

/** Something that the host has done for programs, by performance.now(), in milliseconds. */
export interface HostPhase {
  readonly name: 'record' | 'plan' | 'link' | 'compile' | 'bind' | 'write' | 'encode' | 'submit' | 'wait';
  /** Of which program or tensor. */
  readonly label: string;
  readonly begin: number;
  readonly end: number;
}

/** Milliseconds of a submission, where nobody says otherwise: Windows resets a device after two seconds. */
const SUBMISSION_BUDGET = 500;

/** How an engine treats its device. */
export interface EngineOptions {
  /** False leaves a caller's own device alive on dispose. Default true. */
  readonly ownsDevice?: boolean;
  /** Most bytes that one binding may have, where that is to be less than the device allows: to test what large models need. */
  readonly largestBinding?: number;
  /** Which variants of kernels to take, where that has been measured. Default: what is known of the adapter's kind. */
  readonly tuning?: Tuning;
  /**
   * Whether kernels may read copies of tensors in textures (engine/mirrors.ts), which the CPU driver lavapipe loads faster; other adapters
   * have no such kernels. The textures, as large as the largest tensors that are read so, count as memory of the kind 'mirrors'. 'always':
   * where it does not pay, too. Default true.
   */
  readonly mirrors?: boolean | 'always';
  /** Kinds of matrix unit that kernels may use. Default: those that the device itself lists. */
  readonly matrixUnits?: readonly MatrixUnit[];
  /** Whether shaders check bounds, as they do unless Dawn was asked otherwise: what is fast depends on it. Default true. */
  readonly boundsChecks?: boolean;
  /**
   * Milliseconds that one submission should take at most; longer programs are submitted in parts, as browsers and drivers end devices
   * whose submissions do not end. What a program takes is measured while it runs; one dispatch is never parted. Default 500, a
   * quarter of what the strictest driver allows; Infinity parts nothing.
   */
  readonly submissionBudget?: number;
  /** How to await the GPU; some runtimes poll and want help (engine/engine.node.ts). Default: just await. */
  readonly wait?: <T>(pending: Promise<T>) => Promise<T>;
}

/**
 * A device with what belongs to it: memory, compiled pipelines, errors. Tensors and programs live on it until it is
 * disposed.
 */
export class Engine {
  readonly device: GPUDevice;
  /** What kind of machine runs the kernels; CPU drivers want other tiles than GPUs (kernels/tuning.ts). */
  readonly adapterClass: AdapterKind;
  readonly memory: Memory;
  /** @internal */
  readonly pipelines: PipelineCache;
  /** Counts that replay must not move; tests watch them. */
  readonly counters = { bindGroups: 0, submits: 0, dispatches: 0 };
  /** Most bytes of a tensor: of one binding, and of the buffer behind it. */
  readonly largestBinding: number;
  readonly matrixUnits: readonly MatrixUnit[];
  /** As in the options. */
  readonly boundsChecks: boolean;
  /** As in the options, of programs that are compiled from now on. */
  submissionBudget: number;
  /** Asked when operations are recorded or run: changing it changes what is recorded from then on. */
  tuning: Tuning | undefined;
  /** As in the options; asked when operations are recorded or run. */
  mirrors: boolean | 'always';
  /** Told what the host has done, where somebody wants to know: for traces (bench/trace.ts). */
  onPhase: ((phase: HostPhase) => void) | null = null;
  readonly #watch: DeviceWatch;
  /** Counts changes of where persistent storages lie; programs re-bind when it has moved (model/weights/weights.ts). */
  placements = 0;
  #disposed = false;
  readonly #readback: Readback;
  readonly #ownsDevice: boolean;
  readonly #wait: NonNullable<EngineOptions['wait']>;
  /** When the last timed submission was done. */
  #lastDone = 0;
  /** Waits, after a buffer could not be made, for all that was issued with it. */
  #draining = 0;

  constructor(device: GPUDevice, adapterClass: AdapterKind, options: EngineOptions = {}) {
    this.device = device;
    this.adapterClass = adapterClass;
    this.memory = new Memory(device);
    this.#readback = new Readback(device, this.memory);
    const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
    const { largestBinding = Number.POSITIVE_INFINITY } = options;
    this.largestBinding = Math.min(largestBinding, maxStorageBufferBindingSize, maxBufferSize);
    this.pipelines = new PipelineCache(device);
    this.matrixUnits = options.matrixUnits ?? matrixUnitsOf(device.adapterInfo);
    this.boundsChecks = options.boundsChecks ?? true;
    this.mirrors = options.mirrors ?? true;
    this.tuning = options.tuning;
    this.submissionBudget = options.submissionBudget ?? SUBMISSION_BUDGET;
    if (!(this.submissionBudget > 0)) {
      throw new ConfigError(
        `submissionBudget is ${this.submissionBudget}; it must be a positive number of milliseconds`,
      );
    }
    this.#ownsDevice = options.ownsDevice ?? true;
    this.#wait = options.wait ?? ((pending) => pending);
    // Errors are thrown by the next check(), so nobody needs to print them.
    this.#watch = watchDevice(device, () => {});
  }

  /** @internal Tells `onPhase` of something that began at `begin` and has ended now. */
  did(name: HostPhase['name'], label: string, begin: number): void {
    this.onPhase?.({ name, label, begin, end: performance.now() });
  }

  /** Throws what went wrong on the device since the last check, if anything did: want of memory before all that follows from it. */
  check(): void {
    this.#alive();
    if (this.#watch.lost) throw this.#watch.lost;
    const failure = this.memory.takeFailure();
    if (failure) {
      void this.#drain();
      throw failure;
    }
    // What else is wrong may follow from a buffer of which it is not known yet; it waits for the next check.
    if (!this.memory.pending && this.#draining === 0) this.#watch.check();
  }

  #alive(): void {
    if (this.#disposed) throw new UsageError('this engine has been disposed');
  }

  /**
   * Waits until it is known whether the device had memory for all buffers created so far.
   * @throws OutOfMemoryError naming the first that it had none for; that buffer is then no longer live.
   */
  async allocated(): Promise<void> {
    let failure = this.memory.takeFailure();
    if (!failure && this.memory.pending) failure = this.memory.takeFailure(await this.#wait(this.memory.settled()));
    if (!failure) return;
    await this.#drain();
    throw failure;
  }

  /** Lets the device report all that followed from a buffer that was not made, and forgets it. */
  async #drain(): Promise<void> {
    this.#draining++;
    await this.done();
    this.#draining--;
    this.#watch.forgetValidation();
  }

  /**
   * A persistent tensor of its own buffer, zero-filled, or beginning with `data`. `allocated()` says whether there was memory for it.
   * @throws UsageError for a shape, type or data that make no tensor; LimitError above the device's largest buffer; OutOfMemoryError.
   */
  tensor(label: string, shape: Shape, options: { kind?: MemoryKind; dtype?: DType; data?: TensorData } = {}): Tensor {
    const { dtype = 'f32', data } = options ?? {};
    checkTensor(label, shape, dtype);
    if (data !== undefined) checkData(label, dtype, data);
    const storage: Storage = { label, bytes: storageBytes({ shape, dtype }), place: null };
    const t = tensor(label, shape, dtype, storage);
    this.place(t, options?.kind);
    try {
      if (data) this.write(t, data);
    } catch (error) {
      this.release(t);
      throw error;
    }
    return t;
  }

  /** Gives a persistent tensor a buffer of its own, zero-filled, if it has been released. */
  place({ label, storage }: Tensor, kind: MemoryKind = 'data'): void {
    if (storage.place) return;
    this.#alive();
    storage.place = { buffer: this.memory.create(kind, label, storage.bytes, STORAGE_USAGE), offset: 0 };
    this.placements++;
  }

  /** A view of part of a persistent buffer: `offset` in elements, a multiple of 64 so that it can be bound. */
  slice(whole: Tensor, offset: number, label: string, shape: Shape): Tensor {
    const place = placeOf(whole);
    if (offset % 64 !== 0) throw new UsageError(`slice '${label}' starts at element ${offset}, not a multiple of 64`);
    const bytes = storageBytes({ shape, dtype: whole.dtype });
    if (offset * 4 + bytes > whole.storage.bytes)
      throw new UsageError(`slice '${label}' ends outside '${whole.label}'`);
    const storage: Storage = { label, bytes, place: { buffer: place.buffer, offset: place.offset + offset * 4 } };
    return tensor(label, shape, whole.dtype, storage);
  }

  /** Writes all of `data` to the start of the tensor. */
  write(t: Tensor, data: TensorData): void {
    this.#alive();
    const place = this.#madePlace(t);
    checkData(t.label, t.dtype, data);
    whole(t, 'written');
    if (data.byteLength > t.storage.bytes) {
      throw new UsageError(`${data.length} elements do not fit '${t.label}' ${shapeText(t)}`);
    }
    if (data.length === 0) return; // no rows at all; Deno's writeBuffer panics on nothing
    const writing = performance.now();
    this.device.queue.writeBuffer(place.buffer, place.offset, data as Float32Array<ArrayBuffer>);
    this.did('write', t.label, writing);
  }

  /** Destroys a persistent tensor's buffer, if it has one; programs that use it throw until it is placed again. */
  release({ storage }: Tensor): void {
    if (!storage.place) return;
    this.memory.destroy(storage.place.buffer);
    storage.place = null;
    this.placements++;
  }

  /** Reads a tensor as 32-bit floats. @throws UsageError for a packed one. */
  async read(t: Tensor): Promise<Float32Array> {
    return (await this.readAll([t]))[0]!;
  }

  /** Reads a tensor's 32-bit words back as unsigned integers. Waits for all work submitted before. */
  async readU32(t: Tensor): Promise<Uint32Array> {
    return new Uint32Array((await this.#readBytes([t]))[0]!);
  }

  /**
   * Reads several tensors as they are at one time, with one wait. `keep`: keeps the buffer through which they come, for the next time.
   * @throws UsageError for packed ones.
   */
  async readAll(ts: readonly Tensor[], { keep = true }: { keep?: boolean } = {}): Promise<Float32Array[]> {
    ts.forEach(placeOf);
    const packed = ts.find(isPacked);
    if (packed) {
      throw new UsageError(`'${packed.label}' is stored as ${packed.dtype} and cannot be read as floats`, {
        hint: 'copy it into a tensor of f32 first (copyInto)',
      });
    }
    return (await this.#readBytes(ts, keep)).map((b) => new Float32Array(b));
  }

  /** Frees the buffers that were kept to read back through; the next reads make their own. */
  releaseReadback(): void {
    this.#readback.release();
  }

  async #readBytes(ts: readonly Tensor[], keep = true): Promise<ArrayBuffer[]> {
    this.check();
    const places = ts.map((t) => this.#madePlace(t));
    for (const t of ts) whole(t, 'read');
    const stretches = ts.map((t, i) => ({ ...places[i]!, bytes: byteSize(t) }));
    const waiting = performance.now();
    let bytes: ArrayBuffer[];
    try {
      bytes = await this.#readback.read(stretches, this.#wait, keep);
    } catch (cause) {
      if (cause instanceof OdeltError) throw cause;
      await this.allocated();
      this.check();
      throw new DeviceLostError('reading back from the GPU failed', { cause });
    }
    this.did('wait', 'readback', waiting);
    await this.allocated();
    this.check();
    return bytes;
  }

  /** Where a tensor lies. @throws UsageError without memory; OutOfMemoryError where the device had none for it. */
  #madePlace(t: Tensor) {
    const place = placeOf(t);
    this.memory.check(place.buffer);
    return place;
  }

  /** Awaits something of the device's as the runtime wants it; `label` is told to `onPhase`. */
  async waitFor<T>(pending: Promise<T>, label: string): Promise<T> {
    const waiting = performance.now();
    const result = await this.#wait(pending);
    this.did('wait', label, waiting);
    return result;
  }

  /** Resolves when the GPU has finished what was submitted so far. What went wrong is left for the next check; never rejects. */
  async done(): Promise<void> {
    try {
      await this.#wait(this.device.queue.onSubmittedWorkDone());
    } catch {
      // The device is lost: the next check says so.
    }
  }

  /** @internal Milliseconds that the last submission takes, from when the one before it that was timed is done. */
  async timeSubmission(): Promise<number> {
    const submitted = performance.now();
    try {
      // Not by `wait`: it may sleep between polls, and one who sleeps for every submission keeps those awake who compute.
      await this.device.queue.onSubmittedWorkDone();
    } catch {
      // The device is lost: the next check says so.
    }
    const began = Math.max(submitted, this.#lastDone);
    this.#lastDone = performance.now();
    return this.#lastDone - began;
  }

  /** Waits until the GPU has finished all that was submitted, and throws what went wrong. */
  async idle(): Promise<void> {
    const waiting = performance.now();
    await this.#wait(this.device.queue.onSubmittedWorkDone());
    this.did('wait', 'queue', waiting);
    await this.allocated();
    this.check();
  }

  /** Frees every buffer and, if it is ours, the device. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.memory.destroyAll();
    if (this.#ownsDevice) this.device.destroy();
    else this.#watch.stop();
  }
}

/** An engine on a caller's own device, which outlives it. @throws UsageError for what is no device. */
export function engineOn(
  device: GPUDevice,
  { mirrors, submissionBudget }: Pick<EngineOptions, 'mirrors' | 'submissionBudget'>,
): Engine {
  const { adapterInfo } = informed(device);
  return new Engine(device, adapterKind(adapterInfo), { ownsDevice: false, mirrors, submissionBudget });
}

/** Arrays of the 32-bit words that make up a tensor of each type. */
const ARRAYS = { f32: 'Float32Array', i32: 'Int32Array', u32: 'Uint32Array', f16: 'Uint32Array', i8: 'Uint32Array' };

/** By its name, as arrays may come from another realm. @throws UsageError for an array of another type, or none. */
function checkData(label: string, dtype: DType, data: TensorData): void {
  const found = ArrayBuffer.isView(data) ? data[Symbol.toStringTag] : data === null ? 'null' : typeof data;
  if (found === ARRAYS[dtype]) return;
  throw new UsageError(`tensor '${label}' of ${dtype} is given ${found} as data; it must be a ${ARRAYS[dtype]}`);
}

/** Refuses views of some columns: their elements do not lie together. */
function whole(t: Tensor, verb: string): void {
  if (t.view)
    throw new UsageError(`'${t.label}' is a view of some columns of a matrix and cannot be ${verb} by itself`);
}
