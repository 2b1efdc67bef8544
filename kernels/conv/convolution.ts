/**
 * Convolutions of pictures [B, H, W, C] with bias, residual and ReLU fused, of a picture that may be enlarged on the way in; reference.
 * Their backward is in convolution.backward.ts.
 */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { fitsMirror } from '../../engine/mirrors.ts';
import { lastDim, type Shape, shapeText, sizeOf, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import { choose, prefersMirrors } from '../family.ts';
import type { Patches } from '../matmul/matmul.ts';
import { convolutions } from './variants.ts';

/** The weights of a convolution. */
export interface ConvolutionWeights {
  /** [side * side * channels in, channels out], tap by tap, row of taps by row; f32 or f16. */
  readonly kernel: Tensor;
  /** [channels out]. */
  readonly bias?: Tensor;
}

/** How the taps are laid over the picture. */
export interface ConvolutionOptions {
  /** Pixels from one result to the next. Default 1. */
  readonly stride?: 1 | 2;
  /**
   * Rows and columns of zeros around the picture. `same`: side / 2 on each side; `end`: none before the first row and column, one after
   * the last, as the encoder of Stable Diffusion has them where it halves a picture. Default `same`.
   */
  readonly padding?: 'same' | 'end';
  /** The picture is made twice as large first, each pixel repeated. */
  readonly upsample?: boolean;
  /** Shaped as the result: added to it, before `activation`. */
  readonly residual?: Tensor;
  readonly activation?: 'none' | 'relu';
  /** Default: the whole picture. */
  readonly band?: ConvolutionBand;
}

/** Rows of a result that are made alone, of a batch of one, from those rows of the picture that they depend on (`rowsBehind`). */
export interface ConvolutionBand {
  /** Rows `first` .. `first + rows` - 1 of the whole result. */
  readonly first: number;
  readonly rows: number;
  /** Which row of the whole picture is the first of x. */
  readonly from: number;
}

/** Workgroups in a row of tiles; more are folded (conv.wgsl, tile()). */
const MOST_ACROSS = 32768;

/** Rows or columns of the result. */
const outSize = (size: number, side: number, { stride = 1, padding = 'same' }: ConvolutionOptions): number =>
  Math.floor((size + (padding === 'same' ? side - 1 : 1) - side) / stride) + 1;

/** Rows and columns of zeros before the first. */
const padOf = (side: number, { padding = 'same' }: ConvolutionOptions): number =>
  padding === 'same' ? (side - 1) / 2 : 0;

/** Height and width of the result for a picture of this height and width. */
export function convolvedSize(
  [height, width]: readonly [number, number],
  side: number,
  options: ConvolutionOptions,
): readonly [number, number] {
  const up = options.upsample ? 2 : 1;
  return [outSize(up * height, side, options), outSize(up * width, side, options)];
}

/** The rows [from, to) of a picture of `height` rows that rows [first, end) of the result depend on. */
export function rowsBehind(
  [first, end]: readonly [number, number],
  height: number,
  side: number,
  options: ConvolutionOptions,
): readonly [number, number] {
  const { stride = 1, upsample = false } = options;
  const up = upsample ? 2 : 1;
  const [top, bottom] = [stride * first - padOf(side, options), stride * (end - 1) - padOf(side, options) + side];
  return [Math.max(0, Math.floor(top / up)), Math.min(height, Math.ceil(bottom / up))];
}

/**
 * activation(x * kernel + bias + residual). x [B, H, W, C], f32; returns [B, H', W', N].
 * @throws UsageError where shapes do not fit, rows are symbolic, or a gradient is wanted through a kernel in f16 or of a band.
 */
export function convolution(
  ctx: Context,
  x: Tensor,
  { kernel, bias }: ConvolutionWeights,
  options: ConvolutionOptions = {},
): Tensor {
  const { stride = 1, upsample = false, residual, activation = 'none', band } = options;
  const [batch, height, width, channels] = x.shape;
  const columns = lastDim(kernel);
  const side = Math.sqrt((kernel.shape[0] as number) / (channels ?? 0));
  if (x.shape.length !== 4 || typeof batch !== 'number' || x.dtype !== 'f32' || (side !== 1 && side !== 3)) {
    throw new UsageError(
      `a convolution of ${shapeText(x)} of ${x.dtype} by ${shapeText(kernel)}: kernels of 1 or 3 taps a side are supported`,
    );
  }
  if ((kernel.dtype !== 'f32' && kernel.dtype !== 'f16') || (bias && sizeOf(bias) !== columns)) {
    throw new UsageError(
      `a convolution by ${shapeText(kernel)} of ${kernel.dtype} with ${bias ? `a bias of ${shapeText(bias)}` : 'no bias'} is not possible`,
    );
  }
  if (band && ctx.tape?.needs(x, kernel)) {
    throw new UsageError('no gradient passes a band of a picture', { hint: 'differentiate the whole picture' });
  }
  const [wholeHeight, outWidth] = convolvedSize([height!, width!], side, options);
  const outHeight = band?.rows ?? wholeHeight;
  // Where x has all that a band depends on, what lies outside of it lies outside of the picture.
  const passed = band ? stride * band.first - (upsample ? 2 : 1) * band.from : 0;
  const shape: Shape = [batch, outHeight, outWidth, columns];
  if (residual && shapeText(residual) !== shapeText({ shape })) {
    throw new UsageError(
      `a convolution gives ${shapeText({ shape })}, to which ${shapeText(residual)} cannot be added`,
    );
  }
  const y = ctx.empty('conv', shape);
  const taps: Patches = {
    ...{ channels: channels!, height: height!, width: width!, outHeight, outWidth, side, step: stride },
    ...{ pad: padOf(side, options), up: upsample ? 1 : 0 },
  };
  const made: Convolve = { taps, passed, x, w: kernel, y, bias, residual, relu: activation === 'relu' };
  convolve(ctx, made);
  const inputs = [x, kernel, ...[bias, residual].filter((t) => t !== undefined)];
  if (!band) ctx.tape?.add({ name: 'convolution', inputs, outputs: [y], saved: made });
  return y;
}

/** One dispatch of a convolution; what the backward needs of it. */
export interface Convolve {
  readonly taps: Patches;
  /** Of a band; see conv.wgsl. */
  readonly passed?: number;
  readonly x: Tensor;
  readonly w: Tensor;
  readonly y: Tensor;
  readonly bias?: Tensor | undefined;
  readonly residual?: Tensor | undefined;
  readonly relu?: boolean;
  /** x is enlarged by zeros. */
  readonly dilate?: boolean;
}

/** Dispatches it. */
export function convolve(
  ctx: Context,
  { taps, passed = 0, x, w, y, bias, residual, relu = false, dilate = false }: Convolve,
): void {
  const { channels, side, outHeight, outWidth } = taps;
  const columns = lastDim(w);
  const weights = w.dtype as 'f32' | 'f16';
  const variant = choose(ctx.engine, convolutions, { channels, columns, side, weights });
  const rows = (y.shape[0] as number) * outHeight * outWidth;
  const mirroring = prefersMirrors(ctx.engine, rows * columns * side ** 2 * channels);
  const tiles = Math.ceil(rows / variant.tileM);
  const fold = Math.ceil(tiles / MOST_ACROSS);
  ctx.dispatch({
    kernel: variant.kernel,
    entry: 'convolve',
    constants: {
      ...variant.constants,
      VEC_IN: channels % 4 === 0,
      VEC_OUT: columns % 4 === 0,
      F16: weights === 'f16',
      BIAS: bias !== undefined,
      RESIDUAL: residual !== undefined,
      RELU: relu,
      DILATE: dilate,
      MIRROR_X: mirroring && channels % 4 === 0 && fitsMirror(x),
      MIRROR_W: mirroring && columns % 4 === 0 && fitsMirror(w),
    },
    tensors: { x, w, y, ...(bias && { bias }), ...(residual && { residual }) },
    params: { rows, columns, ...taps, passed },
    grid: [Math.ceil(tiles / fold), Math.ceil(columns / variant.tileN), fold],
  });
}

/** Sizes of a convolution and what is fused into it. */
export interface ConvolutionCase {
  batch: number;
  height: number;
  width: number;
  input: number;
  output: number;
  side: 1 | 3;
  stride?: 1 | 2;
  padding?: 'same' | 'end';
  upsample?: boolean;
  /** Default: bias alone. */
  fused?: 'bias' | 'bias, relu' | 'bias, residual' | 'bias, residual, relu' | 'residual' | 'residual, relu';
}

const has = ({ fused = 'bias' }: ConvolutionCase, what: string): boolean => fused.includes(what);

function sizes(c: ConvolutionCase) {
  const [outHeight, outWidth] = convolvedSize([c.height, c.width], c.side, c);
  return { outHeight, outWidth, up: c.upsample ? 2 : 1 };
}

/** In float64, tap by tap. */
export function convolved(
  { x, kernel, bias, residual }: Readonly<Record<string, Float64Array>>,
  c: ConvolutionCase,
): Float64Array {
  const { batch, height, width, input, output, side, stride = 1 } = c;
  const { outHeight, outWidth, up } = sizes(c);
  const pad = padOf(side, c);
  const y = new Float64Array(batch * outHeight * outWidth * output);
  for (let at = 0; at < y.length; at++) {
    const n = at % output;
    const column = Math.floor(at / output) % outWidth;
    const row = Math.floor(at / output / outWidth) % outHeight;
    const b = Math.floor(at / output / outWidth / outHeight);
    let sum = has(c, 'bias') ? bias![n]! : 0;
    for (let dy = 0; dy < side; dy++) {
      for (let dx = 0; dx < side; dx++) {
        const [iy, ix] = [stride * row + dy - pad, stride * column + dx - pad];
        if (iy < 0 || ix < 0 || iy >= up * height || ix >= up * width) continue;
        const first = ((b * height + Math.floor(iy / up)) * width + Math.floor(ix / up)) * input;
        const tap = (dy * side + dx) * input;
        for (let k = 0; k < input; k++) sum += x![first + k]! * kernel![(tap + k) * output + n]!;
      }
    }
    if (has(c, 'residual')) sum += residual![at]!;
    y[at] = has(c, 'relu') ? Math.max(0, sum) : sum;
  }
  return y;
}

/** Inputs of a case but its kernel. */
export function convolutionInputs(c: ConvolutionCase) {
  const { outHeight, outWidth } = sizes(c);
  return {
    x: { shape: [c.batch, c.height, c.width, c.input] as [number, ...number[]] },
    ...(has(c, 'bias') && { bias: { shape: [c.output] as [number] } }),
    ...(has(c, 'residual') && {
      residual: { shape: [c.batch, outHeight, outWidth, c.output] as [number, ...number[]] },
    }),
  };
}

/** What is fused, as options. */
export const optionsOf = (c: ConvolutionCase, residual: Tensor | undefined): ConvolutionOptions => ({
  ...{ stride: c.stride ?? 1, padding: c.padding ?? 'same', upsample: c.upsample ?? false },
  ...(residual && { residual }),
  activation: has(c, 'relu') ? 'relu' : 'none',
});

/** Of those with ReLU, no sum lies within 2e-4 of zero, where central differences are no slopes. */
const CASES: readonly ConvolutionCase[] = [
  { batch: 1, height: 1, width: 1, input: 1, output: 1, side: 1 },
  { batch: 1, height: 1, width: 3, input: 3, output: 8, side: 3 },
  { batch: 2, height: 5, width: 7, input: 8, output: 3, side: 3 },
  { batch: 1, height: 9, width: 6, input: 20, output: 36, side: 3, stride: 2, padding: 'end', fused: 'bias, residual' },
  { batch: 2, height: 7, width: 10, input: 4, output: 68, side: 3, stride: 2 },
  { batch: 1, height: 4, width: 3, input: 12, output: 16, side: 3, upsample: true, fused: 'bias, relu' },
  { batch: 2, height: 6, width: 7, input: 24, output: 40, side: 1, fused: 'bias, residual, relu' },
];

/** Reads x and the weights once, and writes the result. Backward: dx and the weights' gradient are a convolution's work each. */
const cost = (c: ConvolutionCase, bytes: 2 | 4) => {
  const { outHeight, outWidth } = sizes(c);
  const [rows, taps] = [c.batch * outHeight * outWidth, c.side ** 2 * c.input];
  const [pictures, results] = [c.batch * c.height * c.width * c.input, rows * c.output];
  const [residual, bias] = [has(c, 'residual') ? results : 0, has(c, 'bias') ? c.output : 0];
  const flops = 2 * rows * taps * c.output;
  const slope = has(c, 'relu') ? results + residual : 0;
  return {
    flops,
    bytes: 4 * (pictures + bias + residual + results) + bytes * taps * c.output,
    backward: { flops: 2 * flops, bytes: 4 * (2 * pictures + bias + results + slope + 2 * taps * c.output) },
  };
};

const kernelInput = (c: ConvolutionCase) => ({
  shape: [c.side ** 2 * c.input, c.output] as [number, number],
  fill: (_: number, normal: () => number) => normal() / Math.sqrt(c.side ** 2 * c.input),
});

export const convolutionContract = contract<ConvolutionCase>({
  name: 'convolution',
  cases: CASES,
  inputs: (c) => ({ ...convolutionInputs(c), kernel: kernelInput(c) }),
  run: (ctx, { x, kernel, bias, residual }, c) => ({
    y: convolution(ctx, x!, { kernel: kernel!, ...(bias && { bias }) }, optionsOf(c, residual)),
  }),
  reference: (inputs, c) => ({ y: convolved(inputs, c) }),
  differentiable: ['x', 'kernel', 'bias'],
  reduction: ({ side, input }) => side ** 2 * input,
  bench: {
    cases: [{ batch: 1, height: 32, width: 32, input: 128, output: 128, side: 3 }],
    cost: (c) => cost(c, 4),
    /** Some channels of the result. */
    part(c, { x, kernel, bias, residual }, pick) {
      const channels = pick(4, c.output);
      const of = (all: Float64Array) =>
        Float64Array.from(
          { length: (all.length / c.output) * channels.length },
          (_, i) => all[Math.floor(i / channels.length) * c.output + channels[i % channels.length]!]!,
        );
      return {
        case: { ...c, output: channels.length },
        inputs: {
          x: x!,
          kernel: of(kernel!),
          ...(bias && { bias: of(bias) }),
          ...(residual && { residual: of(residual) }),
        },
        places: { y: (i) => Math.floor(i / channels.length) * c.output + channels[i % channels.length]! },
      };
    },
  },
});

/** What a residual gets, of its own and where it is x itself: inner = x + convolution of x; activation(convolution of inner + residual). */
export const convolutionResidualContract = contract<ConvolutionCase>({
  name: 'convolutionResidual',
  cases: [
    { batch: 2, height: 4, width: 5, input: 8, output: 8, side: 3, fused: 'residual' },
    { batch: 1, height: 3, width: 7, input: 5, output: 5, side: 1, fused: 'residual, relu' },
  ],
  inputs: (c) => ({ ...convolutionInputs(c), kernel: kernelInput(c) }),
  run(ctx, { x, kernel, residual }, c) {
    const inner = convolution(ctx, x!, { kernel: kernel! }, { residual: x! });
    return { y: convolution(ctx, inner, { kernel: kernel! }, optionsOf(c, residual)) };
  },
  reference({ x, kernel, residual }, c) {
    const inner = convolved({ x: x!, kernel: kernel!, residual: x! }, { ...c, fused: 'residual' });
    return { y: convolved({ x: inner, kernel: kernel!, residual: residual! }, c) };
  },
  differentiable: ['x', 'kernel', 'residual'],
  reduction: ({ side, input }) => side ** 2 * input,
});
