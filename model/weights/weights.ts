/**
 * A model's parameters on the GPU, stored at one of the precisions of model/weights/quantize.ts: buffers of its own for each group of the
 * layout (embedders, each block, head) and a view per parameter. Groups come and go independently, so that a model that runs L blocks
 * holds the weights of L blocks. No buffer is larger than a binding may be; a matrix that is, is held as blocks of its columns.
 */
import { type Engine, STORAGE_USAGE } from '../../engine/engine.ts';
import { LimitError, UsageError } from '../../engine/errors.ts';
import type { MemoryKind } from '../../engine/memory/accountant.ts';
import { byteSize, type DType, type Storage, type Tensor, tensor } from '../../engine/tensor.ts';
import type { Spaced } from '../../kernels/matmul/projections.ts';
import { type ParamLayout, type ParamSet, zeroParams } from '../params.ts';
import { type GroupValues, type Precision, pack, type StoredGroup, type StoredParam, storedGroup } from './quantize.ts';

/** How weights are stored, and what they start with. */
export interface WeightsOptions {
  readonly kind?: MemoryKind;
  /** How parameters are stored; anything but f32 is for inference. Default f32. */
  readonly precision?: Precision;
  /** Values to upload at once; all groups are then resident. */
  readonly values?: ParamSet;
  /** True allocates nothing yet: groups become resident through `place`. */
  readonly empty?: boolean;
}

/** One group: what its buffers hold, and, while it is resident, the buffers. */
interface Group {
  readonly stored: StoredGroup;
  /** Each buffer as one flat tensor. */
  readonly flat: readonly Tensor[];
  /** A tensor for each of `stored.params`. */
  readonly views: readonly Tensor[];
  buffers: readonly GPUBuffer[] | null;
}

/** A model's parameters on the GPU: buffers for each group, and a tensor per parameter. */
export class Weights {
  readonly layout: ParamLayout;
  readonly precision: Precision;
  /**
   * All buffers as flat tensors, in the layout's order: one for each group, or more where a group is larger than a binding. What
   * optimisers work on. Words of 32 bits unless the precision is f32.
   */
  readonly parts: readonly Tensor[];
  readonly #engine: Engine;
  readonly #kind: MemoryKind;
  readonly #groups: readonly Group[];
  /** Each parameter's views: one, or blocks of columns from left to right. */
  readonly #views = new Map<string, Tensor[]>();

