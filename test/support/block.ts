/** One attention block small enough to differentiate numerically, on the GPU and in float64 (composed of the kernels' references). */
import type { Context } from '../../engine/context.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { attentionContract } from '../../kernels/attention/attention.contract.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { chunk } from '../../kernels/chunk.ts';
import { silu } from '../../kernels/elementwise.ts';
import { linearContract } from '../../kernels/matmul/linear.contract.ts';
import { gatedLinear, linear } from '../../kernels/matmul/linear.ts';
import { layernormContract } from '../../kernels/norm/layernorm.contract.ts';
import { layernorm } from '../../kernels/norm/layernorm.ts';
import { normals } from './normals.ts';

export interface BlockSize {
  readonly batch: number;
  readonly tokens: number;
  readonly width: number;
  readonly heads: number;
}

export type Arrays = Record<string, Float64Array>;

/** Dense layers of a block: name, outputs per width. */
const LAYERS = [
  ['mod', 3],
  ['q', 1],
  ['k', 1],
  ['v', 1],
  ['o', 1],
] as const;

/** Shapes of a block's weights, named `<prefix><layer>.kernel` and `.bias`. */
export function blockShapes({ width }: BlockSize, prefix = ''): Record<string, [number, ...number[]]> {
  return Object.fromEntries(
    LAYERS.flatMap(([name, times]) => [
      [`${prefix}${name}.kernel`, [width, times * width]],
      [`${prefix}${name}.bias`, [times * width]],
    ]),
  );
}

/** Numbers that float32 holds, standard normal times `scale`. */
export function randomArrays(shapes: Record<string, [number, ...number[]]>, seed: number, scale = 0.4): Arrays {
  const normal = normals(seed);
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.fround(normal() * scale)),
    ]),
  );
}

/** x + gate * (attention(layernorm(x; shift, scale of c)) W + b); x [B, T, D], c [B, D]. */
export function block(
  ctx: Context,
  x: Tensor,
  c: Tensor,
  w: Record<string, Tensor>,
  { heads, width }: BlockSize,
  prefix = '',
): Tensor {
  const dense = (name: string) => ({ kernel: w[`${prefix}${name}.kernel`]!, bias: w[`${prefix}${name}.bias`]! });
  const [shift, scale, gate] = chunk(ctx, linear(ctx, silu(ctx, c), dense('mod')), 3) as [Tensor, Tensor, Tensor];
  const h = layernorm(ctx, x, shift, scale);
  const [q, k, v] = [linear(ctx, h, dense('q')), linear(ctx, h, dense('k'), 'gelu'), linear(ctx, h, dense('v'))];
  const o = attention(ctx, q, k, v, { heads, scale: 1 / Math.sqrt(width / heads) });
  return gatedLinear(ctx, o, dense('o'), x, gate);
}

/** The same in float64. */
export function blockReference(
  x: Float64Array,
  c: Float64Array,
  w: Arrays,
  size: BlockSize,
  prefix = '',
): Float64Array {
  const { tokens, width, heads } = size;
  const batch = c.length / width;
  const dense = (input: Float64Array, name: string, activation?: 'gelu') => {
    const bias = w[`${prefix}${name}.bias`]!;
    const inputs = { x: input, kernel: w[`${prefix}${name}.kernel`]!, bias };
    return linearContract.reference(inputs, { input: width, output: bias.length, activation }).y!;
  };
  const modulation = dense(
    c.map((v) => v / (1 + Math.exp(-v))),
    'mod',
  );
  const two = Float64Array.from(
    { length: batch * 2 * width },
    (_, i) => modulation[Math.floor(i / (2 * width)) * 3 * width + (i % (2 * width))]!,
  );
  const h = layernormContract.reference({ x, modulation: two }, { batch, tokens, width }).y!;
  const o = attentionContract.reference(
    { q: dense(h, 'q'), k: dense(h, 'k', 'gelu'), v: dense(h, 'v') },
    { batch, tokens, heads, head: width / heads, scale: 'sqrt' },
  ).y!;
  const branch = dense(o, 'o');
  return x.map(
    (v, i) => v + modulation[(Math.floor(i / (tokens * width)) * 3 + 2) * width + (i % width)]! * branch[i]!,
  );
}
