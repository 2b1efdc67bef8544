/** What the gated MLP must compute: reference and cases. */
import type { Tensor } from '../../engine/tensor.ts';
import { chunk } from '../chunk.ts';
import { contract } from '../contract.ts';
import { activations, product } from './linear.contract.ts';
import { gatedMlp } from './mlp.ts';

export const gatedMlpContract = contract<{ batch: number; tokens: number; width: number; hidden: number }>({
  name: 'gatedMlp',
  cases: [
    { batch: 2, tokens: 9, width: 12, hidden: 36 },
    { batch: 3, tokens: 1, width: 5, hidden: 7 },
  ],
  inputs: ({ batch, tokens, width, hidden }) => ({
    x: { shape: [batch, tokens, width] },
    kernel1: { shape: [width, hidden], fill: (_, n) => n() / Math.sqrt(width) },
    bias1: { shape: [hidden] },
    kernel2: { shape: [hidden, width], fill: (_, n) => n() / Math.sqrt(hidden) },
    bias2: { shape: [width] },
    residual: { shape: [batch, tokens, width] },
    modulation: { shape: [batch, 2 * width] },
  }),
  run(ctx, { x, kernel1, bias1, kernel2, bias2, residual, modulation }) {
    const weights = { hidden: { kernel: kernel1!, bias: bias1! }, output: { kernel: kernel2!, bias: bias2! } };
    const [first, second] = chunk(ctx, modulation!, 2) as [Tensor, Tensor];
    const once = gatedMlp(ctx, x!, weights, residual!, second);
    return { y: gatedMlp(ctx, x!, weights, once, first) };
  },
  reference({ x, kernel1, bias1, kernel2, bias2, residual, modulation }, { batch, tokens, width, hidden }) {
    const rows = batch * tokens;
    const h = product(x!, kernel1!, bias1!, { rows, tokens: 1, input: width, output: hidden }).map(activations.gelu);
    const branch = product(h, kernel2!, bias2!, { rows, tokens: 1, input: hidden, output: width });
    const y = branch.map((v, i) => {
      const at = Math.floor(i / (tokens * width)) * 2 * width + (i % width);
      return residual![i]! + (modulation![at]! + modulation![at + width]!) * v;
    });
    return { y };
  },
  differentiable: ['x', 'kernel1', 'bias1', 'kernel2', 'bias2', 'residual', 'modulation'],
  reduction: ({ batch, tokens, width, hidden }) => Math.max(2 * width, hidden, batch * tokens),
});
