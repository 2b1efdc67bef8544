/** Dense layers y = f(x W + b), with activation or gated residual fused into the product; and their backward. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import type { Gradients } from '../../engine/gradients.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, type Scalar, times } from '../../engine/scalar.ts';
import { type DType, lastDim, rowLayout, rowSize, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { geluBackward, siluBackward } from '../elementwise.ts';
import { choose } from '../family.ts';
import lib from '../lib.wgsl';
import { columnSum } from '../reduce.ts';
import { tokenSums } from '../token-sums.ts';
import tokenSumSource from '../token-sums.wgsl';
import gateSource from './gate.wgsl';
import { matmul, type Product } from './matmul.ts';

const gateKernel = defineKernel('gate', tokenSumSource, gateSource, lib);

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
  ctx.tape?.add({
    name: 'linear',
    inputs: [x, kernel, bias],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      const dz =
        activation === 'gelu' ? geluBackward(ctx, pre!, dy) : activation === 'silu' ? siluBackward(ctx, pre!, dy) : dy;
      if (g.needs(0)) inputGradient(ctx, g, dz, kernel);
      weightGradients(ctx, g, 1, x, dz);
    },
  });
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
  ctx.tape?.add({
    name: 'gatedLinear',
    inputs: [x, kernel, bias, residual, gate],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      const dbranch = ctx.empty('d(branch)', shape);
      gateBackward(ctx, dy, branch!, gate, dbranch, g.needs(4) ? g.out(4) : ctx.empty('d(gate)', gate.shape));
      g.give(3, dy);
      if (g.needs(0)) inputGradient(ctx, g, dbranch, kernel);
      weightGradients(ctx, g, 1, x, dbranch);
    },
  });
  return y;
}

/** residual + gate * branch where something (dropout) stands between the dense layer and the gate. Shapes as gatedLinear's. */
export function gatedResidual(ctx: Context, branch: Tensor, residual: Tensor, gate: Tensor): Tensor {
  const y = ctx.empty('gated', branch.shape);
  gateDispatch(ctx, 'forward', branch, gate, { branch, gate, residual, y });
  ctx.tape?.add({
    name: 'gatedResidual',
    inputs: [branch, residual, gate],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      g.give(1, dy);
      const dbranch = g.needs(0) ? g.out(0) : ctx.empty('d(branch)', branch.shape);
      gateBackward(ctx, dy, branch, gate, dbranch, g.needs(2) ? g.out(2) : ctx.empty('d(gate)', gate.shape));
    },
  });
  return y;
}

/** dbranch = gate dy, dgate = sums of dy branch over tokens. */
export function gateBackward(
  ctx: Context,
  dy: Tensor,
  branch: Tensor,
  gate: Tensor,
  dbranch: Tensor,
  dgate: Tensor,
): void {
  gateDispatch(ctx, 'backward', branch, gate, { dy, branch, gate, dbranch, dgate });
}

function gateDispatch(
  ctx: Context,
  entry: string,
  branch: Tensor,
  gate: Tensor,
  tensors: Record<string, Tensor>,
): void {
  const [batch, tokens = 1] = branch.shape;
  const width = lastDim(branch);
  const { offset, stride } = rowLayout(gate);
  const vec = [width, offset, stride].every((n) => n % 4 === 0);
  const { constants, channels } = choose(ctx.engine, tokenSums, { vec, width, tokens });
  ctx.dispatch({
    kernel: gateKernel,
    entry,
    constants,
    tensors,
    params: { samples: batch, tokens, width, offset, stride },
    grid: ceilDiv(times(batch, width), channels),
  });
}

const blocksOf = ({ kernel }: LinearWeights): readonly Tensor[] => ('dtype' in kernel ? [kernel] : kernel);

/** The product with each block of columns, written side by side. */
export function products(ctx: Context, weights: LinearWeights, product: Omit<Product, 'N' | 'b' | 'columns'>): void {
  const stride = lastDim(weights.bias);
  let first = 0;
  for (const b of blocksOf(weights)) {
    const N = lastDim(b);
    matmul(ctx, { ...product, N, b, columns: { first, stride } });
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

/** dx = dz W^T for input 0 of an operation, added to what is known of it: keys, queries and values have one input. */
export function inputGradient(ctx: Context, g: Gradients, dz: Tensor, kernel: Tensor): void {
  const { out, earlier } = g.onto(0);
  const sizes = { M: matrixRows(dz), N: kernel.shape[0] as number, K: lastDim(dz) };
  const sum = earlier ? { epilogue: 'plus' as const, plus: earlier } : {};
  matmul(ctx, { ...sizes, a: dz, b: kernel, c: out, transposeB: true, ...sum });
}

/** dW = x^T dz and db = sum of dz over rows, for the inputs `at` (kernel) and `at + 1` (bias) of an operation. */
export function weightGradients(ctx: Context, g: Gradients, at: number, x: Tensor, dz: Tensor): void {
  const sizes = { M: lastDim(x), N: lastDim(dz), K: matrixRows(x) };
  if (g.needs(at)) matmul(ctx, { ...sizes, a: x, b: dz, c: g.out(at), transposeA: true });
  if (g.needs(at + 1)) columnSum(ctx, dz, g.out(at + 1));
}
