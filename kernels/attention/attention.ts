/** Multi-head self-attention: streaming forward, recomputing backward, reference. */
import type { Context } from '../../engine/context.ts';
import type { Engine } from '../../engine/engine.ts';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel, type Kernel } from '../../engine/kernel.ts';
import type { Scalar } from '../../engine/scalar.ts';
import { lastDim, shapeText, type Tensor } from '../../engine/tensor.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { contract } from '../contract.ts';
import { prefersSubgroups } from '../family.ts';
import halfSource from '../half.wgsl';
import lib from '../lib.wgsl';
import subgroupSource from './attention.subgroup.wgsl';
import source from './attention.wgsl';
import { MAX_HEAD_SIZE } from './head-size.ts';

const general = defineKernel('attention', lib, halfSource, source);
const subgroup = defineKernel('attention.subgroup', subgroupSource, halfSource);

/** How attention is divided and scaled. */
export interface AttentionOptions {
  heads: number;
  /** Factor on the logits: 1/head size in ODE_t(ODE_l), 1/sqrt(head size) in DiT. */
  scale: number;
}

/**
 * softmax(scale * q k^T) v per head. q, k, v, result: [B, T, heads * headSize], f32 or f16, all alike.
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
  if (half && head % 4 !== 0) {
    throw new UsageError(`attention in f16 with heads of ${head}: sizes that are multiples of four are supported`);
  }
  const { kernel, constants: sizes, params, tile } = variant(ctx.engine, tokens, heads, head, scale);
  const constants = { ...sizes, F16: half };
  const grid = [Math.ceil(tokens / tile), heads, batch] as const;
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

/** The kernel for an adapter and a shape; it does not depend on the batch. */
function variant(
  engine: Engine,
  tokens: number,
  heads: number,
  head: number,
  scale: number,
): { kernel: Kernel; constants: Constants; params: Record<string, Scalar>; tile: number } {
  const head4 = Math.ceil(head / 4);
  if (prefersSubgroups(engine) && head % 4 === 0) {
    // Larger heads would fill the cache with four queries' vectors.
    const each = head <= 64 ? 4 : 2;
    return {
      kernel: subgroup,
      constants: { HEAD4: head4, EACH: each },
      params: { tokens, heads, head4, scale },
      tile: 8 * each,
    };
  }
  const tile = tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
  const constants = { WG: tile, HEAD: head, HEAD4: head4, TAIL: head % 4 !== 0 };
  return { kernel: general, constants, params: { tokens, heads, head4, scale }, tile };
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
