/**
 * Programs: operations recorded once, their memory planned, their pipelines compiled and their bind groups made, then
 * replayed any number of times without allocating anything.
 *
 * All planned tensors live in the slabs of one arena. WebGPU refuses a buffer that one dispatch binds both read-only and
 * writable, even at disjoint ranges, but allows several writable disjoint ranges: so read-only bindings that share a
 * slab with a written tensor are compiled as read_write ("promoted"), and the planner is free to pack everything together.
 */

import { type Engine, placeOf, STORAGE_USAGE } from './engine.ts';
import { InterruptedError, LimitError, UsageError } from './errors.ts';
import { type CheckedDispatch, gridOf, workgroups } from './kernel.ts';
import { Arena } from './memory/arena.ts';
import type { Plan } from './memory/planner.ts';
import { PARAMS_BYTES, type Pipeline } from './pipeline.ts';
import { planRecording, type Recording } from './recording.ts';
import { evaluate, isSym, type Scalar, type ScalarValues } from './scalar.ts';
import type { Storage, Tensor } from './tensor.ts';
import { hasSymbolicParams, packParams } from './uniforms.ts';

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

interface Step {
  readonly node: CheckedDispatch;
  readonly uniformOffset: number;
  readonly grid: readonly Scalar[];
  readonly counts: readonly [number, number, number] | null;
  pipeline: Pipeline | null;
  group: GPUBindGroup | null;
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
  readonly #uniforms: GPUBuffer;
  readonly #paramsGroup: GPUBindGroup;
  readonly #dynamic: DataView<ArrayBuffer>;
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
    const { plan: planned, used } = planRecording(recording, limit);
    this.plan = planned;
    this.#kept = new Map(used.map((s) => [s, recording.kept.has(s)]));
    this.#check(recording.nodes);
    this.#bind = () => {
      if (options.separate) return;
      this.#arena.reserve(planned.slabs);
      used.forEach((s, i) => {
        const { slab, offset } = planned.placements[i]!;
        s.place = { buffer: this.#arena.slab(slab), offset };
      });
    };

