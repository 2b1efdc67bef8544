/**
 * A model's parameters on the GPU, stored at one of the precisions of model/quantize.ts: one buffer per group of the layout
 * (embedders, each block, head) and a view per parameter. Groups come and go independently, so that a model that runs L blocks
 * holds the weights of L blocks.
 */
import { type Engine, STORAGE_USAGE, type TensorData } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import type { MemoryKind } from '../engine/memory.ts';
import { byteSize, type DType, type Storage, type Tensor, tensor } from '../engine/tensor.ts';
import type { ParamLayout, ParamSet } from './params.ts';
import {
  type GroupValues,
  type Precision,
  pack,
  type StoredGroup,
  type StoredParam,
  storedGroup,
  toFloats,
} from './quantize.ts';

export interface WeightsOptions {
  readonly kind?: MemoryKind;
  /** How parameters are stored; anything but f32 is for inference. Default f32. */
  readonly precision?: Precision;
  /** Values to upload at once; all groups are then resident. */
  readonly values?: ParamSet;
  /** True allocates nothing yet: groups become resident through `place`. */
  readonly empty?: boolean;
}

export class Weights {
  readonly layout: ParamLayout;
  readonly precision: Precision;
  /** One flat tensor per group, in the layout's order; what optimisers work on. Words of 32 bits unless the precision is f32. */
  readonly groups: readonly Tensor[];
  readonly #engine: Engine;
  readonly #kind: MemoryKind;
  readonly #views = new Map<string, Tensor>();
  /** Storages of each group, the flat one first, with their byte offsets. */
  readonly #storages: { storage: Storage; offset: number }[][];
  readonly #stored: readonly StoredGroup[];
  readonly #buffers: (GPUBuffer | null)[];

  /** Tensors for a layout: zero, or holding `values`. */
  constructor(engine: Engine, layout: ParamLayout, label: string, options: WeightsOptions = {}) {
    this.layout = layout;
    this.precision = options.precision ?? 'f32';
    this.#engine = engine;
    this.#kind = options.kind ?? 'weights';
    this.#buffers = layout.groups.map(() => null);
    this.#storages = layout.groups.map(() => []);
    this.#stored = layout.groups.map((group) => storedGroup(group, this.precision));
    const make = (g: number, name: string, shape: StoredParam['shape'], dtype: DType, offset: number) => {
      const storage: Storage = { label: name, bytes: Math.max(4, byteSize({ shape, dtype })), place: null };
      this.#storages[g]!.push({ storage, offset });
      return tensor(name, shape, dtype, storage);
    };
    const flat: DType = this.precision === 'f32' ? 'f32' : 'u32';
    this.groups = layout.groups.map(({ name }, g) =>
      make(g, `${label}/${name}`, [this.#stored[g]!.bytes / 4], flat, 0),
    );
    this.#stored.forEach(({ params }, g) => {
      for (const { spec, shape, dtype, offset } of params)
        this.#views.set(spec.name, make(g, spec.name, shape, dtype, offset));
    });
    if (!options.empty) layout.groups.forEach((_, g) => void this.place(g, options.values?.groups[g]));
  }

  /** The view of one parameter by its Flax name. @throws UsageError for an unknown name. */
  get(name: string): Tensor {
    const view = this.#views.get(name);
    if (!view) throw new UsageError(`this model has no parameter '${name}'`);
    return view;
  }

  isResident(group: number): boolean {
    return this.#buffers[group] !== null;
  }

  /**
   * Allocates a group (zero-filled) if it is not resident, and writes `values` to it, converted to the precision, if they are given.
   * @throws NonFiniteError for values that the precision cannot hold.
   */
  place(group: number, values?: GroupValues): void {
    const parts = values ? this.#converted(group, values) : []; // first, as it may throw
    if (!this.#buffers[group]) {
      const flat = this.groups[group]!;
      const buffer = this.#engine.memory.create(this.#kind, flat.label, flat.storage.bytes, STORAGE_USAGE);
      this.#buffers[group] = buffer;
      for (const { storage, offset } of this.#storages[group]!) storage.place = { buffer, offset };
      this.#engine.placements++;
    }
    for (const [t, data] of parts) this.#engine.write(t, data);
  }

  /** What is to be written where: the whole group as it is, or parameter by parameter. */
  #converted(group: number, values: GroupValues): [Tensor, TensorData][] {
    if (this.precision === 'f32') return [[this.groups[group]!, toFloats(values)]];
    return this.#stored[group]!.params.map(({ spec, dtype }) => [this.get(spec.name), pack(spec, dtype, values)]);
  }

  /** Frees a group's buffer. Programs that use it throw until it is placed again. */
  evict(group: number): void {
    const buffer = this.#buffers[group];
    if (!buffer) return;
    for (const { storage } of this.#storages[group]!) storage.place = null;
    this.#engine.memory.destroy(buffer);
    this.#buffers[group] = null;
    this.#engine.placements++;
  }

  /**
   * Gives the buffer of `from` to `to` and writes `values` to it: streaming blocks through a few buffers allocates nothing. Work already
   * submitted still sees the old values, as the queue keeps its order. Where the sizes differ, one is freed and the other made.
   */
  replace(from: number, to: number, values?: GroupValues): void {
    const buffer = this.#buffers[from];
    if (buffer && !this.#buffers[to] && this.groups[from]!.storage.bytes === this.groups[to]!.storage.bytes) {
      for (const { storage } of this.#storages[from]!) storage.place = null;
      for (const { storage, offset } of this.#storages[to]!) storage.place = { buffer, offset };
      this.#buffers[from] = null;
      this.#buffers[to] = buffer;
      this.#engine.placements++;
    } else this.evict(from);
    this.place(to, values);
  }

  /** Bytes of the resident groups. */
  get bytes(): number {
    return this.groups.reduce((sum, t, g) => sum + (this.isResident(g) ? t.storage.bytes : 0), 0);
  }

  /** Reads all parameters back. @throws UsageError for packed ones. */
  async read(): Promise<ParamSet> {
    if (this.precision !== 'f32') throw new UsageError(`weights stored as ${this.precision} cannot be read back`);
    return { layout: this.layout, groups: await this.#engine.readAll(this.groups) };
  }

  release(): void {
    this.layout.groups.forEach((_, g) => void this.evict(g));
  }
}
