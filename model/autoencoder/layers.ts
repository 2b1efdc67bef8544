/**
 * The layers that autoencoders of latents consist of, as data: which parameters each has, under diffusers' names, and what it records.
 * Networks are lists of them (kl.ts, tiny.ts). Pictures and latents go through one at a time.
 */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { add } from '../../kernels/add.ts';
import { affine, softClamp } from '../../kernels/affine.ts';
import { wideAttention } from '../../kernels/attention/wide.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { convolved, inOneBand, mapped, normed, type Rows, type Stored, store, whole } from './bands.ts';

/** A convolution, of a picture that may be enlarged first. */
export interface ConvolutionLayer {
  readonly kind: 'convolution';
  readonly name: string;
  readonly input: number;
  readonly output: number;
  readonly side: 1 | 3;
  /** Default true. */
  readonly bias?: boolean;
  readonly stride?: 2;
  readonly padding?: 'end';
  readonly upsample?: true;
  readonly activation?: 'relu';
}

/** One step of an encoder or a decoder. */
export type Layer =
  | ConvolutionLayer
  /** x + conv2(silu(norm2(conv1(silu(norm1(x)))))), x through a shortcut where the channels change. */
  | {
      readonly kind: 'residual';
      readonly name: string;
      readonly input: number;
      readonly output: number;
      readonly groups: number;
    }
  /** x + out(attention(norm(x))), one head over all channels. */
  | { readonly kind: 'attention'; readonly name: string; readonly channels: number; readonly groups: number }
  /** Group norm and SiLU. */
  | { readonly kind: 'norm'; readonly name: string; readonly channels: number; readonly groups: number }
  /** TAESD's block: relu(x + three convolutions), before which `pool` channels of group norm may have been added to x. */
  | { readonly kind: 'block'; readonly name: string; readonly channels: number; readonly pool: number }
  /** scale * x + shift. */
  | { readonly kind: 'range'; readonly scale: number; readonly shift: number }
  /** limit * tanh(x / limit). */
  | { readonly kind: 'clamp'; readonly limit: number };

/** A parameter of a layer; kernels are [side * side * input, output], and [side, side, input, output] as they are stored. */
export interface LayerParam {
  /** diffusers' name. */
  readonly name: string;
  readonly shape: readonly number[];
}

/** The parameters of AutoencoderKL's norms, and of taef2's pooling branch: they differ. */
const EPS = 1e-6;
const POOL_EPS = 1e-5;
/** Groups of the pooling branch. */
const POOL_GROUPS = 4;

const convolutionParams = ({
  name,
  input,
  output,
  side,
  bias = true,
}: Omit<ConvolutionLayer, 'kind'>): LayerParam[] => [
  { name: `${name}.weight`, shape: [side, side, input, output] },
  ...(bias ? [{ name: `${name}.bias`, shape: [output] }] : []),
];

const normParams = (name: string, channels: number): LayerParam[] => [
  { name: `${name}.weight`, shape: [channels] },
  { name: `${name}.bias`, shape: [channels] },
];

const denseParams = (name: string, channels: number): LayerParam[] => [
  { name: `${name}.weight`, shape: [channels, channels] },
  { name: `${name}.bias`, shape: [channels] },
];

/** The parameters of a layer, in the order in which it uses them. */
export function layerParams(layer: Layer): LayerParam[] {
  switch (layer.kind) {
    case 'convolution':
      return convolutionParams(layer);
    case 'residual': {
      const { name, input, output } = layer;
      return [
        ...normParams(`${name}.norm1`, input),
        ...convolutionParams({ name: `${name}.conv1`, input, output, side: 3 }),
        ...normParams(`${name}.norm2`, output),
        ...convolutionParams({ name: `${name}.conv2`, input: output, output, side: 3 }),
        ...(input === output ? [] : convolutionParams({ name: `${name}.conv_shortcut`, input, output, side: 1 })),
      ];
    }
    case 'attention': {
      const { name, channels } = layer;
      const dense = ['to_q', 'to_k', 'to_v', 'to_out.0'].flatMap((part) => denseParams(`${name}.${part}`, channels));
      return [...normParams(`${name}.group_norm`, channels), ...dense];
    }
    case 'norm':
      return normParams(layer.name, layer.channels);
    case 'block': {
      const { name, channels, pool } = layer;
      const three = [0, 2, 4].flatMap((i) =>
        convolutionParams({ name: `${name}.conv.${i}`, input: channels, output: channels, side: 3 }),
      );
      if (pool === 0) return three;
      return [
        ...convolutionParams({ name: `${name}.pool.0`, input: channels, output: pool, side: 1, bias: false }),
        ...normParams(`${name}.pool.1`, pool),
        ...convolutionParams({ name: `${name}.pool.3`, input: pool, output: channels, side: 1, bias: false }),
        ...three,
      ];
    }
    case 'range':
    case 'clamp':
      return [];
  }
}

