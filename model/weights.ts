/**
 * A model's parameters on the GPU: one buffer per group of the layout (embedders, each block, head) and a view per parameter.
 * Groups come and go independently, so that a model that runs L blocks holds the weights of L blocks.
 */
import { type Engine, STORAGE_USAGE } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import type { MemoryKind } from '../engine/memory.ts';
import { type Storage, type Tensor, tensor } from '../engine/tensor.ts';
import type { ParamLayout, ParamSet } from './params.ts';

export interface WeightsOptions {
  readonly kind?: MemoryKind;
  /** Values to upload at once; all groups are then resident. */
  readonly values?: ParamSet;
  /** True allocates nothing yet: groups become resident through `place`. */
  readonly empty?: boolean;
}

export class Weights {
  readonly layout: ParamLayout;
  /** One flat tensor per group, in the layout's order; what optimisers work on. */
  readonly groups: readonly Tensor[];
  readonly #engine: Engine;
  readonly #kind: MemoryKind;
  readonly #views = new Map<string, Tensor>();
  /** Storages of each group, the flat one first, with their byte offsets. */
  readonly #storages: { storage: Storage; offset: number }[][];
  readonly #buffers: (GPUBuffer | null)[];

  /** Tensors for a layout: zero, or holding `values`. */
  constructor(engine: Engine, layout: ParamLayout, label: string, options: WeightsOptions = {}) {
    this.layout = layout;
    this.#engine = engine;
    this.#kind = options.kind ?? 'weights';
    this.#buffers = layout.groups.map(() => null);
    this.#storages = layout.groups.map(() => []);
    const make = (g: number, name: string, shape: [number, ...number[]], offset: number, size: number) => {
      const storage: Storage = { label: name, bytes: Math.max(4, size * 4), place: null };
      this.#storages[g]!.push({ storage, offset: offset * 4 });
      return tensor(name, shape, 'f32', storage);
    };
    this.groups = layout.groups.map((group, g) => make(g, `${label}/${group.name}`, [group.length], 0, group.length));
    layout.groups.forEach((group, g) => {
      for (const { name, shape, size, offset } of group.specs) {
        // The patch embedding's convolution kernel is a matrix to us.
        const matrix = shape.length === 4 ? [size / shape[3]!, shape[3]!] : shape;
        this.#views.set(name, make(g, name, matrix as [number, ...number[]], offset, size));
      }
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

  /** Allocates a group (zero-filled) if it is not resident, and writes `values` to it if they are given. */
  place(group: number, values?: Float32Array): void {
    if (!this.#buffers[group]) {
      const flat = this.groups[group]!;
      const buffer = this.#engine.memory.create(this.#kind, flat.label, flat.storage.bytes, STORAGE_USAGE);
      this.#buffers[group] = buffer;
      for (const { storage, offset } of this.#storages[group]!) storage.place = { buffer, offset };
      this.#engine.placements++;
    }
    if (values) this.#engine.write(this.groups[group]!, values);
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

  /** Bytes of the resident groups. */
  get bytes(): number {
    return this.groups.reduce((sum, t, g) => sum + (this.isResident(g) ? t.storage.bytes : 0), 0);
  }

  /** Reads all parameters back. */
  async read(): Promise<ParamSet> {
    return { layout: this.layout, groups: await this.#engine.readAll(this.groups) };
  }

  release(): void {
    this.layout.groups.forEach((_, g) => void this.evict(g));
  }
}
