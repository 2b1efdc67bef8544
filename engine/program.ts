/**
 * Programs: operations recorded once, their memory planned, their pipelines compiled and their bind groups made, then
 * replayed any number of times without allocating anything.
 *
 * All planned tensors live in the slabs of one arena. WebGPU refuses a buffer that one dispatch binds both read-only and
 * writable, even at disjoint ranges, but allows several writable disjoint ranges: so read-only bindings that share a
 * slab with a written tensor are compiled as read_write ("promoted"), and the planner is free to pack everything together.
 */

import { throwIfAborted } from './abort.ts';
import { encodeSteps, type Prepared, type Step } from './encode.ts';
import { type Engine, STORAGE_USAGE } from './engine.ts';
import { LimitError, UsageError } from './errors.ts';
import type { CheckedDispatch } from './kernel.ts';
import { Arena } from './memory/arena.ts';
import type { Plan } from './memory/planner.ts';
import { type MirrorNeeds, mirrorNeeds } from './mirrors.ts';
import { bindGroup, type Pipeline } from './pipeline.ts';
import { planRecording, type Recording } from './recording.ts';
import { ReplayState } from './replay.ts';
import type { ScalarValues } from './scalar.ts';
import { Submissions } from './submissions.ts';
import { byteSize, placeOf, type Storage, type Tensor } from './tensor.ts';

export { planRecording, type Recording, record } from './recording.ts';

/** How a recording becomes a program. */
export interface CompileOptions {
  /** Slabs to share with other programs that never run at the same time. */
  arena?: Arena;
  /** Debugging: gives every planned tensor its own memory, so that a planning error shows as a different result. */
  separate?: boolean;
  signal?: AbortSignal;
  /** Told after each pipeline. */
  onProgress?: (progress: { compiled: number; pipelines: number }) => void;
}

/** Which dispatches of a program: all, where nothing is said. */
export interface Part {
  readonly from?: number;
  readonly to?: number;
}

const UNIFORM_COPY_DST = 0x40 | 0x8;

/**
 * A recording, compiled: its memory planned, its pipelines and bind groups made. `run` replays it and allocates
 * nothing.
 */
export class Program {
  readonly name: string;
  /** The plan behind it: planned bytes, lower bound, placements. */
  readonly plan: Plan;
  readonly #engine: Engine;
  readonly #arena: Arena;
  readonly #steps: readonly Step[];
  readonly #bind: () => void;
  /** The planned storages, and whether each lasts until the end of a run. */
  readonly #kept: ReadonlyMap<Storage, boolean>;
  readonly #mirrors: MirrorNeeds;
  readonly #uniforms: GPUBuffer;
  readonly #state: ReplayState;
  readonly #submissions: Submissions;
  #sized = -1;
  readonly #ownsArena: boolean;
  /** Buffers outside the arena: the uniforms, and with `separate` one per planned tensor. */
  readonly #buffers: GPUBuffer[] = [];
  #generation = -1;
  #placements = -1;
  #disposed = false;

