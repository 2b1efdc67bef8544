/** Mean squared error over a batch, with the mean of every sample for logs; deterministic. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar, times } from '../engine/scalar.ts';
import { rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import lib from './lib.wgsl';
import source from './mse.wgsl';

const kernel = defineKernel('mse', lib, source);
const WG = 64;
const EACH = 8;

/** Partial sums per sample: as many as terms in each, at most a workgroup's worth. */
const partsOf = (width: number): number => Math.max(1, Math.min(64, Math.ceil(Math.sqrt(width))));

/**
 * loss [1] = mean over samples and elements of (prediction - target)^2, perSample [B] its mean over each sample's elements;
 * prediction and target [B, ...]. The loss is differentiable in the prediction; perSample is not. No samples: loss 0.
 * @throws UsageError when the samples differ in size.
 */
export function mse(ctx: Context, prediction: Tensor, target: Tensor): { perSample: Tensor; loss: Tensor } {
  const [rows, width] = [prediction.shape[0], rowSize(prediction)];
  checkWidth(prediction, target);
  const PARTS = partsOf(width);
  const constants = { WG, PARTS };
  const params = { rows, width, scale: 1 };
  const parts = ctx.empty('mse.parts', [rows, PARTS]);
  const perSample = ctx.empty('mse.samples', [rows]);
  const loss = ctx.empty('mse.loss', [1]);
  ctx.dispatch({
    kernel,
    entry: 'parts',
    constants,
    tensors: { prediction, goal: target, parts_out: parts },
    params,
    grid: ceilDiv(times(rows, PARTS), WG),
  });
  ctx.dispatch({
    kernel,
    entry: 'samples',
    constants,
    tensors: { parts_in: parts, samples_out: perSample },
    params,
    grid: ceilDiv(rows, WG),
  });
  ctx.dispatch({ kernel, entry: 'total', constants, tensors: { samples_in: perSample, loss }, params, grid: 1 });
  ctx.tape?.add({
    name: 'mse',
    inputs: [prediction],
    outputs: [loss],
    backward: (g) => backward(ctx, prediction, target, g.out(0), 1, g.dy(0)),
  });
  return { perSample, loss };
}

/** The gradient of `scale` times the loss by the prediction, to seed a backward pass without computing the loss. */
export function mseSeed(ctx: Context, prediction: Tensor, target: Tensor, scale: Scalar = 1): Tensor {
  checkWidth(prediction, target);
  const seed = ctx.empty('mse.seed', prediction.shape);
  backward(ctx, prediction, target, seed, scale, null);
  return seed;
}

/** Writes scale * (dloss or 1) * 2 (prediction - target) / (B n). */
function backward(
  ctx: Context,
  prediction: Tensor,
  target: Tensor,
  into: Tensor,
  scale: Scalar,
  dloss: Tensor | null,
): void {
  ctx.dispatch({
    kernel,
    entry: 'backward',
    constants: { WG, EACH, UPSTREAM: dloss ? 1 : 0 },
    tensors: { prediction, goal: target, dprediction: into, ...(dloss ? { dloss } : {}) },
    params: { rows: prediction.shape[0], width: rowSize(prediction), scale },
    grid: ceilDiv(sizeOf(prediction), WG * EACH),
  });
}

function checkWidth(prediction: Tensor, target: Tensor): void {
  if (rowSize(prediction) !== rowSize(target)) {
    throw new UsageError(`mse: samples of ${shapeText(prediction)} and ${shapeText(target)} differ in size`);
  }
}

export const mseContract = contract<{ batch: number; width: number }>({
  name: 'mse',
  cases: [
    { batch: 1, width: 1 },
    { batch: 3, width: 70 },
    { batch: 67, width: 5 },
  ],
  inputs: ({ batch, width }) => ({ prediction: { shape: [batch, width] }, target: { shape: [batch, width] } }),
  run: (ctx, { prediction, target }) => ({ loss: mse(ctx, prediction!, target!).loss }),
  reference: ({ prediction, target }) => ({
    loss: Float64Array.of(prediction!.reduce((s, p, i) => s + (p - target![i]!) ** 2, 0) / prediction!.length),
  }),
  differentiable: ['prediction'],
  reduction: ({ batch, width }) => batch * width,
  bench: {
    cases: [{ batch: 64, width: 4096 }],
    // Backward: the difference times a number.
    cost: ({ batch, width }) => ({
      flops: 3 * batch * width,
      bytes: 4 * (2 * batch * width + 1),
      backward: { flops: 2 * batch * width, bytes: 4 * (3 * batch * width + 1) },
    }),
  },
});
