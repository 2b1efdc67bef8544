/** What dense layers must compute: references, cases and their cost. */
import { chunk } from '../chunk.ts';
import { type Arrays, type BlockShape, type Cost, contract, type Part, type Pick } from '../contract.ts';
import { gatedResidual } from './gate.ts';
import { gatedLinear, linear } from './linear.ts';

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
  const rows = x.length / input;
  const y = new Float64Array(rows * output);
  // Columns innermost: along the rows of the matrix, as large ones fit no cache.
  for (let r = 0; r < rows; r++) {
    const row = y.subarray(r * output, (r + 1) * output);
    row.set(bias);
    for (let k = 0; k < input; k++) {
      const value = x[r * input + k]!;
      for (let n = 0; n < output; n++) row[n]! += value * kernel[k * output + n]!;
    }
  }
  return y;
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
