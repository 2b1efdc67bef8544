/** The contract of convolutions whose kernel is stored as f16, over words made by a formula. */
import { byteSize } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import { halfFormat } from '../matmul/stored-linear.contracts.ts';
import {
  type ConvolutionCase,
  convolution,
  convolutionContract,
  convolutionInputs,
  convolved,
  optionsOf,
} from './convolution.ts';

/** Its kernel as the matrix of a dense layer. */
const matrix = ({ side, input, output }: ConvolutionCase) => ({ rows: 1, tokens: 1, input: side ** 2 * input, output });

export const convolutionHalfContract = contract<ConvolutionCase>({
  name: 'convolutionHalf',
  cases: [
    { batch: 1, height: 4, width: 5, input: 3, output: 8, side: 3 },
    { batch: 1, height: 5, width: 7, input: 8, output: 3, side: 3 },
    { batch: 2, height: 6, width: 3, input: 12, output: 20, side: 3, fused: 'bias, residual' },
  ],
  inputs: (c) => ({
    ...convolutionInputs(c),
    kernel: {
      shape: [byteSize({ shape: [c.side ** 2 * c.input, c.output], dtype: 'f16' }) / 4],
      dtype: 'u32',
      fill: (i) => halfFormat.word(i, matrix(c)),
    },
  }),
  run(ctx, { x, kernel, bias, residual }, c) {
    const half = { ...kernel!, shape: [c.side ** 2 * c.input, c.output] as const, dtype: 'f16' as const };
    return { y: convolution(ctx, x!, { kernel: half, bias: bias! }, optionsOf(c, residual)) };
  },
  reference: ({ kernel, ...inputs }, c) => ({
    y: convolved({ ...inputs, kernel: halfFormat.values(kernel!, matrix(c)) }, c),
  }),
  differentiable: [],
  reduction: ({ side, input }) => side ** 2 * input,
  bench: {
    cases: [{ batch: 1, height: 32, width: 32, input: 128, output: 128, side: 3 }],
    cost: (c) => {
      const full = convolutionContract.bench!.cost(c);
      return { flops: full.flops, bytes: full.bytes - 2 * c.side ** 2 * c.input * c.output };
    },
  },
});