    // Blocks that change with every run come first, so that one write refreshes them; equal constant blocks are shared.
    const dynamic = recording.nodes.filter(hasSymbolicParams);
    const dynamicOffset = new Map(dynamic.map((node, i) => [node, i * PARAMS_BYTES]));
    this.#dynamic = new DataView(new ArrayBuffer(dynamic.length * PARAMS_BYTES));
    const shared = new Map<string, number>();
    const constant: ArrayBuffer[] = [];
    this.#steps = recording.nodes.map((node) => {
      let uniformOffset = dynamicOffset.get(node);
      if (uniformOffset === undefined) {
        const block = new ArrayBuffer(PARAMS_BYTES);
        packParams(node, {}, new DataView(block), 0);
        const text = new Uint32Array(block).join();
        uniformOffset = shared.get(text) ?? (dynamic.length + constant.length) * PARAMS_BYTES;
        if (!shared.has(text)) constant.push(block);
        shared.set(text, uniformOffset);
      }
      const grid = gridOf(node.dispatch.grid);
      const counts = grid.some(isSym) ? null : this.#workgroups(node, grid as number[]);
      return { node, uniformOffset, grid, counts, pipeline: null, group: null };
    });
    const size = Math.max(PARAMS_BYTES, (dynamic.length + constant.length) * PARAMS_BYTES);
    try {
      for (const s of options.separate ? used : []) {
        const buffer = engine.memory.create('activations', s.label, s.bytes, STORAGE_USAGE);
        this.#buffers.push(buffer);
        s.place = { buffer, offset: 0 };
      }
      this.#bind();
      this.#uniforms = engine.memory.create('uniforms', `${recording.name}/params`, size, UNIFORM_COPY_DST);
      this.#buffers.push(this.#uniforms);
    } catch (error) {
      this.#free();
      throw error;
    }
    constant.forEach((block, i) => {
      engine.device.queue.writeBuffer(this.#uniforms, (dynamic.length + i) * PARAMS_BYTES, block);
    });
    this.#paramsGroup = engine.device.createBindGroup({
      label: `${recording.name}/params`,
      layout: engine.pipelines.params,
      entries: [{ binding: 0, resource: { buffer: this.#uniforms, size: PARAMS_BYTES } }],
    });
  }

  /**
   * Plans, allocates and compiles a recording, which can be compiled once. Pipelines compile in parallel. Persistent tensors that it
   * only reads may still be without memory; they need it when the program runs.
   * @throws OutOfMemoryError, LimitError, InterruptedError, UsageError; nothing stays allocated then.
   */
  static async compile(engine: Engine, recording: Recording, options: CompileOptions = {}): Promise<Program> {
    engine.check();
    if (options.signal?.aborted) throw new InterruptedError();
    const program = new Program(engine, recording, options);
    try {
      await engine.allocated();
      const wanted = program.#steps.map((step) => program.#variant(step));
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
      // All of them settle before an error goes on: a process that ended while drivers compile would crash.
      await Promise.allSettled(distinct.values());
      const pipelines = await Promise.all(pending);
      await Promise.all(distinct.values());
      if (options.signal?.aborted) throw new InterruptedError();
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

  /** Encodes and submits the whole program once. */
  run(values: ScalarValues = {}): void {
    const { device, counters } = this.#engine;
    this.#prepare(values);
    const encoder = device.createCommandEncoder({ label: this.name });
    const pass = encoder.beginComputePass({ label: this.name });
    let current: GPUComputePipeline | null = null;
    for (const step of this.#steps) {
      const counts = this.#countsOf(step, values);
      if (counts[0] * counts[1] * counts[2] === 0) continue;
      if (step.pipeline!.pipeline !== current) {
        current = step.pipeline!.pipeline;
        pass.setPipeline(current);
      }
      pass.setBindGroup(0, step.group!);
      pass.setBindGroup(1, this.#paramsGroup, [step.uniformOffset]);
      pass.dispatchWorkgroups(counts[0], counts[1], counts[2]);
      counters.dispatches++;
    }
    pass.end();
    this.#arena.owner = this;
    device.queue.submit([encoder.finish()]);
    counters.submits++;
  }

  /** Runs once with every dispatch timed by timestamps; seconds per label, in order. Needs 'timestamp-query'. */
  async profile(values: ScalarValues = {}): Promise<{ label: string; seconds: number }[]> {
    const { device, memory } = this.#engine;
    if (!device.features.has('timestamp-query'))
      throw new UsageError(`this device has no 'timestamp-query' to profile with`);
    this.#prepare(values);
    this.#arena.owner = this;
    const out: { label: string; seconds: number }[] = [];
    const chunk = 2048;
    const queries = device.createQuerySet({ type: 'timestamp', count: chunk * 2 });
    const buffers: GPUBuffer[] = [];
    try {
      const resolved = memory.create('staging', 'timestamps', chunk * 16, 0x200 | 0x4);
      buffers.push(resolved);
      const staging = memory.create('staging', 'timestamps/read', chunk * 16, 0x1 | 0x8);
      buffers.push(staging);
      await this.#engine.allocated();
      for (let start = 0; start < this.#steps.length; start += chunk) {
        const steps = this.#steps.slice(start, start + chunk);
        const encoder = device.createCommandEncoder({ label: `${this.name}/profile` });
        steps.forEach((step, i) => {
          const counts = this.#countsOf(step, values);
          const timestampWrites = {
            querySet: queries,
            beginningOfPassWriteIndex: 2 * i,
            endOfPassWriteIndex: 2 * i + 1,
          };
          const pass = encoder.beginComputePass({ label: step.node.label, timestampWrites });
          pass.setPipeline(step.pipeline!.pipeline);
          pass.setBindGroup(0, step.group!);
          pass.setBindGroup(1, this.#paramsGroup, [step.uniformOffset]);
          if (counts[0] * counts[1] * counts[2] > 0) pass.dispatchWorkgroups(counts[0], counts[1], counts[2]);
          pass.end();
        });
        encoder.resolveQuerySet(queries, 0, steps.length * 2, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, staging, 0, steps.length * 16);
        device.queue.submit([encoder.finish()]);
        await staging.mapAsync(1);
        const times = new BigUint64Array(staging.getMappedRange().slice(0, steps.length * 16));
        staging.unmap();
        steps.forEach((step, i) => {
          out.push({ label: step.node.label, seconds: Number(times[2 * i + 1]! - times[2 * i]!) / 1e9 });
        });
      }
    } finally {
      queries.destroy();
      for (const buffer of buffers) memory.destroy(buffer);
    }
    return out;
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
    if (this.#dynamic.byteLength > 0) {
      // Blocks that change lie before the constant ones.
      for (const step of this.#steps) {
        if (step.uniformOffset < this.#dynamic.byteLength)
          packParams(step.node, values, this.#dynamic, step.uniformOffset);
      }
      device.queue.writeBuffer(this.#uniforms, 0, this.#dynamic.buffer);
    }
  }

  #countsOf(step: Step, values: ScalarValues): readonly [number, number, number] {
    if (step.counts) return step.counts;
    return this.#workgroups(
      step.node,
      step.grid.map((g) => evaluate(g, values)),
    );
  }

  #workgroups(node: CheckedDispatch, counts: readonly number[]): [number, number, number] {
    return workgroups(counts, this.#engine.device.limits.maxComputeWorkgroupsPerDimension, node.label);
  }

  #variant({ node }: Step) {
    const { kernel, entry, constants = {} } = node.dispatch;
    const written = new Set(node.bindings.filter((b) => b.writable).map((b) => placeOf(b.tensor).buffer));
    // What has no place yet lies outside the arena when it gets one, and so beside no planned tensor.
    const shared = node.bindings.filter((b) => {
      const place = b.tensor.storage.place;
      return !b.writable && place !== null && written.has(place.buffer);
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
    this.#bind();
    this.#makeGroups();
  }

  #makeGroups(): void {
    const { device, counters, memory } = this.#engine;
    memory.check(this.#uniforms);
    for (const step of this.#steps) {
      step.group = device.createBindGroup({
        label: step.node.label,
        layout: step.pipeline!.tensors,
        entries: step.node.bindings.map((b, i) => {
          const { buffer, offset } = placeOf(b.tensor);
          memory.check(buffer);
          return {
            binding: step.node.entry.bindings[i]!.binding,
            resource: { buffer, offset, size: b.tensor.storage.bytes },
          };
        }),
      });
      counters.bindGroups++;
    }
    this.#generation = this.#arena.generation;
    this.#placements = this.#engine.placements;
  }
}