/** A parameter on the GPU, by diffusers' name. */
export type Weighted = (name: string) => Tensor;

/** Records a layer, in bands of about `pixels` pixels of its results each. */
export function runLayer(ctx: Context, layer: Layer, x: Stored, get: Weighted, pixels: number): Stored {
  type Options = Parameters<typeof convolved>[3];
  const convolve = (input: Rows, name: string, options: Options = {}, bias = true): Rows =>
    convolved(ctx, input, { kernel: get(`${name}.weight`), ...(bias && { bias: get(`${name}.bias`) }) }, options);
  const norm = (input: Stored, name: string, groups: number, activation: 'none' | 'silu' | 'relu', eps = EPS) =>
    normed(ctx, input, { gain: get(`${name}.weight`), bias: get(`${name}.bias`) }, { groups, eps, activation });
  const keep = (made: Rows): Stored => store(ctx, pixels, made)[0];
  switch (layer.kind) {
    case 'convolution': {
      const { name, bias = true, stride = 1, padding = 'same', upsample = false, activation = 'none' } = layer;
      return keep(convolve(x, name, { stride, padding, upsample, activation }, bias));
    }
    case 'residual': {
      const { name, input, output, groups } = layer;
      const first = convolve(norm(x, `${name}.norm1`, groups, 'silu'), `${name}.conv1`);
      // x is wanted no longer when both are made.
      const [h, residual] =
        input === output ? [keep(first), x] : store(ctx, pixels, first, convolve(x, `${name}.conv_shortcut`));
      return keep(convolve(norm(h, `${name}.norm2`, groups, 'silu'), `${name}.conv2`, { residual }));
    }
    case 'attention': {
      const { name, channels, groups } = layer;
      const rows = ctx.reshape(whole(norm(x, `${name}.group_norm`, groups, 'none')), [1, x.height * x.width, channels]);
      const dense = (of: Tensor, part: string) =>
        linear(ctx, of, { kernel: get(`${name}.${part}.weight`), bias: get(`${name}.${part}.bias`) });
      const [q, k, v] = ['to_q', 'to_k', 'to_v'].map((part) => dense(rows, part)) as [Tensor, Tensor, Tensor];
      const out = dense(wideAttention(ctx, q, k, v, 1 / Math.sqrt(channels)), 'to_out.0');
      const before = whole(x);
      return inOneBand(ctx, add(ctx, before, ctx.reshape(out, before.shape)));
    }
    case 'norm':
      return keep(norm(x, layer.name, layer.groups, 'silu'));
    case 'block': {
      const { name, pool } = layer;
      let from = x;
      if (pool > 0) {
        const wide = keep(convolve(x, `${name}.pool.0`, {}, false));
        const pooled = norm(wide, `${name}.pool.1`, POOL_GROUPS, 'relu', POOL_EPS);
        from = keep(convolve(pooled, `${name}.pool.3`, { residual: x }, false));
      }
      const relu = { activation: 'relu' } as const;
      const h = convolve(convolve(from, `${name}.conv.0`, relu), `${name}.conv.2`, relu);
      return keep(convolve(h, `${name}.conv.4`, { ...relu, residual: from }));
    }
    case 'range':
      return keep(mapped(x, (rows) => affine(ctx, rows, layer.scale, layer.shift)));
    case 'clamp':
      return keep(mapped(x, (rows) => softClamp(ctx, rows, layer.limit)));
  }
}
