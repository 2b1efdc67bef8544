/**
 * Matrix products C = op(A) op(B): dispatches the variant that variants.ts chooses.
 */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import type { Kernel } from '../../engine/kernel.ts';
import { fitsMirror } from '../../engine/mirrors.ts';
import { ceilDiv, maxOf, type Scalar } from '../../engine/scalar.ts';
import type { DType, Tensor } from '../../engine/tensor.ts';
import { choose, prefersMirrors } from '../family.ts';
import { sized } from './tiles.ts';
import { products } from './variants.ts';

/** What is done to the product before it is stored; the numbers are matmul.wgsl's EPILOGUE. */
const EPILOGUE = { none: 0, bias: 1, gelu: 2, silu: 3, gated: 4, plus: 5, geluSlope: 6 } as const;

const EXTRAS = ['bias', 'gated', 'plus', 'before'] as const;

/** What each epilogue takes besides the factors. */
const TAKES: Readonly<Record<keyof typeof EPILOGUE, readonly (typeof EXTRAS)[number][]>> = {
  none: [],
  bias: ['bias'],
  gelu: ['bias'],
  silu: ['bias'],
  gated: ['bias', 'gated'],
  plus: ['plus'],
  geluSlope: ['before'],
};

/** Workgroups that every device allows in a dimension. */
const MOST_DOWN = 65535;

/** Workgroups in a second dimension and, where they are too many, a third, which a kernel takes together. */
function folded(count: Scalar): [Scalar, number] {
  const times = Math.ceil(maxOf(count) / MOST_DOWN);
  return times > 1 ? [ceilDiv(count, times), times] : [count, 1];
}

/** How a matrix is stored, as matmul.wgsl's PACK_B. */
const PACK: Readonly<Partial<Record<DType, number>>> = { f32: 0, f16: 1, i8: 2 };

/** A picture and a convolution of it, whose taps make the first factor of a product: the fields are those of conv.wgsl. */
export interface Patches {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly side: number;
  readonly step: number;
  readonly pad: number;
  readonly up: number;
}

/** Three matrices and their biases: elements from the first of one to the first of the next, and the other two results. */
export interface Parts {
  readonly spacing: number;
  readonly biasSpacing: number;
  readonly more: readonly [Tensor, Tensor];
}

export interface Product {
  /** Rows and columns of the result, and the length of the sums. */
  readonly M: Scalar;
  readonly N: number;
  readonly K: Scalar;
  /** f32 or, not transposed, f16. */
  readonly a: Tensor;
  /** f32, or packed: 'f16' or 'i8' (engine/tensor.ts), then not transposed. */
  readonly b: Tensor;
  /** f32 or f16; the residual likewise. */
  readonly c: Tensor;
  /** The product is N columns from `first` on of a c (bias, residual, gate) that has `stride`. Default: all of it. */
  readonly columns?: { readonly first: number; readonly stride: number };
  /** a is stored [K, M]; b is stored [N, K]. */
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** b is three matrices of N / 3 columns, and c the first result. With the epilogue 'bias', not with transposeB or columns. */
  readonly parts?: Parts;
  /** a is a picture, and row k of [K, M] what pixel k of its convolution sees of it, tap by tap. With transposeA; `reading`: readingPatches (patches.ts). */
  readonly patches?: { readonly taps: Patches; readonly reading: (kernel: Kernel) => Kernel };
  readonly epilogue?: keyof typeof EPILOGUE;
  readonly bias?: Tensor;
  /** Receives AB + bias, for a backward pass. */
  readonly pre?: Tensor;
  readonly gated?: { residual: Tensor; gate: Tensor; offset: number; stride: number; tokens: number };
  /** Shaped as c: added to the product. */
  readonly plus?: Tensor;
  /** Shaped as c: what a GELU was taken of, by whose slope there the product is multiplied. */
  readonly before?: Tensor;
}

/**
 * Dispatches one product. Where a is transposed and that keeps a GPU busy it is split along K, and the slices' products are returned
 * [slices, M N], for `matmul` (sliced.ts) to add: forward passes have none, and pages that sample do not load sums.
 */
