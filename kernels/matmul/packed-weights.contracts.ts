/** Contracts of dense layers whose matrix is stored packed (f16, i8; engine/tensor.ts), over words made by a formula. */
import { byteSize } from '../../engine/tensor.ts';
import { type Contract, contract } from '../contract.ts';
import { activations, type DenseCase, densePart, product } from './linear.contract.ts';
import { linear } from './linear.ts';

/** `word(i, size)`: word i of a packed matrix; `values`: what it holds, in float64. */
export interface Format {
  readonly dtype: 'f16' | 'i8';
  readonly word: (i: number, c: DenseCase) => number;
  readonly values: (words: Float64Array, c: DenseCase) => Float64Array;
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

export const halfFormat: Format = {
  dtype: 'f16',
  // Exponents 10 and 11 keep magnitudes between 1/32 and 1/8.
  word: (i) => ((scramble(i) & 0x87ff87ff) | 0x28002800) >>> 0,
  values: (words, { input, output }) =>
    Float64Array.from({ length: input * output }, (_, i) => {
      return halfValue(i % 2 === 0 ? words[i >> 1]! % 65536 : Math.floor(words[i >> 1]! / 65536));
    }),
};

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

const packedContract = (name: string, { dtype, word, values }: Format): Contract =>
  contract<DenseCase>({
    name,
    cases: [
      { rows: 1, tokens: 1, input: 1, output: 1 },
      { rows: 1, tokens: 3, input: 4, output: 8, activation: 'silu' },
      { rows: 5, tokens: 7, input: 13, output: 9, activation: 'gelu' },
      { rows: 2, tokens: 33, input: 36, output: 68 },
    ],
    inputs: ({ rows, tokens, input, output }) => ({
      x: { shape: [rows, tokens, input] },
      kernel: {
        shape: [byteSize({ shape: [input, output], dtype }) / 4],
        dtype: 'u32',
        fill: (i) => word(i, { rows, tokens, input, output }),
      },
      bias: { shape: [output] },
    }),
    run(ctx, { x, kernel, bias }, { input, output, activation }) {
      const matrix = { ...kernel!, shape: [input, output] as const, dtype };
      return { y: linear(ctx, x!, { kernel: matrix, bias: bias! }, activation) };
    },
    reference: ({ x, kernel, bias }, c) => ({
      y: product(x!, values(kernel!, c), bias!, c).map(activations[c.activation ?? 'none']),
    }),
    differentiable: [],
    reduction: ({ input }) => input,
    bench: {
      cases: [{ rows: 1, tokens: 256, input: 768, output: 3072, activation: 'gelu' }],
      block: ({ batch, tokens, width, hidden }) => [
        { rows: batch, tokens, input: width, output: hidden, activation: 'gelu' },
        { rows: batch, tokens, input: hidden, output: width },
      ],
      cost: ({ rows, tokens, input, output }) => ({
        flops: 2 * rows * tokens * input * output,
        bytes: 4 * (rows * tokens * (input + output) + output) + byteSize({ shape: [input, output], dtype }),
      }),
      part: densePart,
    },
  });

export const linearHalfContract = packedContract('linearHalf', halfFormat);
export const linearInt8Contract = packedContract('linearInt8', int8);
