/** Dense layers y = f(x W + b), with activation or gated residual fused into the product; their backward is in linear.backward.ts. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { type Scalar, times } from '../../engine/scalar.ts';
import { type DType, lastDim, rowLayout, rowSize, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { dispatchProduct, type Product } from './matmul.ts';

/** A matrix and a bias. */
export interface LinearWeights {
  /**
   * [in, out], as Flax stores it; or, too large for one binding, blocks of its columns from left to right. Packed (f16, i8) or in blocks
   * it serves inference only: nothing before it gets a gradient.
   */
  readonly kernel: Tensor | readonly Tensor[];
  /** [out]. */
  readonly bias: Tensor;
}

/** What the backward of a dense layer needs. */
export interface LinearSaved {
  readonly x: Tensor;
  readonly kernel: Tensor;
  readonly activation: 'none' | 'gelu' | 'silu';
  /** What the activation was taken of, if there is one. */
  readonly pre: Tensor | undefined;
}

/** What the backward of one with a gated residual needs. */
export interface GatedLinearSaved {
  readonly x: Tensor;
  readonly kernel: Tensor;
  readonly gate: Tensor;
  /** x W + b. */
  readonly branch: Tensor | undefined;
}

/** Rows of x seen as a matrix: all dimensions but the last. */
export const matrixRows = (x: Tensor): Scalar => times(x.shape[0], rowSize(x) / lastDim(x));

/**
 * activation(x W + b). x [..., in], f32 or f16; returns [..., out], stored as `dtype` (default: as x).
 * @throws UsageError when the sizes differ, or a gradient is wanted through weights that are packed or in blocks.
 */
export function linear(
  ctx: Context,
  x: Tensor,
  weights: LinearWeights,
  activation: 'none' | 'gelu' | 'silu' = 'none',
  dtype: DType = x.dtype,
): Tensor {
  const { bias } = weights;
  const { kernel, M, K, shape } = sizes(ctx, x, weights);
  const y = ctx.empty('linear', shape, dtype);
  const saves = activation !== 'none' && (ctx.tape?.needs(x, kernel, bias) ?? false);
  const pre = saves ? ctx.empty('linear.pre', shape) : undefined;
  products(ctx, weights, { M, K, a: x, c: y, bias, pre, epilogue: activation === 'none' ? 'bias' : activation });
  const saved = { x, kernel, activation, pre } satisfies LinearSaved;
  ctx.tape?.add({ name: 'linear', inputs: [x, kernel, bias], outputs: [y], saved });
  return y;
}

/**
 * residual + gate * (x W + b), the end of both halves of a DiT block. x [B, T, in]; gate [B, out], columns of a modulation. The result is
 * stored as the residual is.
 */
export function gatedLinear(ctx: Context, x: Tensor, weights: LinearWeights, residual: Tensor, gate: Tensor): Tensor {
  const { bias } = weights;
  const { kernel, M, K, shape } = sizes(ctx, x, weights);
  const tokens = x.shape[1] ?? 1;
  const { offset, stride } = rowLayout(gate);
  const y = ctx.empty('gated', shape, residual.dtype);
  const branch = ctx.tape?.needs(x, kernel, bias, gate) ? ctx.empty('gated.branch', shape) : undefined;
  products(ctx, weights, {
    ...{ M, K, a: x, c: y, bias, pre: branch },
    epilogue: 'gated',
    gated: { residual, gate, offset, stride, tokens },
  });
  const saved = { x, kernel, gate, branch } satisfies GatedLinearSaved;
  ctx.tape?.add({ name: 'gatedLinear', inputs: [x, kernel, bias, residual, gate], outputs: [y], saved });
  return y;
}

const blocksOf = ({ kernel }: LinearWeights): readonly Tensor[] => ('dtype' in kernel ? [kernel] : kernel);

/** The product with each block of columns, written side by side. */
export function products(
  ctx: Context,
  weights: LinearWeights,
  product: Omit<Product, 'N' | 'b' | 'columns' | 'transposeA'>,
): void {
  const stride = lastDim(weights.bias);
  let first = 0;
  for (const b of blocksOf(weights)) {
    const N = lastDim(b);
    dispatchProduct(ctx, { ...product, N, b, columns: { first, stride } });
    first += N;
  }
}

/** The sizes of a product, and the kernel that gradients may pass: the only block. `sources`: what x is made of, if no tape knows. */
export function sizes(ctx: Context, x: Tensor, weights: LinearWeights, sources: readonly Tensor[] = [x]) {
  const { bias } = weights;
  const blocks = blocksOf(weights);
  const K = lastDim(x);
  const N = blocks.reduce((sum, b) => sum + lastDim(b), 0);
  if (blocks.some((b) => b.shape[0] !== K) || bias.shape[0] !== N) {
    const kernel = blocks.map(shapeText).join(' and ');
    throw new UsageError(`a dense layer of ${kernel} and ${shapeText(bias)} cannot take ${shapeText(x)}`);
  }
  const [kernel] = blocks as [Tensor];
  if (blocks.length > 1 && ctx.tape?.needs(...sources, ...blocks, bias)) {
    throw new UsageError(`no gradient passes '${kernel.label}', which is held in ${blocks.length} blocks of columns`, {
      hint: 'train a smaller model, or on an adapter that binds it whole (maxStorageBufferBindingSize)',
    });
  }
  const shape = [...x.shape.slice(0, -1), N] as unknown as Shape;
  return { kernel, M: matrixRows(x), N, K, shape };
}
