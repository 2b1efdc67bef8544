/**
 * The context that operations run in: the one dispatch path. Its sink either records (engine/program.ts) or executes at
 * once (engine/eager.ts); operations cannot tell.
 */
import type { Engine } from './engine.ts';
import type { TapeEntry } from './gradients.ts';
import { type CheckedDispatch, checkDispatch, type Dispatch } from './kernel.ts';
import { type DType, isTensor, reshaped, type Shape, type Tensor } from './tensor.ts';

/** Where a context's tensors come from and its dispatches go. */
export interface Sink {
  empty(label: string, shape: Shape, dtype: DType): Tensor;
  dispatch(checked: CheckedDispatch): void;
}

/** What operations see of the tape (engine/tape.ts). */
export interface GradientTape {
  /** Whether some input of an operation wants a gradient: tells operations what to save. */
  needs(...tensors: readonly Tensor[]): boolean;
  /** @throws UsageError where a gradient would pass a packed tensor, or an operation whose derivative the tape does not know. */
  add(entry: TapeEntry): void;
  /** Runs `body` so that its operations keep nothing, and run again in the backward pass. */
  checkpoint(ctx: Context, body: () => Tensor): Tensor;
}

/** What operations are given: it makes their results and takes their dispatches. `record` and `eager` supply one. */
export class Context {
  readonly engine: Engine;
  /** Present while gradients are wanted; operations add their backward to it. */
  tape: GradientTape | null = null;
  /** Sees each tensor that the body of a scope gave, by the scope's path ('block3', 'condition/time'): for looking inside a network. */
  observer: ((path: string, result: Tensor) => void) | null = null;
  readonly #sink: Sink;
  #scope = '';

  /** @internal */
  constructor(engine: Engine, sink: Sink) {
    this.engine = engine;
    this.#sink = sink;
  }

  /** A tensor with undefined contents. */
  empty(label: string, shape: Shape, dtype: DType = 'f32'): Tensor {
    return this.#sink.empty(this.#scope + label, shape, dtype);
  }

  /**
   * Runs one entry point of a kernel. @throws UsageError where names do not match its WGSL, or a written tensor is
   * bound twice.
   */
  dispatch(dispatch: Dispatch): void {
    this.#sink.dispatch(checkDispatch(dispatch, this.#scope));
  }

  /** Runs `body` with `name/` in front of every label. */
  scope<T>(name: string, body: () => T): T {
    const outer = this.#scope;
    this.#scope = `${outer}${name}/`;
    try {
      const result = body();
      if (this.observer && isTensor(result)) this.observer(outer + name, result);
      return result;
    } finally {
      this.#scope = outer;
    }
  }

  /** Runs `body` without a tape: nothing in it is differentiated. */
  withoutTape<T>(body: () => T): T {
    const { tape } = this;
    this.tape = null;
    try {
      return body();
    } finally {
      this.tape = tape;
    }
  }

  /** The same elements under another shape, e.g. [B, T, D] as [B*T, D]. Costs nothing; gradients pass through. */
  reshape(x: Tensor, shape: Shape): Tensor {
    const y = reshaped(x, shape);
    this.tape?.add({
      name: 'reshape',
      inputs: [x],
      outputs: [y],
      backward: (g) => g.give(0, reshaped(g.dy(0), x.shape)),
    });
    return y;
  }

  /** The first `rows` rows of x. Costs nothing; the gradient has as many rows, the others count as zero. */
  prefix(x: Tensor, rows: Shape[0]): Tensor {
    if (rows === x.shape[0]) return x;
    const y = reshaped(x, [rows, ...(x.shape.slice(1) as number[])]);
    this.tape?.add({ name: 'prefix', inputs: [x], outputs: [y], backward: (g) => g.give(0, g.dy(0)) });
    return y;
  }
}

/**
 * The tensor that `body` makes, by operations that run again in the backward pass instead of keeping what they save for it: less
 * memory for one more forward pass. Everything that `body` reads must still hold the same values then. Gradients are those
 * without the checkpoint. Tensors made inside cannot be watched.
 */
export const checkpoint = (ctx: Context, body: () => Tensor): Tensor =>
  ctx.tape ? ctx.tape.checkpoint(ctx, body) : body();
