/** Cross-entropy of class scores and labels: the loss of classifiers, with that of every sample for logs; deterministic. */
import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, times } from '../engine/scalar.ts';
import { shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './cross-entropy.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('cross-entropy', lib, source);
const WG = 64;
const EACH = 8;

/** Invocations that may share a row of scores. */
export type RowTeam = 1 | 8 | 32;

/** CPU drivers pay for barriers, and a GPU for lanes that read addresses far apart: there, neighbours read neighbours. */
function teamFor({ adapterClass }: Engine, classes: number): RowTeam {
  if (adapterClass !== 'gpu') return 1;
  return classes > 64 ? 32 : 8;
}

/**
 * loss [1] = mean over samples of -log softmax(scores)[label], perSample [B] its terms; scores [B, classes], labels [B] u32. The loss is
 * differentiable in the scores; perSample is not. No samples: loss 0. Labels must be below the number of classes, which only who
 * gives them can see: `checkLabels`. `team`: what shares a row, by default what suits the adapter.
 * @throws UsageError for shapes or types that are no scores and labels
 */
export function crossEntropy(
  ctx: Context,
  scores: Tensor,
  labels: Tensor,
  { team }: { readonly team?: RowTeam } = {},
): { perSample: Tensor; loss: Tensor } {
  const [rows, classes] = scores.shape;
  const fits = scores.shape.length === 2 && labels.shape.length === 1 && labels.shape[0] === rows;
  if (!fits || classes === undefined || labels.dtype !== 'u32') {
    throw new UsageError(
      `cross-entropy of scores ${shapeText(scores)} and labels ${shapeText(labels)} of ${labels.dtype}: they must be [B, classes] and [B] of u32`,
    );
  }
  const TEAM = team ?? teamFor(ctx.engine, classes);
  const params = { rows, classes };
  const perSample = ctx.empty('crossEntropy.samples', [rows]);
  const stats = ctx.empty('crossEntropy.stats', [rows, 2]);
  const loss = ctx.empty('crossEntropy.loss', [1]);
  ctx.dispatch({
    kernel,
    entry: 'forward',
    constants: { WG, TEAM },
    tensors: { scores, labels, samples_out: perSample, stats_out: stats },
    params,
    grid: ceilDiv(times(rows, TEAM), WG),
  });
  const tensors = { samples_in: perSample, loss };
  ctx.dispatch({ kernel, entry: 'total', constants: { WG, TEAM: 1 }, tensors, params, grid: 1 });
  ctx.tape?.add({
    name: 'crossEntropy',
    inputs: [scores],
    outputs: [loss],
    backward(g) {
      ctx.dispatch({
        kernel,
        entry: 'backward',
        constants: { WG, EACH, TEAM: 1 },
        tensors: { scores, labels, stats, dloss: g.dy(0), dscores: g.out(0) },
        params,
        grid: ceilDiv(sizeOf(scores), WG * EACH),
      });
    },
  });
  return { perSample, loss };
}

/** @throws UsageError, naming the first, for labels that are none of `classes` classes */
export function checkLabels(labels: ArrayLike<number>, classes: number): void {
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    if (Number.isInteger(label) && label >= 0 && label < classes) continue;
    throw new UsageError(`label ${i} is ${label}; there are classes 0 to ${classes - 1}`);
  }
}

export const crossEntropyContract = contract<{ batch: number; classes: number; offset?: number; team?: RowTeam }>({
  name: 'crossEntropy',
  cases: [
    { batch: 1, classes: 1 },
    { batch: 3, classes: 10 },
    { batch: 67, classes: 5 },
    { batch: 5, classes: 1000, team: 32 },
    { batch: 9, classes: 70, team: 8 },
    // As exponentials these are infinite; as differences they are like the others.
    { batch: 4, classes: 11, offset: 30_000 },
    { batch: 4, classes: 11, offset: -30_000, team: 8 },
  ],
  inputs: ({ batch, classes, offset = 0 }) => ({
    scores: { shape: [batch, classes], fill: (_, normal) => offset + 3 * normal() },
    labels: { shape: [batch], dtype: 'u32', fill: (i) => (i * 7 + 3) % classes },
  }),
  run: (ctx, { scores, labels }, { team }) => ({ loss: crossEntropy(ctx, scores!, labels!, { team }).loss }),
  reference({ scores, labels }, { batch, classes }) {
    let sum = 0;
    for (let b = 0; b < batch; b++) {
      const row = scores!.subarray(b * classes, (b + 1) * classes);
      const largest = row.reduce((most, x) => Math.max(most, x), Number.NEGATIVE_INFINITY);
      const log = Math.log(row.reduce((s, x) => s + Math.exp(x - largest), 0));
      sum += log + largest - row[labels![b]!]!;
    }
    return { loss: Float64Array.of(sum / batch) };
  },
  differentiable: ['scores'],
  reduction: ({ batch, classes }) => Math.max(batch, classes),
  bench: {
    cases: [{ batch: 256, classes: 1000 }],
    // Per score: compared, taken away, raised, added. Backward: raised again, less one where the label is, times a number.
    cost: ({ batch, classes }) => ({
      flops: 4 * batch * classes,
      bytes: 4 * (batch * classes + batch + 1),
      backward: { flops: 4 * batch * classes, bytes: 4 * (2 * batch * classes + 3 * batch + 1) },
    }),
  },
});
