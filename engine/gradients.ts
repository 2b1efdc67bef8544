/** What an operation says of its derivative, and what it may ask of whoever goes back through it. The tape itself is in tape.ts. */
import type { Tensor } from './tensor.ts';

/** What an operation's backward may ask for and must provide. */
export interface Gradients {
  /** Gradient of output `k`, all rows. Throws where it has none: ask `has` first if that may be. */
  dy(k: number): Tensor;
  /** Whether output `k` has a gradient. */
  has(k: number): boolean;
  /** Whether input `i` wants a gradient. */
  needs(i: number): boolean;
  /** Where to write all of the gradient of input `i`; call once. */
  out(i: number): Tensor;
  /**
   * As `out`, for an operation that can add while it writes: `earlier` is what is known of that gradient so far, all of its rows, and is
   * to be added; null where nothing is, or not in a form that can be.
   */
  onto(i: number): { readonly out: Tensor; readonly earlier: Tensor | null };
  /** Gives an existing tensor, unchanged, as the gradient of input `i` (or of its leading rows). */
  give(i: number, gradient: Tensor): void;
}

/** One differentiable operation as the tape keeps it. */
export interface TapeEntry {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /**
   * Provides the gradients of the inputs from those of the outputs, by dispatching in the context of the operation. Without it the tape
   * must know a derivative of that name.
   */
  readonly backward?: (gradients: Gradients) => void;
  /** What the tape's derivative is given: all that the backward pass needs of the forward pass. */
  readonly saved?: unknown;
}
