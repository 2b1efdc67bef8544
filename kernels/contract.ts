/**
 * The contract every kernel is held to: test/kernels/contracts.gpu.test.ts checks each registered one against its float64 reference and its backward
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

/** What a kernel must compute: cases, inputs, a reference in float64, and which inputs have gradients. */
export interface Contract<C extends object = object> {
  readonly name: string;
  /** Sizes to test: one, odd ones, and ones that cross tile edges. */
  readonly cases: readonly C[];
  /** The inputs of a case, by name. */
  readonly inputs: (c: C) => Readonly<Record<string, InputSpec>>;
  /** The operation under test; returns its outputs, by the names that the reference gives them. */
  readonly run: (ctx: Context, inputs: Readonly<Record<string, Tensor>>, c: C) => Readonly<Record<string, Tensor>>;
  /** Plain loops in float64; no cleverness. */
  readonly reference: (inputs: Readonly<Record<string, Float64Array>>, c: C) => Readonly<Record<string, Float64Array>>;
  /** Inputs that have a gradient. */
  readonly differentiable: readonly string[];
  /** Longest sum behind one output element: the tolerance follows it. */
  readonly reduction: (c: C) => number;
  /** Magnifies the tolerance where float32 cannot do better (say why beside it). */
  readonly slack?: number;
  /** Cases to time, and the work in one. */
  readonly bench?: {
    readonly cases: readonly C[];
    /** Floating-point operations of a case, and bytes read and written at least. */
    readonly cost: (c: C) => { readonly flops: number; readonly bytes: number };
  };
}

/** Keeps each contract's own case type while the registry holds them in one list. */
/* @__NO_SIDE_EFFECTS__ */
export function contract<C extends object>(c: Contract<C>): Contract {
  return c as unknown as Contract;
}
