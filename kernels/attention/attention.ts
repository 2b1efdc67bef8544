/** Multi-head self-attention: streaming forward, recomputing backward (attention.backward.ts). */
import type { Context } from '../../engine/context.ts';
import { UsageError } from '../../engine/errors.ts';
import type { Grid } from '../../engine/kernel.ts';
import { fitsMirror } from '../../engine/mirrors.ts';
import { maxOf } from '../../engine/scalar.ts';
import { lastDim, rowLayout, shapeText, type Tensor } from '../../engine/tensor.ts';
import type { Constants } from '../../engine/wgsl.ts';
import { choose, prefersMirrors } from '../family.ts';
import { MAX_HEAD_SIZE } from './head-size.ts';
import { type AttentionVariant, attentions } from './variants.ts';

/** How attention is divided and scaled. */
export interface AttentionOptions {
  heads: number;
  /** Factor on the logits: 1/head size in ODE_t(ODE_l), 1/sqrt(head size) in DiT. */
  scale: number;
}

/** What the backward of attention needs. */
export interface AttentionSaved {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly out: Tensor;
  /** [B, heads, T]: the logarithm of each row's sum of exponentials. */
  readonly lse: Tensor;
  readonly kernel: AttentionVariant['kernel'];
  readonly constants: Constants;
  /** Whether what all rows read is mirrored. */
  readonly mirrors: boolean;
  readonly params: Readonly<Record<string, number>>;
  readonly grid: Grid;
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
  const multiplyAdds = 2 * maxOf(batch) * heads * tokens ** 2 * head;
  const mirrors = prefersMirrors(ctx.engine, multiplyAdds) && vec && [q, k, v].every(fitsMirror);
  const params: Record<string, number> = { tokens, heads, head4, scale };
  for (const [name, { offset, stride }] of Object.entries(layouts)) {
    params[`${name}_first`] = offset / (vec ? 4 : 1);
    params[`${name}_stride`] = stride / (vec ? 4 : 1);
  }
  const grid = [Math.ceil(tokens / rows), heads, batch] as const;
  const out = ctx.empty('attention', q.shape, q.dtype);
  const lse = ctx.empty('attention.lse', [batch, heads, tokens]);
  const tensors = { q, k, v, out, lse_out: lse };
  ctx.dispatch({ kernel, entry: 'forward', constants: { ...constants, MIRROR_KV: mirrors }, tensors, params, grid });
  const saved = { q, k, v, out, lse, kernel, constants, mirrors, params, grid } satisfies AttentionSaved;
  ctx.tape?.add({ name: 'attention', inputs: [q, k, v], outputs: [out], saved });
  return out;
}
