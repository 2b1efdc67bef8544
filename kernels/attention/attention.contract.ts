/** What attention must compute: reference, cases and their cost. */
import { contract } from '../contract.ts';
import { attention } from './attention.ts';

interface Case {
  batch: number;
  tokens: number;
  heads: number;
  head: number;
  scale: 'd' | 'sqrt';
}
const factor = ({ head, scale }: Case) => (scale === 'd' ? 1 / head : 1 / Math.sqrt(head));

export const attentionContract = contract<Case>({
  name: 'attention',
  cases: [
    { batch: 1, tokens: 1, heads: 1, head: 4, scale: 'd' },
    { batch: 2, tokens: 5, heads: 3, head: 12, scale: 'd' },
    { batch: 1, tokens: 17, heads: 2, head: 24, scale: 'sqrt' },
    { batch: 1, tokens: 65, heads: 1, head: 48, scale: 'd' },
    { batch: 1, tokens: 9, heads: 2, head: 64, scale: 'sqrt' },
    { batch: 1, tokens: 33, heads: 1, head: 72, scale: 'sqrt' },
    { batch: 1, tokens: 7, heads: 1, head: 128, scale: 'd' },
    { batch: 1, tokens: 10, heads: 2, head: 5, scale: 'sqrt' },
  ],
  inputs({ batch, tokens, heads, head }) {
    const shape = [batch, tokens, heads * head] as const;
    return { q: { shape: [...shape] }, k: { shape: [...shape] }, v: { shape: [...shape] } };
  },
  run: (ctx, { q, k, v }, c) => ({ y: attention(ctx, q!, k!, v!, { heads: c.heads, scale: factor(c) }) }),
  reference({ q, k, v }, c) {
    const { batch, tokens, heads, head } = c;
    const y = new Float64Array(q!.length);
    const weights = new Float64Array(tokens);
    const width = heads * head;
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        const first = b * tokens * width + h * head;
        for (let i = 0; i < tokens; i++) {
          const row = first + i * width;
          for (let j = 0; j < tokens; j++) {
            const key = first + j * width;
            let s = 0;
            for (let e = 0; e < head; e++) s += q![row + e]! * k![key + e]!;
            weights[j] = s * factor(c);
          }
          const top = Math.max(...weights);
          let total = 0;
          for (let j = 0; j < tokens; j++) {
            weights[j] = Math.exp(weights[j]! - top);
            total += weights[j]!;
          }
          for (let j = 0; j < tokens; j++) {
            const value = first + j * width;
            const weight = weights[j]! / total;
            for (let e = 0; e < head; e++) y[row + e]! += weight * v![value + e]!;
          }
        }
      }
    }
    return { y };
  },
  differentiable: ['q', 'k', 'v'],
  reduction: ({ tokens, head }) => tokens + head,
  bench: {
    cases: [
      { batch: 64, tokens: 49, heads: 4, head: 24, scale: 'd' },
      { batch: 1, tokens: 256, heads: 12, head: 64, scale: 'd' },
    ],
    block: ({ batch, tokens, width, heads }) => [{ batch, tokens, heads, head: width / heads, scale: 'd' }],
    // Forward: q k^T and the weights times v, 2 T^2 D each. Backward: the scores again (kept, they would be T^2 values), dv, the
    // weights' gradients, dq and dk. Reads q, k, v, the result and its gradient; writes dq, dk and dv.
    cost({ batch, tokens, heads, head }) {
      const [product, values] = [2 * batch * heads * tokens ** 2 * head, batch * tokens * heads * head];
      return { flops: 2 * product, bytes: 4 * 4 * values, backward: { flops: 5 * product, bytes: 4 * 8 * values } };
    },
    // Whole heads: (sample, head) pairs do not mix.
    part(c, inputs, pick) {
      const { tokens, heads, head } = c;
      const pairs = pick(4, c.batch * heads);
      const place = (i: number) => {
        const pair = pairs[Math.floor(i / (tokens * head))]!;
        const [sample, h, token] = [Math.floor(pair / heads), pair % heads, Math.floor(i / head) % tokens];
        return ((sample * tokens + token) * heads + h) * head + (i % head);
      };
      const picked = (x: Float64Array) =>
        Float64Array.from({ length: pairs.length * tokens * head }, (_, i) => x[place(i)]!);
      const parts = Object.entries(inputs).map(([name, x]) => [name, picked(x)]);
      return {
        case: { ...c, batch: pairs.length, heads: 1 },
        inputs: Object.fromEntries(parts),
        places: { y: place },
      };
    },
  },
});