export function dispatchProduct(ctx: Context, p: Product): Tensor | null {
  const { epilogue = 'none', gated } = p;
  if (EXTRAS.some((name) => TAKES[epilogue].includes(name) !== (p[name] !== undefined))) {
    throw new UsageError(`matmul: epilogue '${epilogue}' does not fit the tensors given`);
  }
  const { parts } = p;
  const { first, stride } = p.columns ?? { first: 0, stride: parts ? p.N / 3 : p.N };
  const pack = PACK[p.b.dtype];
  if (pack === undefined || (pack > 0 && p.transposeB)) {
    throw new UsageError(
      `matmul: '${p.b.label}' of ${p.b.dtype}${p.transposeB ? ', transposed,' : ''} cannot be a factor`,
      {
        hint: 'packed matrices (f16, i8) are for inference; keep weights that are trained in f32',
      },
    );
  }
  const lengths = [p.N, p.transposeA ? p.M : p.K, p.transposeB ? p.K : p.N, gated?.offset ?? 0, gated?.stride ?? 0];
  const places = [first, stride, parts?.spacing ?? 0, parts?.biasSpacing ?? 0, p.patches?.taps.channels ?? 0];
  const vec = [...lengths, ...places].every((n) => typeof n === 'number' && n % 4 === 0);
  const isHalf = (t: Tensor) => t.dtype === 'f16';
  if ((isHalf(p.a) || isHalf(p.c)) && (!vec || p.transposeA || p.pre || p.plus || p.before)) {
    throw new UsageError(`matmul: '${p.a.label}' of ${p.a.dtype} to '${p.c.label}' of ${p.c.dtype} is not possible`, {
      hint: 'activations in f16 are for inference, with sizes that are multiples of four; use f32',
    });
  }
  const variant = choose(ctx.engine, products, {
    layout: p.transposeA ? 'TN' : p.transposeB ? 'NT' : 'NN',
    vec,
    weights: p.b.dtype as 'f32',
    activations: isHalf(p.a) ? 'f16' : 'f32',
    rows: p.transposeA || p.a.shape.length > 2 ? 'many' : 'one',
    n: parts ? stride : p.N, // so that parts have the bits that each would have by itself
    k: maxOf(p.transposeA ? p.M : p.K),
  });
  const { kernel, constants, tileM, tileN, next, folds, slice: sliceFor } = sized(variant, maxOf(p.M), p.N);
  const multiplyAdds = maxOf(p.M) * p.N * maxOf(p.K);
  const mirroring = (t: Tensor, uses: number): boolean =>
    vec && fitsMirror(t) && prefersMirrors(ctx.engine, multiplyAdds, uses);
  const [down, across] = [ceilDiv(p.M, tileM), Math.ceil(p.N / tileN)];
  // Only weight gradients sum over rows: their K is symbolic or large while M and N are small.
  const length = p.transposeA ? sliceFor(across * maxOf(down)) : 0;
  const slice = length > 0 && maxOf(p.K) > length ? length : null;
  const slices = slice === null ? 1 : ceilDiv(p.K, slice);
  const rows: readonly [Scalar, Scalar] = folds ? folded(down) : [down, slices];
  const c = slice === null ? p.c : ctx.empty('split', [slices, maxOf(p.M) * p.N]);
  const tensors: Record<string, Tensor> = { a: p.a, b: p.b, c };
  if (p.bias) tensors.bias = p.bias;
  if (p.pre) tensors.pre = p.pre;
  if (gated) Object.assign(tensors, { residual: gated.residual, gate: gated.gate });
  if (p.plus) tensors.residual = p.plus;
  if (p.before) tensors.before = p.before;
  if (parts) Object.assign(tensors, { c1: parts.more[0], c2: parts.more[1] });
  ctx.dispatch({
    kernel: p.patches ? p.patches.reading(kernel) : kernel,
    entry: 'matmul',
    constants: {
      ...constants,
      VEC: vec,
      TRANSPOSE_A: p.transposeA ?? false,
      TRANSPOSE_B: p.transposeB ?? false,
      PACK_B: pack,
      THREE: parts !== undefined,
      PATCHES: p.patches !== undefined,
      MIRROR_A: mirroring(p.a, p.N),
      MIRROR_B: mirroring(p.b, maxOf(p.M)),
      F16_A: isHalf(p.a),
      F16_C: isHalf(p.c),
      EPILOGUE: EPILOGUE[epilogue],
      SAVE_PRE: p.pre !== undefined,
      SPLIT_K: slice !== null,
    },
    tensors,
    apart: [...(p.transposeA ? [] : ['a']), ...(p.transposeB ? ['b'] : [])],
    params: {
      M: p.M,
      N: p.N,
      K: p.K,
      kChunk: slice ?? 0,
      first,
      stride,
      tokens: gated?.tokens ?? 1,
      gateStride: gated?.stride ?? 0,
      gateOffset: gated?.offset ?? 0,
      ...p.patches?.taps,
      ...(parts && { spacing: parts.spacing, biasSpacing: parts.biasSpacing }),
    },
    grid: next === 'below' ? [down, across, slices] : [across, ...rows],
  });
  return slice === null ? null : c;
}
