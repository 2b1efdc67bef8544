/** Multi-head self-attention: streaming forward, recomputing backward, reference. */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import { lastDim, rowLayout, shapeText, type Tensor } from '../../engine/tensor.ts';
import { contract } from '../contract.ts';
import { choose } from '../family.ts';
import { MAX_HEAD_SIZE } from './head-size.ts';
import { attentions } from './variants.ts';

/** How attention is divided and scaled. */
export interface AttentionOptions {
  heads: number;
  /** Factor on the logits: 1/head size in ODE_t(ODE_l), 1/sqrt(head size) in DiT. */
  scale: number;
}

/**
 * softmax(scale * q k^T) v per head. q, k, v, result: [B, T, heads * headSize], f32 or f16, all alike; q, k and v may be chunks of
 * one tensor [B, T, 3 * heads * headSize], which are read in place.
 * @throws UsageError for head sizes outside 1..MAX_HEAD_SIZE, in f16 those that are no multiples of four, or shapes that differ.
 */
export function attention(ctx: Context, q: Tensor, k: Tensor, v: Tensor, { heads, scale }: AttentionOptions): Tensor {
  const [batch, tokens] = q.shape;
  const head = lastDim(q) / heads;
  if (q.shape.length !== 3 || !Number.isInteger(head) || head < 1 || head > MAX_HEAD_SIZE) {
    throw new UsageError(
      `attention over ${shapeText(q)} with ${heads} heads: head sizes 1 to ${MAX_HEAD_SIZE} are supported`,
    );
  }
  const [asked, ...others] = [q, k, v].map((t) => `${shapeText(t)} of ${t.dtype}`);
  if (tokens === undefined || others.some((other) => other !== asked)) {
    throw new UsageError(`attention: q ${asked}, k ${others[0]} and v ${others[1]} must agree`);
  }
  const half = q.dtype === 'f16';
  // Buffers are read as vectors of four where every row of every head starts at one.
  const layouts = { q: rowLayout(q), k: rowLayout(k), v: rowLayout(v) };
  const starts = Object.values(layouts).flatMap(({ offset, stride }) => [offset, stride]);
  const vec = [head, ...starts].every((n) => n % 4 === 0);
  if (half && !vec) {
    throw new UsageError(`attention in f16 with heads of ${head}: sizes that are multiples of four are supported`);
  }
  const {
    kernel,
    constants: sizes,
    rows,
  } = choose(ctx.engine, attentions, {
    ...{ tokens, heads, head, activations: half ? 'f16' : 'f32' },
  });
  const head4 = Math.ceil(head / 4);
  const constants = { ...sizes, HEAD: head, HEAD4: head4, VEC: vec, F16: half };
  const params: Record<string, number> = { tokens, heads, head4, scale };
  for (const [name, { offset, stride }] of Object.entries(layouts)) {
    params[`${name}_first`] = offset / (vec ? 4 : 1);
    params[`${name}_stride`] = stride / (vec ? 4 : 1);
  }
  const grid = [Math.ceil(tokens / rows), heads, batch] as const;
  const out = ctx.empty('attention', q.shape, q.dtype);
  const perQuery: [number, number] = [heads, tokens];
  const lse = ctx.empty('attention.lse', [batch, ...perQuery]);
  ctx.dispatch({ kernel, entry: 'forward', constants, tensors: { q, k, v, out, lse_out: lse }, params, grid });
  ctx.tape?.add({
    name: 'attention',
    inputs: [q, k, v],
    outputs: [out],
    backward(g) {
      const dout = g.dy(0);
      const delta = ctx.empty('attention.delta', [batch, ...perQuery]);
      ctx.dispatch({
        kernel,
        entry: 'backward_q',
        constants,
        tensors: { q, k, v, o: out, lse, dout, dq: g.out(0), delta_out: delta },
        params,
        grid,
      });
      ctx.dispatch({
        kernel,
        entry: 'backward_kv',
        constants,
        tensors: { q, k, v, lse, dout, delta, dk: g.out(1), dv: g.out(2) },
        params,
        grid,
      });
    },
  });
  return out;
}

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
    const at = (b: number, t: number, h: number) => ((b * tokens + t) * heads + h) * head;
    for (let b = 0; b < batch; b++) {
      for (let h = 0; h < heads; h++) {
        for (let i = 0; i < tokens; i++) {
          const scores = Array.from({ length: tokens }, (_, j) => {
            let s = 0;
            for (let e = 0; e < head; e++) s += q![at(b, i, h) + e]! * k![at(b, j, h) + e]!;
            return s * factor(c);
          });
          const top = Math.max(...scores);
          const weights = scores.map((s) => Math.exp(s - top));
          const total = weights.reduce((s, w) => s + w, 0);
          for (let j = 0; j < tokens; j++) {
            for (let e = 0; e < head; e++) y[at(b, i, h) + e]! += (weights[j]! / total) * v![at(b, j, h) + e]!;
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
