/**
 * The contract every kernel is held to: the tests in test/kernels/contracts* check each registered one against its float64 reference and its backward
 * against central differences of that reference; bench/ times the same list.
 */
import type { Context } from '../engine/context.ts';
import type { DType, Tensor } from '../engine/tensor.ts';

/** One input of a case. */
export interface InputSpec {
  readonly shape: readonly [number, ...number[]];
  readonly dtype?: DType;
  /** Element i, given a source of standard normals; default: `normal()`. */
  readonly fill?: (i: number, normal: () => number) => number;
}

/** Values of tensors, by name. */
export type Arrays = Readonly<Record<string, Float64Array>>;

/** The least that the operations of a case's `run` must do, each by itself and however implemented: not what the kernels at hand do. */
export interface Work {
  /**
   * Floating-point operations; a multiply-add is two. Counted to the leading term: of products only their multiply-adds, not bias and
   * activation; of exp, sqrt and the like one each.
   */
  readonly flops: number;
  /** Bytes of inputs and results, each read or written once as it is stored; nothing that stays inside. */
  readonly bytes: number;
}

/** The work of one case, forward and, where it is differentiable, backward. */
export interface Cost extends Work {
  /**
   * From the gradients of the outputs to those of all `differentiable` inputs. Reads whatever the forward read and what it kept, with
   * nothing computed twice, unless keeping it would take more memory than inputs and outputs (attention's scores).
   */
  readonly backward?: Work;
}

/** Sizes of a transformer block, for cases as they occur in networks. */
export interface BlockShape {
  readonly batch: number;
  readonly tokens: number;
  readonly width: number;
  readonly heads: number;
  /** Features inside the MLP. */
  readonly hidden: number;
}

/** Some outputs of a large case, as a small case of their own. */
export interface Part<C> {
  readonly case: C;
  /** Its inputs, taken from the large case's. */
  readonly inputs: Arrays;
  /** By output: where element i of the small case lies in the large one's. */
  readonly places: Readonly<Record<string, (i: number) => number>>;
}

/** Draws `count` different numbers below `of`, ascending, the first and the last among them; all of them where there are no more. */
export type Pick = (count: number, of: number) => number[];

/** Inputs, by name. */
export type InputSpecs = Readonly<Record<string, InputSpec>>;

/**
 * What a kernel must compute: cases, inputs, a reference in float64, and which inputs have gradients. `I`: the inputs by their names, which
 * `run` and `reference` are given.
 */
export interface Contract<C extends object = object, I extends InputSpecs = InputSpecs> {
  readonly name: string;
  /** Sizes to test: one, odd ones, and ones that cross tile edges. */
  readonly cases: readonly C[];
  /** The inputs of a case, by name. */
  readonly inputs: (c: C) => I;
  /** The operation under test; returns its outputs, by the names that the reference gives them. */
  readonly run: (ctx: Context, inputs: { readonly [K in keyof I]: Tensor }, c: C) => Readonly<Record<string, Tensor>>;
  /** Plain loops in float64; no cleverness. */
  readonly reference: (inputs: { readonly [K in keyof I]: Float64Array }, c: C) => Arrays;
  /** Inputs that have a gradient. */
  readonly differentiable: readonly (keyof I & string)[];
  /** Longest sum behind one output element: the tolerance follows it. */
  readonly reduction: (c: C) => number;
  /** Magnifies the tolerance where float32 cannot do better (say why beside it). */
  readonly slack?: number;
  /** Cases to time, and the work in one. */
  readonly bench?: {
    readonly cases: readonly C[];
    /** Cases that occur in a transformer block of these sizes. */
    readonly block?: (shape: BlockShape) => readonly C[];
    /** Products of two square matrices of so many rows, large enough to show what the arithmetic gives. */
    readonly square?: (side: number) => readonly C[];
    /** Derived by hand; with `backward` wherever something is differentiable. */
    readonly cost: (c: C) => Cost;
    /** For cases whose whole reference takes too long: some outputs that can be checked by themselves. */
    readonly part?: (c: C, inputs: Arrays, pick: Pick) => Part<C>;
  };
}

/** Takes the types of the cases and the names of the inputs from what is written, and gives a contract that one list holds with others. */
/* @__NO_SIDE_EFFECTS__ */
export function contract<C extends object, I extends InputSpecs = InputSpecs>(c: Contract<C, I>): Contract {
  return c as unknown as Contract;
}
