/**
 * The layers that autoencoders of latents consist of, as data: which parameters each has, under diffusers' names, and what it records.
 * Networks are lists of them (kl.ts, tiny.ts). Pictures and latents are [1, H, W, C]: one at a time.
 */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { add } from '../../kernels/add.ts';
import { affine, softClamp } from '../../kernels/affine.ts';
import { wideAttention } from '../../kernels/attention/wide.ts';
import { type ConvolutionOptions, convolution } from '../../kernels/conv/convolution.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { groupnorm } from '../../kernels/norm/groupnorm.ts';

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
export type Parameters = (name: string) => Tensor;

/** Records a layer of x [1, H, W, C]. */
export function runLayer(ctx: Context, layer: Layer, x: Tensor, get: Parameters): Tensor {
  const convolve = (input: Tensor, name: string, options: ConvolutionOptions = {}, bias = true): Tensor =>
    convolution(ctx, input, { kernel: get(`${name}.weight`), ...(bias && { bias: get(`${name}.bias`) }) }, options);
  const norm = (input: Tensor, name: string, groups: number, activation: 'none' | 'silu' | 'relu', eps = EPS) =>
    groupnorm(ctx, input, { gain: get(`${name}.weight`), bias: get(`${name}.bias`) }, { groups, eps, activation });
  switch (layer.kind) {
    case 'convolution': {
      const { name, bias = true, stride = 1, padding = 'same', upsample = false, activation = 'none' } = layer;
      return convolve(x, name, { stride, padding, upsample, activation }, bias);
    }
    case 'residual': {
      const { name, input, output, groups } = layer;
      const h = convolve(norm(x, `${name}.norm1`, groups, 'silu'), `${name}.conv1`);
      const normal = norm(h, `${name}.norm2`, groups, 'silu');
      const residual = input === output ? x : convolve(x, `${name}.conv_shortcut`);
      return convolve(normal, `${name}.conv2`, { residual });
    }
    case 'attention': {
      const { name, channels, groups } = layer;
      const [, height = 1, width = 1] = x.shape;
      const normal = norm(x, `${name}.group_norm`, groups, 'none');
      const rows = ctx.reshape(normal, [1, height * width, channels]);
      const dense = (of: Tensor, part: string) =>
        linear(ctx, of, { kernel: get(`${name}.${part}.weight`), bias: get(`${name}.${part}.bias`) });
      const [q, k, v] = ['to_q', 'to_k', 'to_v'].map((part) => dense(rows, part)) as [Tensor, Tensor, Tensor];
      const out = dense(wideAttention(ctx, q, k, v, 1 / Math.sqrt(channels)), 'to_out.0');
      return add(ctx, x, ctx.reshape(out, x.shape));
    }
    case 'norm':
      return norm(x, layer.name, layer.groups, 'silu');
    case 'block': {
      const { name, pool } = layer;
      let from = x;
      if (pool > 0) {
        const pooled = norm(convolve(x, `${name}.pool.0`, {}, false), `${name}.pool.1`, POOL_GROUPS, 'relu', POOL_EPS);
        from = convolve(pooled, `${name}.pool.3`, { residual: x }, false);
      }
      const relu = { activation: 'relu' } as const;
      const h = convolve(convolve(from, `${name}.conv.0`, relu), `${name}.conv.2`, relu);
      return convolve(h, `${name}.conv.4`, { ...relu, residual: from });
    }
    case 'range':
      return affine(ctx, x, layer.scale, layer.shift);
    case 'clamp':
      return softClamp(ctx, x, layer.limit);
  }
}
