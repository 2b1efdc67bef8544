/** Dense layers y = f(x W + b), with activation or gated residual fused into the product; backward and reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import type { Gradients } from '../../engine/gradients.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, type Scalar, times } from '../../engine/scalar.ts';
import { type DType, lastDim, rowLayout, rowSize, type Shape, shapeText, type Tensor } from '../../engine/tensor.ts';
import { chunk } from '../chunk.ts';
import { type Arrays, type BlockShape, type Cost, contract, type Part, type Pick } from '../contract.ts';
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

export interface DenseCase {
  rows: number;
  tokens: number;
  input: number;
  output: number;
  activation?: 'gelu' | 'silu';
}

const weightInputs = ({ input, output }: DenseCase) => ({
  kernel: { shape: [input, output] as [number, number], fill: (_: number, n: () => number) => n() / Math.sqrt(input) },
  bias: { shape: [output] as [number] },
});

/** x W + b in float64. */
export function product(
  x: Float64Array,
  kernel: Float64Array,
  bias: Float64Array,
  { input, output }: DenseCase,
): Float64Array {
  return Float64Array.from({ length: (x.length / input) * output }, (_, i) => {
    const [r, n] = [Math.floor(i / output), i % output];
    let sum = bias[n]!;
    for (let k = 0; k < input; k++) sum += x[r * input + k]! * kernel[k * output + n]!;
    return sum;
  });
}

