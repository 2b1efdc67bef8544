/**
 * Reverse-mode differentiation over the operations of a context (Griewank & Walther 2008, ch. 3). The tape knows which
 * tensor came from which; how to differentiate an operation is said beside its kernel.
 *
 * A gradient may have fewer rows than its tensor: the missing rows are zero. Blocks that run only some samples
 * rely on it.
 *
 * A checkpoint (Chen et al. 2016, "Training deep nets with sublinear memory cost") keeps nothing of what ran inside it: its
 * operations run again when the backward pass reaches them.
 */
import type { Context, GradientTape } from './context.ts';
import { UsageError } from './errors.ts';
import type { Gradients, TapeEntry } from './gradients.ts';
import { maxOf } from './scalar.ts';
import { isPacked, maxSize, rowSize, shapeText, type Tensor } from './tensor.ts';

/** What a checkpoint leaves behind: its output, and how to make it again. */
interface Checkpoint {
  readonly outputs: readonly [Tensor];
  readonly again: () => Tensor;
}

/** The pieces, still to be summed, of the gradients known so far. */
type Pieces = Map<Tensor, Tensor[]>;

/**
 * Adds two gradients of a tensor shaped like `like` (missing rows count as zero; `b` may be absent), into `target` if it is given.
 * Supplied by kernels/, as the engine has no kernels.
 */
export type AddGradients = (ctx: Context, like: Tensor, a: Tensor, b: Tensor | null, target: Tensor | null) => Tensor;

/** The backward of an operation that states it apart, for pages that need the forward alone; `saved` is what the forward left. */
export type Derivative<Saved> = (ctx: Context, gradients: Gradients, saved: Saved) => void;

/** Derivatives by the names of their operations. */
export type Derivatives = Readonly<Record<string, Derivative<never>>>;

/**
 * Remembers operations while it is a context's `tape`, and goes back through them for the gradients of what is watched.
 */
export class Tape implements GradientTape {
  /** Null inside a checkpoint's first run, which only follows what wants a gradient. */
  #entries: (TapeEntry | Checkpoint)[] | null = [];
  readonly #wanted = new Set<Tensor>();
  readonly #leaves = new Map<Tensor, Tensor>();
  readonly #add: AddGradients;
  readonly #derivatives: Derivatives;

  /** `derivatives` are those of the operations that do not state their own; `createTape` (odelt/ops) gives odelt's. */
  constructor(add: AddGradients, derivatives: Derivatives = {}) {
    this.#add = add;
    this.#derivatives = derivatives;
  }

  /** Asks for the gradient of `leaf`, to be written into `gradient` (same shape, persistent). */
  watch(leaf: Tensor, gradient: Tensor): void {
    if (maxSize(leaf) !== maxSize(gradient)) throw new UsageError(`gradient of '${leaf.label}' has another size`);
    this.#wanted.add(leaf);
    this.#leaves.set(leaf, gradient);
  }

  /** Whether some input of an operation wants a gradient: tells operations what to save. */
  needs(...tensors: readonly Tensor[]): boolean {
    return this.#entries !== null && tensors.some((t) => this.#wanted.has(t));
  }

