/** Contracts of dense layers whose matrix, activations or both are stored packed (engine/tensor.ts), over words made by a formula. */
import { byteSize, type Shape } from '../../engine/tensor.ts';
import { type BlockShape, type Contract, contract, type InputSpec } from '../contract.ts';
import { HALF_SLACK } from '../half-activations.contracts.ts';
import { activations, type DenseCase, densePart, product } from './linear.contract.ts';
import { linear } from './linear.ts';

type Size = Pick<DenseCase, 'input' | 'output'>;

/** `word(i, size)`: word i of a packed matrix; `values`: what it holds, in float64. */
export interface Format {
  readonly dtype: 'f32' | 'f16' | 'i8';
  readonly word: (i: number, size: Size) => number;
  readonly values: (words: Float64Array, size: Size) => Float64Array;
}

/** 32 bits without pattern, from the multiplier of Fibonacci hashing. */
const scramble = (i: number): number => {
  const x = Math.imul(i + 1, 0x9e3779b1);
  return (x ^ (x >>> 15)) >>> 0;
};

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!;

/** IEEE 754 binary16, without infinities. */
function halfValue(bits: number): number {
  const [exponent, fraction] = [(bits >>> 10) & 31, bits & 1023];
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits >= 0x8000 ? -magnitude : magnitude;
}

/** By their bits; made when first asked for. */
let valueOfHalf: Float64Array | undefined;

/** `exponent`: the lesser of the two that numbers have, as words hold it. */
const halvesOf = (exponent: number): Format => ({
  dtype: 'f16',
  word: (i) => ((scramble(i) & 0x87ff87ff) | exponent) >>> 0,
  values(words, { input, output }) {
    const bits = new Uint16Array(Uint32Array.from(words).buffer);
    valueOfHalf ??= Float64Array.from({ length: 65536 }, (_, half) => halfValue(half));
    const values = new Float64Array(input * output);
    for (let i = 0; i < values.length; i++) values[i] = valueOfHalf[bits[i]!]!;
    return values;
  },
});

/** Weights, magnitudes from 1/32 to 1/8; and activations, from 1/2 to 2, so that sums are as large as biases. */
export const halfFormat = halvesOf(0x28002800);
const halfActivations = halvesOf(0x38003800);

const int8: Format = {
  dtype: 'i8',
  word(i, { input, output }) {
    const column = i - Math.ceil((input * output) / 4);
    return column < 0 ? scramble(i) : floatBits(1e-3 * (1 + (column % 7) / 10));
  },
  values(words, { input, output }) {
    const { buffer } = Uint32Array.from(words);
    const bytes = new Int8Array(buffer);
    const scales = new Float32Array(buffer, Math.ceil((input * output) / 4) * 4);
    return Float64Array.from({ length: input * output }, (_, i) => bytes[i]! * scales[i % output]!);
  },
};

/** Floats that halves hold, too. */
const plain: Format = {
  dtype: 'f32',
  word: (i) => halfValue(halfFormat.word(i, { input: 1, output: 1 }) >>> 16),
  values: (words) => words,
};

/** A matrix as an input: f32 by itself, else its words. */
const stored = ({ dtype, word }: Format, size: Size, first = 0): InputSpec => ({
  shape: [byteSize({ shape: [size.input, size.output], dtype }) / 4],
  ...(dtype === 'f32' ? {} : { dtype: 'u32' }),
  fill: (i) => word(first + i, size),
});

/** Rows of x, seen as a matrix. */
const sizeOfX = ({ rows, tokens, input }: DenseCase): Size => ({ input: rows * tokens, output: input });

const storedContract = (name: string, format: Format, activationsFormat: Format = plain): Contract => {
  const halves = activationsFormat.dtype === 'f16';
  return contract<DenseCase>({
    name,
    cases: (
      [
        { rows: 1, tokens: 1, input: 1, output: 1 },
        { rows: 3, tokens: 1, input: 12, output: 40 },
        { rows: 1, tokens: 3, input: 4, output: 8, activation: 'silu' },
        { rows: 5, tokens: 7, input: 13, output: 9, activation: 'gelu' },
        { rows: 2, tokens: 33, input: 36, output: 68 },
        { rows: 3, tokens: 17, input: 24, output: 44, activation: 'gelu' },
      ] satisfies DenseCase[]
    ).filter(({ input, output }) => !halves || (input % 4 === 0 && output % 4 === 0)),
    inputs: (c) => ({
      x: halves ? stored(activationsFormat, sizeOfX(c), 1 << 20) : { shape: [c.rows, c.tokens, c.input] },
      kernel: stored(format, c),
      bias: { shape: [c.output] },
    }),
    run(ctx, { x, kernel, bias }, { rows, tokens, input, output, activation }) {
      const matrix = { ...kernel!, shape: [input, output] as const, dtype: format.dtype };
      const shape: Shape = tokens === 1 ? [rows, input] : [rows, tokens, input];
      const from = { ...x!, shape, dtype: activationsFormat.dtype };
      return { y: linear(ctx, from, { kernel: matrix, bias: bias! }, activation) };
    },
    reference: ({ x, kernel, bias }, c) => ({
      y: product(activationsFormat.values(x!, sizeOfX(c)), format.values(kernel!, c), bias!, c).map(
        activations[c.activation ?? 'none'],
      ),
    }),
    differentiable: [],
    reduction: ({ input }) => input,
    ...(halves ? { slack: HALF_SLACK } : {}),
    bench: {
      ...(halves
        ? { cases: [], ...(format.dtype === 'f16' ? { square } : {}) }
        : { cases: [{ rows: 1, tokens: 256, input: 768, output: 3072, activation: 'gelu' }], block: mlpCases }),
      cost: ({ rows, tokens, input, output }) => ({
        flops: 2 * rows * tokens * input * output,
        bytes:
          byteSize({ shape: [rows * tokens, input + output], dtype: activationsFormat.dtype }) +
          4 * output +
          byteSize({ shape: [input, output], dtype: format.dtype }),
      }),
      part(c, inputs, pick) {
        const words = halves ? c.input / 2 : c.input; // of a row of x
        const part = densePart({ ...c, input: words }, inputs, pick);
        return { ...part, case: { ...part.case, input: c.input } };
      },
    },
  });
};

const mlpCases = ({ batch, tokens, width, hidden }: BlockShape): DenseCase[] => [
  { rows: batch, tokens, input: width, output: hidden, activation: 'gelu' },
  { rows: batch, tokens, input: hidden, output: width },
];

/** Halves by halves: what matrix units are for. */
const square = (side: number): DenseCase[] => [{ rows: 1, tokens: side, input: side, output: side }];

/** By how the matrix is stored, then by how activations are; none where both are f32. */
export const storedLinear: Readonly<Record<Format['dtype'], { readonly f32?: Contract; readonly f16: Contract }>> = {
  f32: { f16: storedContract('linearF16', plain, halfActivations) },
  f16: {
    f32: storedContract('linearHalf', halfFormat),
    f16: storedContract('linearHalfF16', halfFormat, halfActivations),
  },
  i8: { f32: storedContract('linearInt8', int8), f16: storedContract('linearInt8F16', int8, halfActivations) },
};