export const activations = {
  none: (x: number) => x,
  gelu: (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  silu: (x: number) => x / (1 + Math.exp(-x)),
};

/** The dense layers of a transformer block: q, k, v and out; into and out of the MLP; the modulation, whose rows are samples. */
const denseCases = ({ batch, tokens, width, hidden }: BlockShape): DenseCase[] => [
  { rows: batch, tokens, input: width, output: width },
  { rows: batch, tokens, input: width, output: hidden, activation: 'gelu' },
  { rows: batch, tokens, input: hidden, output: width },
  { rows: batch, tokens: 1, input: width, output: 6 * width },
];

/**
 * y = f(x W + b): 2 M N K. Backward: dx = dz W^T and dW = x^T dz, 2 M N K each. It reads dy, x and W (and z, where an activation
 * follows), and writes dx, dW and db.
 */
const denseCost = ({ rows, tokens, input: K, output: N, activation }: DenseCase): Cost => {
  const M = rows * tokens;
  return {
    flops: 2 * M * N * K,
    bytes: 4 * (M * K + K * N + N + M * N),
    backward: { flops: 4 * M * N * K, bytes: 4 * (2 * M * K + 2 * K * N + N + (activation ? 2 : 1) * M * N) },
  };
};

/** Rows of a matrix of `width` columns, one after another. */
function rowsOf(matrix: Float64Array, width: number, rows: readonly number[]): Float64Array {
  const out = new Float64Array(rows.length * width);
  rows.forEach((row, i) => {
    out.set(matrix.subarray(row * width, (row + 1) * width), i * width);
  });
  return out;
}

/** Rows that are compared of a case that is too large to compare all. */
const PICKED_ROWS = 16;

/** Whole rows: a row's outputs depend on its own inputs and the weights. */
export function densePart(c: DenseCase, inputs: Arrays, pick: Pick): Part<DenseCase> {
  const rows = pick(PICKED_ROWS, c.rows * c.tokens);
  return {
    case: { ...c, rows: rows.length, tokens: 1 },
    inputs: { ...inputs, x: rowsOf(inputs.x!, c.input, rows) },
    places: { y: (i) => rows[Math.floor(i / c.output)]! * c.output + (i % c.output) },
  };
}

export const linearContract = contract<DenseCase>({
  name: 'linear',
  cases: [
    { rows: 1, tokens: 1, input: 1, output: 1 },
    { rows: 1, tokens: 3, input: 4, output: 8, activation: 'silu' },
    { rows: 5, tokens: 7, input: 13, output: 9, activation: 'gelu' },
    { rows: 2, tokens: 33, input: 36, output: 68 },
    { rows: 3, tokens: 17, input: 24, output: 44, activation: 'gelu' },
  ],
  inputs: (c) => ({ x: { shape: [c.rows, c.tokens, c.input] }, ...weightInputs(c) }),
  run: (ctx, { x, kernel, bias }, c) => ({ y: linear(ctx, x!, { kernel: kernel!, bias: bias! }, c.activation) }),
  reference: ({ x, kernel, bias }, c) => ({
    y: product(x!, kernel!, bias!, c).map(activations[c.activation ?? 'none']),
  }),
  differentiable: ['x', 'kernel', 'bias'],
  reduction: ({ rows, tokens, input, output }) => Math.max(input, output, rows * tokens),
  bench: {
    cases: [
      { rows: 64, tokens: 49, input: 96, output: 96 },
      { rows: 64, tokens: 49, input: 96, output: 384, activation: 'gelu' },
      { rows: 1, tokens: 256, input: 768, output: 3072, activation: 'gelu' },
    ],
    block: denseCases,
    cost: denseCost,
    part: densePart,
  },
});

export const gatedResidualContract = contract<{ batch: number; tokens: number; width: number }>({
  name: 'gatedResidual',
  cases: [
    { batch: 3, tokens: 5, width: 37 },
    { batch: 2, tokens: 19, width: 68 },
  ],
  inputs: ({ batch, tokens, width }) => ({
    branch: { shape: [batch, tokens, width] },
    residual: { shape: [batch, tokens, width] },
    gate: { shape: [batch, width] },
  }),
  run: (ctx, { branch, residual, gate }) => ({ y: gatedResidual(ctx, branch!, residual!, gate!) }),
  reference: ({ branch, residual, gate }, { tokens, width }) => ({
    y: branch!.map((v, i) => residual![i]! + gate![Math.floor(i / (tokens * width)) * width + (i % width)]! * v),
  }),
  differentiable: ['branch', 'residual', 'gate'],
  reduction: ({ tokens }) => tokens,
});

export const gatedLinearContract = contract<DenseCase>({
  name: 'gatedLinear',
  cases: [
    { rows: 1, tokens: 1, input: 3, output: 5 },
    { rows: 2, tokens: 9, input: 16, output: 36 },
  ],
  inputs: (c) => ({
    x: { shape: [c.rows, c.tokens, c.input] },
    ...weightInputs(c),
    residual: { shape: [c.rows, c.tokens, c.output] },
    modulation: { shape: [c.rows, 2 * c.output] },
  }),
  run(ctx, { x, kernel, bias, residual, modulation }) {
    const [first, second] = chunk(ctx, modulation!, 2);
    const once = gatedLinear(ctx, x!, { kernel: kernel!, bias: bias! }, residual!, second!);
    return { y: gatedLinear(ctx, x!, { kernel: kernel!, bias: bias! }, once, first!) };
  },
  reference({ x, kernel, bias, residual, modulation }, c) {
    const branch = product(x!, kernel!, bias!, c);
    const y = branch.map((v, i) => {
      const row = Math.floor(i / (c.tokens * c.output)) * 2 * c.output + (i % c.output);
      return residual![i]! + (modulation![row]! + modulation![row + c.output]!) * v;
    });
    return { y };
  },
  differentiable: ['x', 'kernel', 'bias', 'residual', 'modulation'],
  reduction: ({ rows, tokens, input, output }) => Math.max(input, output, rows * tokens),
  bench: {
    cases: [],
    // Out of the MLP. Out of attention it is a quarter of that.
    block: ({ batch, tokens, width, hidden }) => [{ rows: batch, tokens, input: hidden, output: width }],
    // Twice, one after the other: x, W, b, gate and residual in, y out. Backward: dy, x, W, gate and the branch (for the gate's
    // gradient) in; dx, dW, db and the gate's gradient out. The residual's gradient is dy itself.
    cost({ rows, tokens, input: K, output: N }) {
      const M = rows * tokens;
      return {
        flops: 2 * (2 * M * N * K),
        bytes: 2 * 4 * (M * K + K * N + N + rows * N + 2 * M * N),
        backward: {
          flops: 2 * (4 * M * N * K),
          bytes: 2 * 4 * (2 * M * K + 2 * K * N + N + 2 * rows * N + 2 * M * N),
        },
      };
    },
    part(c, inputs, pick) {
      const { case: small, inputs: dense, places } = densePart(c, inputs, pick);
      const rows = Array.from({ length: small.rows }, (_, i) => places.y!(i * c.output) / c.output);
      const samples = rows.map((row) => Math.floor(row / c.tokens));
      const residual = rowsOf(inputs.residual!, c.output, rows);
      const modulation = rowsOf(inputs.modulation!, 2 * c.output, samples);
      return { case: small, inputs: { ...dense, residual, modulation }, places };
    },
  },
});
