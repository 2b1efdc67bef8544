/** Convolutions of pictures [B, H, W, C] with bias, residual and ReLU fused, of a picture that may be enlarged on the way in; reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { lastDim, type Shape, shapeText, sizeOf, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import { choose } from '../family.ts';
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
 * @throws UsageError where shapes do not fit, rows are symbolic, or a gradient is wanted: it has no backward pass.
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
  if (ctx.tape?.needs(x, kernel, ...[bias, residual].filter((t) => t !== undefined))) {
    throw new UsageError('no gradient passes a convolution', { hint: 'run autoencoders without a tape' });
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
  const variant = choose(ctx.engine, convolutions, {
    ...{ channels: channels!, columns, side, weights: kernel.dtype as 'f32' | 'f16' },
  });
  const rows = batch * outHeight * outWidth;
  const tiles = Math.ceil(rows / variant.tileM);
  const fold = Math.ceil(tiles / MOST_ACROSS);
  ctx.dispatch({
    kernel: variant.kernel,
    entry: 'convolve',
    constants: {
      ...variant.constants,
      VEC_IN: channels! % 4 === 0,
      VEC_OUT: columns % 4 === 0,
      F16: kernel.dtype === 'f16',
      BIAS: bias !== undefined,
      RESIDUAL: residual !== undefined,
      RELU: activation === 'relu',
    },
    tensors: { x, w: kernel, y, ...(bias && { bias }), ...(residual && { residual }) },
    params: {
      ...{ rows, columns, channels: channels!, height: height!, width: width!, outHeight, outWidth, side, stride },
      ...{ padTop: padOf(side, options) - passed, padLeft: padOf(side, options) },
      up: upsample ? 1 : 0,
    },
    grid: [Math.ceil(tiles / fold), Math.ceil(columns / variant.tileN), fold],
  });
  return y;
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
  fused?: 'nothing' | 'bias' | 'bias, residual' | 'bias, residual, relu' | 'relu';
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
    bias: { shape: [c.output] as [number] },
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

const CASES: readonly ConvolutionCase[] = [
  { batch: 1, height: 1, width: 1, input: 1, output: 1, side: 1 },
  { batch: 1, height: 1, width: 3, input: 3, output: 8, side: 3 },
  { batch: 2, height: 5, width: 7, input: 8, output: 3, side: 3 },
  { batch: 1, height: 9, width: 6, input: 20, output: 36, side: 3, stride: 2, padding: 'end', fused: 'bias, residual' },
  { batch: 2, height: 7, width: 10, input: 4, output: 68, side: 3, stride: 2, fused: 'nothing' },
  { batch: 1, height: 5, width: 4, input: 12, output: 16, side: 3, upsample: true, fused: 'relu' },
  { batch: 2, height: 6, width: 7, input: 24, output: 40, side: 1, fused: 'bias, residual, relu' },
];

/** Reads x and the weights once, and writes the result. */
const cost = (c: ConvolutionCase, bytes: 2 | 4) => {
  const { outHeight, outWidth } = sizes(c);
  const [rows, taps] = [c.batch * outHeight * outWidth, c.side ** 2 * c.input];
  const residual = has(c, 'residual') ? rows * c.output : 0;
  return {
    flops: 2 * rows * taps * c.output,
    bytes:
      4 * (c.batch * c.height * c.width * c.input + c.output + residual + rows * c.output) + bytes * taps * c.output,
  };
};

export const convolutionContract = contract<ConvolutionCase>({
  name: 'convolution',
  cases: CASES,
  inputs: (c) => ({
    ...convolutionInputs(c),
    kernel: {
      shape: [c.side ** 2 * c.input, c.output],
      fill: (_, normal) => normal() / Math.sqrt(c.side ** 2 * c.input),
    },
  }),
  run: (ctx, { x, kernel, bias, residual }, c) => ({
    y: convolution(ctx, x!, { kernel: kernel!, ...(has(c, 'bias') && { bias: bias! }) }, optionsOf(c, residual)),
  }),
  reference: (inputs, c) => ({ y: convolved(inputs, c) }),
  differentiable: [],
  reduction: ({ side, input }) => side ** 2 * input,
  bench: {
    cases: [{ batch: 1, height: 32, width: 32, input: 128, output: 128, side: 3 }],
    cost: (c) => cost(c, 4),
  },
});
