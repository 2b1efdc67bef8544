/** Images as sequences of flattened patches and back; each is the other's backward. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv } from '../engine/scalar.ts';
import { shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import lib from './lib.wgsl';
import source from './patches.wgsl';

const kernel = defineKernel('patches', lib, source);
const WG = 64;
const EACH = 8;

/**
 * Images [B, H, W, C] as tokens [B, (H/p) * (W/p), p*p*C]: tokens row-major, and (row, column, channel) within one, so that a
 * convolution kernel (p, p, C, D) of stride p is the matrix [p*p*C, D]. Differentiable.
 * @throws UsageError when p does not divide H and W.
 */
export function patchify(ctx: Context, images: Tensor, p: number): Tensor {
  const [batch, height = 0, width = 0, channels = 0] = images.shape;
  if (images.shape.length !== 4 || height % p !== 0 || width % p !== 0) {
    throw new UsageError(`cannot cut ${shapeText(images)} into patches of ${p} x ${p}`);
  }
  const tokens = ctx.empty('patches', [batch, (height / p) * (width / p), p * p * channels]);
  move(ctx, 'patchify', images, tokens, { COLUMNS: width / p, PATCH: p, CHANNELS: channels });
  return tokens;
}

/**
 * Tokens [B, (H/p) * (W/p), p*p*C] as images [B, H, W, C], the inverse of patchify. H = W unless `height` is given. Differentiable.
 * @throws UsageError when the tokens do not make such images.
 */
export function unpatchify(ctx: Context, tokens: Tensor, p: number, height?: number): Tensor {
  const [batch, count = 0, features = 0] = tokens.shape;
  const down = height === undefined ? Math.sqrt(count) : height / p;
  const [across, channels] = [count / down, features / (p * p)];
  if (tokens.shape.length !== 3 || ![down, across, channels].every(Number.isInteger)) {
    throw new UsageError(`cannot make images from ${shapeText(tokens)} by patches of ${p} x ${p}`, {
      hint: 'give the height of images that are not square',
    });
  }
  const images = ctx.empty('images', [batch, down * p, across * p, channels]);
  move(ctx, 'unpatchify', tokens, images, { COLUMNS: across, PATCH: p, CHANNELS: channels });
  return images;
}

interface Geometry {
  readonly COLUMNS: number;
  readonly PATCH: number;
  readonly CHANNELS: number;
}

function move(ctx: Context, entry: 'patchify' | 'unpatchify', from: Tensor, to: Tensor, geometry: Geometry): void {
  const run = (name: string, x: Tensor, y: Tensor) =>
    ctx.dispatch({
      kernel,
      entry: name,
      constants: { WG, EACH, ...geometry },
      tensors: { source: x, result: y },
      params: { size: sizeOf(x) },
      grid: ceilDiv(sizeOf(x), WG * EACH),
    });
  run(entry, from, to);
  ctx.tape?.add({
    name: entry,
    inputs: [from],
    outputs: [to],
    backward: (g) => run(entry === 'patchify' ? 'unpatchify' : 'patchify', g.dy(0), g.out(0)),
  });
}

interface PatchCase {
  batch: number;
  height: number;
  width: number;
  channels: number;
  patch: number;
}

const CASES: PatchCase[] = [
  { batch: 1, height: 1, width: 1, channels: 1, patch: 1 },
  { batch: 3, height: 4, width: 6, channels: 3, patch: 2 },
  { batch: 2, height: 9, width: 3, channels: 5, patch: 3 },
];

/** Visits every element as (place in the images, place in the tokens). */
function pairs({ batch, height, width, channels, patch }: PatchCase, visit: (image: number, token: number) => void) {
  const across = width / patch;
  for (let b = 0; b < batch; b++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) {
          const t = Math.floor(y / patch) * across + Math.floor(x / patch);
          const inside = ((y % patch) * patch + (x % patch)) * channels + c;
          const token = (b * across * (height / patch) + t) * patch * patch * channels + inside;
          visit(((b * height + y) * width + x) * channels + c, token);
        }
      }
    }
  }
}

const bench = {
  cases: [{ batch: 64, height: 32, width: 32, channels: 4, patch: 2 }],
  cost(c: PatchCase) {
    const work = { flops: 0, bytes: 8 * c.batch * c.height * c.width * c.channels };
    return { ...work, backward: work };
  },
};

export const patchifyContract = contract<PatchCase>({
  name: 'patchify',
  cases: CASES,
  inputs: ({ batch, height, width, channels }) => ({ images: { shape: [batch, height, width, channels] } }),
  run: (ctx, { images }, { patch }) => ({ tokens: patchify(ctx, images!, patch) }),
  reference({ images }, c) {
    const tokens = new Float64Array(images!.length);
    pairs(c, (image, token) => {
      tokens[token] = images![image]!;
    });
    return { tokens };
  },
  differentiable: ['images'],
  reduction: () => 1,
  bench,
});

export const unpatchifyContract = contract<PatchCase>({
  name: 'unpatchify',
  cases: CASES,
  inputs: ({ batch, height, width, channels, patch: p }) => ({
    tokens: { shape: [batch, (height * width) / (p * p), p * p * channels] },
  }),
  run: (ctx, { tokens }, { patch, height }) => ({ images: unpatchify(ctx, tokens!, patch, height) }),
  reference({ tokens }, c) {
    const images = new Float64Array(tokens!.length);
    pairs(c, (image, token) => {
      images[image] = tokens![token]!;
    });
    return { images };
  },
  differentiable: ['tokens'],
  reduction: () => 1,
  bench,
});
