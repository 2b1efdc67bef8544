/**
 * Pictures that are worked on in bands of rows: what a network makes of a picture a few rows at a time, of as many rows around them as
 * they depend on, in the same bits as all at once. A picture is asked for rows and records what makes them; a `stored` one has its bands
 * in memory, each in a tensor of its own, so that the planner gives a band's memory to others as soon as the band is done with.
 */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import {
  type ConvolutionOptions,
  type ConvolutionWeights,
  convolution,
  convolvedSize,
  rowsBehind,
} from '../../kernels/conv/convolution.ts';
import { copyRows } from '../../kernels/conv/rows.ts';
import {
  type GroupNormOptions,
  type GroupNormWeights,
  groupnorm,
  measureGroups,
} from '../../kernels/norm/groupnorm.ts';

/** A picture of which any rows can be had. */
export interface Rows {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Records rows [from, to): [1, to - from, width, channels]. */
  rows(from: number, to: number): Tensor;
}

/** Rows of a picture in memory, from row `first` of it on: x [1, rows, W, C]. */
interface Band {
  readonly first: number;
  readonly x: Tensor;
}

/** A picture in memory. */
export interface Stored extends Rows {
  readonly bands: readonly Band[];
}

/** Brings `rows` rows of x, from row `from` on, to row `into` of y. */
type Move = (x: Tensor, y: Tensor, rows: number, from: number, into: number) => void;

/** Rows [from, to) of bands in one tensor, `move`d there. */
function assembled(ctx: Context, { bands, width, channels }: Stored, from: number, to: number, move: Move): Tensor {
  const y = ctx.empty('rows', [1, to - from, width, channels]);
  for (const { first, x } of bands) {
    const [start, end] = [Math.max(first, from), Math.min(first + x.shape[1]!, to)];
    if (start < end) move(x, y, end - start, start - first, start - from);
  }
  return y;
}

/** Bands [1, rows, W, C] from the first row to the last. */
function stored(ctx: Context, bands: readonly Band[]): Stored {
  const { first, x } = bands.at(-1)!;
  const [, last, width, channels] = x.shape as readonly number[];
  const found: Stored = {
    ...{ bands, height: first + last!, width: width!, channels: channels! },
    rows: (from, to) =>
      bands.find((band) => band.first === from && band.x.shape[1] === to - from)?.x ??
      assembled(ctx, found, from, to, (...move) => copyRows(ctx, ...move)),
  };
  return found;
}

/** A picture [1, H, W, C] as one band. */
export const inOneBand = (ctx: Context, x: Tensor): Stored => stored(ctx, [{ first: 0, x }]);

/** A picture as one tensor [1, H, W, C]. */
export const whole = (x: Rows): Tensor => x.rows(0, x.height);

/**
 * Makes pictures of one height and width band by band, of about `pixels` pixels each, and keeps them. What several need of another picture
 * is then wanted at the same time, and no longer.
 */
export function store<const P extends readonly Rows[]>(
  ctx: Context,
  pixels: number,
  ...pictures: P
): { [K in keyof P]: Stored } {
  const { height, width } = pictures[0]!;
  const rows = Math.max(1, Math.min(height, Math.floor(pixels / width)));
  const bands = pictures.map((): Band[] => []);
  for (let first = 0; first < height; first += rows) {
    pictures.forEach((picture, i) => {
      bands[i]!.push({ first, x: picture.rows(first, Math.min(height, first + rows)) });
    });
  }
  return bands.map((found) => stored(ctx, found)) as { [K in keyof P]: Stored };
}

/** The convolution of a picture, to which another may be added. */
export function convolved(
  ctx: Context,
  x: Rows,
  weights: ConvolutionWeights,
  { residual, ...options }: Omit<ConvolutionOptions, 'residual' | 'band'> & { readonly residual?: Rows | undefined },
): Rows {
  const [taps, channels] = weights.kernel.shape as readonly [number, number];
  const side = Math.sqrt(taps / x.channels);
  const [height, width] = convolvedSize([x.height, x.width], side, options);
  return {
    ...{ height, width, channels },
    rows(first, end) {
      const [from, to] = rowsBehind([first, end], x.height, side, options);
      // A gradient passes the whole picture alone.
      const isWhole = first === 0 && end === height;
      return convolution(ctx, x.rows(from, to), weights, {
        ...options,
        ...(!isWhole && { band: { first, rows: end - first, from } }),
        ...(residual && { residual: residual.rows(first, end) }),
      });
    },
  };
}

/** The group norm of a picture in memory: measured now, band by band. */
export function normed(ctx: Context, x: Stored, weights: GroupNormWeights, options: GroupNormOptions): Rows {
  const { height, width, channels, bands } = x;
  if (bands.length === 1) return inOneBand(ctx, groupnorm(ctx, whole(x), weights, options));
  const norm = measureGroups(ctx, [1, height, width, channels], bands, weights, options);
  return { height, width, channels, rows: (from, to) => assembled(ctx, x, from, to, norm.normalise) };
}

/** What `change` makes of each pixel alone. */
export const mapped = (x: Rows, change: (x: Tensor) => Tensor): Rows => ({
  ...{ height: x.height, width: x.width, channels: x.channels },
  rows: (from, to) => change(x.rows(from, to)),
});