  /** @throws UsageError where a gradient would pass a packed tensor, or an operation whose derivative the tape does not know. */
  add(entry: TapeEntry): void {
    if (!entry.inputs.some((t) => this.#wanted.has(t))) return;
    if (!entry.backward && !this.#derivatives[entry.name]) {
      throw new UsageError(`the tape knows no derivative of '${entry.name}'`, {
        hint: 'make the tape by createTape() of odelt/ops, which knows those of all its operations',
      });
    }
    const packed = [...entry.inputs, ...entry.outputs].find(isPacked);
    if (packed) {
      throw new UsageError(`no gradient passes '${packed.label}', which is stored as ${packed.dtype}`, {
        hint: 'train with weights and activations in f32',
      });
    }
    this.#entries?.push(entry);
    for (const output of entry.outputs) this.#wanted.add(output);
  }

  /** What `checkpoint` does while there is a tape. */
  checkpoint(ctx: Context, body: () => Tensor): Tensor {
    const y = this.#within(null, body);
    const again = () => {
      ctx.tape = this;
      try {
        return body();
      } finally {
        ctx.tape = null;
      }
    };
    if (this.#wanted.has(y)) this.#entries?.push({ outputs: [y], again });
    return y;
  }

  /** Runs `body` with `entries` in the place of the tape's own. */
  #within<T>(entries: (TapeEntry | Checkpoint)[] | null, body: () => T): T {
    const outer = this.#entries;
    this.#entries = entries;
    try {
      return body();
    } finally {
      this.#entries = outer;
    }
  }

  /**
   * Propagates from the seeds (tensor, its gradient of all rows or of the first) back to every watched leaf. A leaf that nothing
   * depends on keeps whatever its gradient tensor held.
   * @throws UsageError for a gradient whose rows are of another size, and where no seed depends on anything watched
   */
  backward(ctx: Context, seeds: readonly (readonly [Tensor, Tensor])[]): void {
    const pieces: Pieces = new Map();
    for (const [t, g] of seeds) {
      if (rowSize(t) !== rowSize(g) || maxOf(g.shape[0]) > maxOf(t.shape[0])) {
        throw new UsageError(`'${g.label}' ${shapeText(g)} is no gradient of '${t.label}' ${shapeText(t)}`);
      }
      push(pieces, t, g);
    }
    if (seeds.length > 0 && !seeds.some(([t]) => this.#wanted.has(t))) {
      throw new UsageError(`nothing that is watched leads to '${seeds[0]![0].label}'`, {
        hint: 'before the forward pass, watch the leaves and make this the tape of the context (ctx.tape)',
      });
    }
    ctx.withoutTape(() => {
      this.#propagate(ctx, this.#entries ?? [], pieces);
      for (const [leaf, gradient] of this.#leaves) {
        const list = pieces.get(leaf);
        if (!list || (list.length === 1 && list[0] === gradient)) continue;
        this.#sum(ctx, leaf, list, gradient);
      }
    });
  }

  #propagate(ctx: Context, entries: readonly (TapeEntry | Checkpoint)[], pieces: Pieces): void {
    for (const entry of entries.toReversed()) {
      if (!entry.outputs.some((o) => pieces.has(o))) continue;
      if ('again' in entry) this.#again(ctx, entry, pieces);
      else this.#differentiate(ctx, entry, pieces);
    }
  }

  /** Runs a checkpoint again, this time with its operations on the tape, and goes back through them. */
  #again(ctx: Context, { outputs: [output], again }: Checkpoint, pieces: Pieces): void {
    const entries: (TapeEntry | Checkpoint)[] = [];
    const y = this.#within(entries, again);
    if (y !== output) {
      pieces.set(y, [...pieces.get(output)!]);
      if (!this.#leaves.has(output)) pieces.delete(output);
    }
    this.#propagate(ctx, entries, pieces);
  }

  #differentiate(ctx: Context, entry: TapeEntry, pieces: Pieces): void {
    const written = new Set<number>();
    const out = (i: number): Tensor => {
      const input = entry.inputs[i]!;
      if (written.has(i)) throw new UsageError(`${entry.name}: gradient of input ${i} asked for twice`);
      written.add(i);
      const leaf = this.#leaves.get(input);
      const target = leaf && !pieces.has(input) ? leaf : ctx.empty(`d(${input.label})`, input.shape);
      push(pieces, input, target);
      return target;
    };
    const gradients: Gradients = {
      dy: (k) => {
        const output = entry.outputs[k]!;
        const list = pieces.get(output);
        if (!list) throw new UsageError(`${entry.name}: output ${k} has no gradient`);
        const total = this.#sum(ctx, output, list, null);
        pieces.set(output, [total]);
        return total;
      },
      has: (k) => pieces.has(entry.outputs[k]!),
      needs: (i) => this.#wanted.has(entry.inputs[i]!),
      out,
      onto: (i) => {
        const input = entry.inputs[i]!;
        const [earlier, ...others] = pieces.get(input) ?? [];
        // A leaf's own gradient tensor cannot be both read and written; missing rows are for #sum to fill.
        const adds =
          earlier?.shape[0] === input.shape[0] &&
          !earlier.view &&
          others.length === 0 &&
          earlier !== this.#leaves.get(input);
        if (!earlier || !adds) return { out: out(i), earlier: null };
        pieces.delete(input);
        return { out: out(i), earlier };
      },
      give: (i, gradient) => {
        if (this.#wanted.has(entry.inputs[i]!)) push(pieces, entry.inputs[i]!, gradient);
      },
    };
    if (entry.backward) entry.backward(gradients);
    else this.#derivatives[entry.name]!(ctx, gradients, entry.saved as never);
    // A watched output keeps its sum: it is still to be stored.
    for (const output of entry.outputs) if (!this.#leaves.has(output)) pieces.delete(output);
  }

  #sum(ctx: Context, like: Tensor, list: readonly Tensor[], into: Tensor | null): Tensor {
    let total = list[0]!;
    for (let i = 1; i < list.length; i++) {
      const last = i === list.length - 1;
      // A leaf's own gradient tensor, already holding the first piece, cannot be both read and written.
      total = this.#add(ctx, like, total, list[i]!, last && into !== total ? into : null);
    }
    if (total.shape[0] !== like.shape[0] || (into && total !== into)) total = this.#add(ctx, like, total, null, into);
    return total;
  }
}

function push(pieces: Pieces, t: Tensor, gradient: Tensor): void {
  const list = pieces.get(t);
  if (list) list.push(gradient);
  else pieces.set(t, [gradient]);
}