  /**
   * Tensors for a layout: zero, or holding `values`. `Engine.allocated` says whether there was memory for them.
   * @throws as `place`; nothing is allocated then.
   */
  constructor(engine: Engine, layout: ParamLayout, label: string, options: WeightsOptions = {}) {
    this.layout = layout;
    this.precision = options.precision ?? 'f32';
    this.#engine = engine;
    this.#kind = options.kind ?? 'weights';
    const view = (name: string, shape: readonly [number, ...number[]], dtype: DType): Tensor => {
      const storage: Storage = { label: name, bytes: Math.max(4, byteSize({ shape, dtype })), place: null };
      return tensor(name, shape, dtype, storage);
    };
    this.#groups = layout.groups.map((group): Group => {
      const stored = storedGroup(group, this.precision, engine.largestBinding);
      const flat = stored.parts.map((bytes, p) =>
        view(`${label}/${group.name}${p > 0 ? `.${p}` : ''}`, [bytes / 4], this.precision === 'f32' ? 'f32' : 'u32'),
      );
      return { stored, flat, views: stored.params.map((p) => view(p.spec.name, p.shape, p.dtype)), buffers: null };
    });
    this.parts = this.#groups.flatMap(({ flat }) => flat);
    for (const { views } of this.#groups) {
      for (const t of views) this.#views.set(t.label, [...(this.#views.get(t.label) ?? []), t]);
    }
    if (options.empty) return;
    engine.memory.allOrNothing(() => layout.groups.forEach((_, g) => void this.place(g, options.values?.groups[g])));
  }

  /**
   * The view of one parameter by its Flax name.
   * @throws UsageError for an unknown name; LimitError for a matrix that is too large for one binding.
   */
  get(name: string): Tensor {
    const [view, ...others] = this.blocks(name);
    if (others.length > 0) {
      const asked = [view!, ...others].reduce((sum, t) => sum + t.storage.bytes, 0);
      throw new LimitError(
        `'${name}' takes ${asked} bytes; the device allows ${this.#engine.largestBinding} in one binding`,
        { asked, available: this.#engine.largestBinding },
        { hint: 'sampling holds it in blocks; train a smaller model, or on an adapter with larger bindings' },
      );
    }
    return view!;
  }

  /** The views of one parameter: all of it, or blocks of its columns from left to right. @throws UsageError for an unknown name. */
  blocks(name: string): readonly Tensor[] {
    const views = this.#views.get(name);
    if (!views) throw new UsageError(`this model has no parameter '${name}'`);
    return views;
  }

  /**
   * @internal Three parameters of one shape as one tensor that spans them; null where they do not lie equally far apart in one buffer.
   * @throws UsageError for an unknown name.
   */
  spaced(names: readonly [string, string, string]): Spaced | null {
    const views = names.map((name) => this.blocks(name));
    const [first] = views[0]!;
    const { stored, views: all } = this.#groups.find((group) => group.views.includes(first!))!;
    const [a, b, c] = views.map(([view]) => stored.params[all.indexOf(view!)]);
    const bytes = a && b ? b.offset - a.offset : 0;
    const follows = (p: StoredParam | undefined, q: StoredParam | undefined) =>
      p?.part === q?.part && `${p?.shape}` === `${q?.shape}` && p!.offset + bytes === q!.offset;
    if (bytes <= 0 || !c || views.some((blocks) => blocks.length > 1) || !follows(a, b) || !follows(b, c)) return null;
    const { shape, dtype, storage } = first!;
    const whole: Storage = {
      label: names.join(', '),
      bytes: 2 * bytes + storage.bytes,
      get place() {
        return storage.place;
      },
    };
    const size = { f32: 4, u32: 4, i32: 4, f16: 2, i8: 1 }[dtype];
    return { tensor: tensor(whole.label, [3, ...(shape as readonly number[])], dtype, whole), spacing: bytes / size };
  }

  /** False also where the device turned out to have no memory for it. */
  isResident(group: number): boolean {
    return this.#groups[group]!.buffers?.every((buffer) => this.#engine.memory.isLive(buffer)) ?? false;
  }

  /** The buffers of one group as flat tensors, padding included. */
  partsOf(group: number): readonly Tensor[] {
    return this.#groups[group]!.flat;
  }

  /** Bytes that a group takes when it is resident. */
  bytesOf(group: number): number {
    return this.#groups[group]!.stored.parts.reduce((sum, bytes) => sum + bytes, 0);
  }

  /**
   * Allocates a group (zero-filled) if it is not resident, and writes `values` to it, converted to the precision, if they are given.
   * @throws NonFiniteError for values that the precision cannot hold; OutOfMemoryError. Nothing is allocated then.
   */
  place(group: number, values?: GroupValues): void {
    const { stored, flat, views } = this.#groups[group]!;
    const words = values ? stored.params.map((p) => pack(p, values)) : []; // first, as it may throw
    if (!this.isResident(group)) {
      this.evict(group);
      this.#settle(group, this.#create(flat));
    }
    words.forEach((data, i) => void this.#engine.write(views[i]!, data));
  }

  #create(flat: readonly Tensor[]): GPUBuffer[] {
    const made: GPUBuffer[] = [];
    try {
      for (const { label, storage } of flat) {
        made.push(this.#engine.memory.create(this.#kind, label, storage.bytes, STORAGE_USAGE));
      }
      return made;
    } catch (error) {
      for (const buffer of made) this.#engine.memory.destroy(buffer);
      throw error;
    }
  }

  /** Puts a group into these buffers, or nowhere. */
  #settle(group: number, buffers: readonly GPUBuffer[] | null): void {
    const found = this.#groups[group]!;
    found.buffers = buffers;
    found.flat.forEach(({ storage }, p) => {
      storage.place = buffers && { buffer: buffers[p]!, offset: 0 };
    });
    found.views.forEach(({ storage }, i) => {
      const { part, offset } = found.stored.params[i]!;
      storage.place = buffers && { buffer: buffers[part]!, offset };
    });
    this.#engine.placements++;
  }

  /** Frees a group's buffers. Programs that use it throw until it is placed again. */
  evict(group: number): void {
    const { buffers } = this.#groups[group]!;
    if (!buffers) return;
    this.#settle(group, null);
    for (const buffer of buffers) this.#engine.memory.destroy(buffer);
  }

  /**
   * Gives the buffers of `from` to `to` and writes `values` to them: streaming blocks through a few buffers allocates nothing. Work already
   * submitted still sees the old values, as the queue keeps its order. Where the sizes differ, some are freed and the others made.
   */
  replace(from: number, to: number, values?: GroupValues): void {
    const { buffers, stored } = this.#groups[from]!;
    const target = this.#groups[to]!;
    if (buffers && !target.buffers && `${stored.parts}` === `${target.stored.parts}`) {
      this.#settle(from, null);
      this.#settle(to, buffers);
    } else this.evict(from);
    this.place(to, values);
  }

  /** Bytes of the resident groups. */
  get bytes(): number {
    return this.#groups.reduce((sum, _, g) => sum + (this.isResident(g) ? this.bytesOf(g) : 0), 0);
  }

  /** Reads all parameters back, group by group, so that little more memory is needed: nothing may write them meanwhile. @throws UsageError for packed ones. */
  async read(): Promise<ParamSet> {
    if (this.precision !== 'f32') throw new UsageError(`weights stored as ${this.precision} cannot be read back`);
    const set = zeroParams(this.layout);
    for (const [g, { stored, flat }] of this.#groups.entries()) {
      const parts = await this.#engine.readAll(flat, { keep: false });
      for (const { spec, shape, column, part, offset } of stored.params) {
        const values = parts[part]!.subarray(offset / 4);
        const [columns, width] = [spec.shape.at(-1)!, shape.at(-1)!];
        const run = width === columns ? spec.size : width; // elements that lie together on both sides
        for (let from = 0, to = column; to < spec.size; from += run, to += (run / width) * columns) {
          set.groups[g]!.set(values.subarray(from, from + run), spec.offset + to);
        }
      }
    }
    return set;
  }

  /** Frees all groups. */
  release(): void {
    this.layout.groups.forEach((_, g) => void this.evict(g));
  }
}