  private constructor(engine: Engine, recording: Recording, options: CompileOptions) {
    this.name = recording.name;
    this.#engine = engine;
    this.#ownsArena = !options.arena;
    this.#arena = options.arena ?? new Arena(engine, recording.name);
    const limit = engine.device.limits.maxBufferSize;
    const planning = performance.now();
    const { plan: planned, used } = planRecording(recording, limit);
    engine.did('plan', recording.name, planning);
    this.plan = planned;
    this.#kept = new Map(used.map((s) => [s, recording.kept.has(s)]));
    this.#check(recording.nodes);
    this.#mirrors = mirrorNeeds(recording.nodes);
    this.#bind = () => {
      this.#arena.reserve(options.separate ? [] : planned.slabs, this.#mirrors);
      if (options.separate) return;
      used.forEach((s, i) => {
        const { slab, offset } = planned.placements[i]!;
        s.place = { buffer: this.#arena.slab(slab), offset };
      });
    };

    this.#state = new ReplayState(recording.nodes, engine.device.limits.maxComputeWorkgroupsPerDimension);
    this.#submissions = new Submissions(recording.nodes.length, engine.submissionBudget);
    this.#steps = recording.nodes.map((node) => {
      return { node, mirroring: node.bindings.some(({ mirror }) => mirror), pipeline: null, group: null };
    });
    try {
      for (const s of options.separate ? used : []) {
        const buffer = engine.memory.create('activations', s.label, s.bytes, STORAGE_USAGE);
        this.#buffers.push(buffer);
        s.place = { buffer, offset: 0 };
      }
      this.#bind();
      const { byteLength } = this.#state.blocks;
      this.#uniforms = engine.memory.create('uniforms', `${recording.name}/params`, byteLength, UNIFORM_COPY_DST);
      this.#buffers.push(this.#uniforms);
    } catch (error) {
      this.#free();
      throw error;
    }
    engine.device.queue.writeBuffer(this.#uniforms, 0, this.#state.blocks);
  }

  /**
   * Plans, allocates and compiles a recording, which can be compiled once. Pipelines compile in parallel. Persistent tensors that it
   * only reads may still be without memory; they need it when the program runs.
   * @throws OutOfMemoryError, LimitError, InterruptedError, UsageError; nothing stays allocated then.
   */
  static async compile(engine: Engine, recording: Recording, options: CompileOptions = {}): Promise<Program> {
    engine.check();
    throwIfAborted(options.signal);
    const program = new Program(engine, recording, options);
    try {
      await engine.allocated();
      const wanted = program.#steps.map((step) => program.#variant(step));
      const linking = performance.now();
      let compiled = 0;
      // By pipeline: when its end has been told.
      const distinct = new Map<Promise<Pipeline>, Promise<void>>();
      const pending = wanted.map((variant) => {
        const p = engine.pipelines.compile(variant);
        if (!distinct.has(p)) {
          const told = p.then(() => options.onProgress?.({ compiled: ++compiled, pipelines: distinct.size }));
          distinct.set(p, told);
        }
        return p;
      });
      engine.did('link', recording.name, linking);
      const compiling = performance.now();
      // All of them settle before an error goes on: a process that ended while drivers compile would crash.
      await Promise.allSettled(distinct.values());
      engine.did('compile', recording.name, compiling);
      const pipelines = await Promise.all(pending);
      await Promise.all(distinct.values());
      throwIfAborted(options.signal);
      program.#steps.forEach((step, i) => {
        step.pipeline = pipelines[i]!;
      });
      if (program.#placed()) program.#rebind();
      await engine.idle();
      return program;
    } catch (error) {
      program.dispose();
      throw error;
    }
  }

  /** Dispatches of one run. */
  get dispatches(): number {
    return this.#steps.length;
  }

  /** Dispatches of one run by kernel, most first, and the bytes that they bind: what they would move if each tensor moved once. */
  kernels(): { readonly kernel: string; readonly dispatches: number; readonly bytes: number }[] {
    const found = new Map<string, { dispatches: number; bytes: number }>();
    for (const { node } of this.#steps) {
      const sum = found.get(node.dispatch.kernel.name) ?? { dispatches: 0, bytes: 0 };
      sum.dispatches++;
      for (const { tensor } of node.bindings) sum.bytes += byteSize(tensor);
      found.set(node.dispatch.kernel.name, sum);
    }
    return [...found]
      .map(([kernel, sum]) => ({ kernel, ...sum }))
      .sort((a, b) => b.dispatches - a.dispatches || (a.kernel < b.kernel ? -1 : 1));
  }

  /** @internal What one run dispatches, in order. */
  get nodes(): readonly CheckedDispatch[] {
    return this.#steps.map(({ node }) => node);
  }

  /** How many leading dispatches there are up to the last one that writes the tensor's buffer, that one included; 0 for none. */
  lastWrite(tensor: Tensor): number {
    const { buffer } = placeOf(tensor);
    const writes = ({ node }: Step) => node.bindings.some((b) => b.writable && placeOf(b.tensor).buffer === buffer);
    return this.#steps.findLastIndex(writes) + 1;
  }

  /**
   * Encodes and submits the whole program once; or a part, dispatches `from` .. `to` - 1. Parts of one run must follow each other in
   * order, with the same values, and nothing else may run in the arena between them. Where it would take longer than the engine's
   * `submissionBudget`, in several submissions.
   */
  run(values: ScalarValues = {}, { from = 0, to = this.#steps.length }: Part = {}): void {
    this.#prepare(values);
    const ends = this.#ends();
    const measured = this.#submissions.measures(ends.length);
    let begin = from;
    for (const end of ends) {
      if (end <= begin && end < to) continue;
      const stop = Math.min(end, to);
      this.#submit(begin, stop);
      if (measured) this.#measure(begin, stop);
      begin = stop;
      if (begin >= to) break;
    }
  }

  /** After which dispatches submissions end. */
  #ends(): readonly number[] {
    const { counts, resized } = this.#state;
    if (this.#sized !== resized) this.#submissions.resize(counts);
    this.#sized = resized;
    return this.#submissions.ends(counts);
  }

  /** Tells, once the queue is done, what the dispatches took that were submitted last. */
  #measure(from: number, to: number): void {
    const submitted = this.#submissions.submitted(from, to);
    void this.#engine.timeSubmission().then((milliseconds) => this.#submissions.took(submitted, milliseconds));
  }

  #submit(from: number, to: number): void {
    const { device, counters } = this.#engine;
    const encoding = performance.now();
    const encoder = device.createCommandEncoder({ label: this.name });
    counters.dispatches += encodeSteps(encoder, this.#prepared(), { label: this.name, from, to });
    this.#arena.owner = this;
    const commands = encoder.finish();
    this.#engine.did('encode', this.name, encoding);
    const submitting = performance.now();
    device.queue.submit([commands]);
    this.#engine.did('submit', this.name, submitting);
    counters.submits++;
  }

  /** Ready to be encoded by others, in any way that has the effect of a run. @internal */
  prepared(values: ScalarValues): Prepared {
    this.#prepare(values);
    this.#arena.owner = this;
    return this.#prepared();
  }

  #prepared(): Prepared {
    return { steps: this.#steps, counts: this.#state.counts, mirrors: this.#arena.mirrors };
  }

  /** Its outputs hold something else. @internal */
  overwritten(): void {
    this.#arena.owner = null;
  }

  /**
   * Reads planned tensors that were kept.
   * @throws UsageError before the first run, for a tensor that was not kept, or when the same memory has since been used otherwise.
   */
  async read(...tensors: readonly Tensor[]): Promise<Float32Array[]> {
    for (const t of tensors) {
      if (this.#kept.get(t.storage) === false) {
        throw new UsageError(`'${t.label}' does not outlast a run of '${this.name}': its memory is used again`, {
          hint: 'mark it with keep() while recording',
        });
      }
    }
    if (this.#arena.owner !== this || this.#arena.generation !== this.#generation || !this.#arena.intact) {
      throw new UsageError(`'${this.name}' has no outputs in memory`, {
        hint: 'run it first, and read before another program runs in the same arena or grows it',
      });
    }
    return this.#engine.readAll(tensors);
  }

  /** Frees what the program alone holds; an arena given to it stays. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#free();
  }

  #free(): void {
    for (const buffer of this.#buffers) this.#engine.memory.destroy(buffer);
    for (const storage of this.#kept.keys()) storage.place = null;
    if (this.#ownsArena) this.#arena.dispose();
  }

  /** What WebGPU would only report later, or not at all. */
  #check(nodes: readonly CheckedDispatch[]): void {
    for (const storage of this.#kept.keys()) {
      if (storage.place) {
        throw new UsageError(`'${this.name}' has been compiled already`, {
          hint: 'record it again for a second program',
        });
      }
    }
    const available = this.#engine.largestBinding;
    for (const { label, bindings } of nodes) {
      for (const { tensor: t } of bindings) {
        if (t.storage.bytes <= available) continue;
        throw new LimitError(
          `${label} binds '${t.label}' of ${t.storage.bytes} bytes; the device allows ${available} in one binding`,
          { asked: t.storage.bytes, available },
          { hint: 'use a smaller batch or model, or an adapter with higher limits' },
        );
      }
    }
  }

  #prepare(values: ScalarValues): void {
    const { device } = this.#engine;
    this.#engine.check();
    if (this.#disposed) throw new UsageError(`program '${this.name}' has been disposed`);
    const moved = this.#generation !== this.#arena.generation || this.#placements !== this.#engine.placements;
    if (moved || !this.#arena.intact) this.#rebind();
    const writing = performance.now();
    if (this.#state.update(values)) {
      device.queue.writeBuffer(this.#uniforms, 0, this.#state.changing);
      this.#engine.did('write', this.name, writing);
    }
  }

  #variant({ node }: Step) {
    const { kernel, entry, constants = {} } = node.dispatch;
    const results = node.bindings.filter((b) => b.writable);
    const written = new Set(results.map((b) => placeOf(b.tensor).buffer));
    const plans = results.some((b) => this.#kept.has(b.tensor.storage));
    // Of planned tensors all, in whatever slabs they lie: that depends on the batch, and drivers may compute otherwise from what is writable.
    // What has no place yet lies outside the arena when it gets one, and so beside no planned tensor.
    const shared = node.bindings.filter(({ writable, mirror, tensor: { storage } }) => {
      if (writable || mirror || storage.place === null) return false;
      return (plans && this.#kept.has(storage)) || written.has(storage.place.buffer);
    });
    const twice = shared.find((a, i) => shared.findIndex((b) => b.tensor.storage === a.tensor.storage) < i);
    if (twice) {
      throw new UsageError(`${node.label} binds '${twice.tensor.label}' twice beside a result in the same memory`, {
        hint: 'copy it first: only distinct tensors can share memory with a result',
      });
    }
    return { kernel, entry, constants, promoted: shared.map((b) => b.name) };
  }

  /** Whether every tensor has a place to be bound at. */
  #placed(): boolean {
    return this.#steps.every(({ node }) => node.bindings.every((b) => b.tensor.storage.place));
  }

  /** Bind groups for where everything lies now. @throws UsageError, OutOfMemoryError for a tensor without memory. */
  #rebind(): void {
    const binding = performance.now();
    this.#bind();
    this.#makeGroups();
    this.#engine.did('bind', this.name, binding);
  }

  #makeGroups(): void {
    const { device, counters, memory } = this.#engine;
    memory.check(this.#uniforms);
    this.#steps.forEach((step, i) => {
      for (const { tensor: t } of step.node.bindings) memory.check(placeOf(t).buffer);
      const params = { buffer: this.#uniforms, offset: this.#state.offsets[i]! };
      step.group = bindGroup(device, step.pipeline!, step.node, params, this.#arena.mirrors);
      counters.bindGroups++;
    });
    this.#generation = this.#arena.generation;
    this.#placements = this.#engine.placements;
  }
}
