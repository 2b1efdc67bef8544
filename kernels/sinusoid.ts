/** Sinusoidal features of a scalar per sample, the input of the time and step embeddings. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, times } from '../engine/scalar.ts';
import { shapeText, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import lib from './lib.wgsl';
import precise from './precise.wgsl';
import source from './sinusoid.wgsl';

const kernel = defineKernel('sinusoid', lib, precise, source);
const WG = 64;
const HALF = 128;

/** Width of the features. */
export const SINUSOID_WIDTH = 2 * HALF;

/**
 * Features [B, 256] of `scale` times values [B] (a time in [0, 1] or a step level): cosines, then sines, at frequencies
 * 10000^(-i / 128) (Vaswani et al. 2017). Not differentiable.
 * @throws UsageError when values is not one-dimensional.
 */
export function sinusoid(ctx: Context, values: Tensor, scale = 1): Tensor {
  if (values.shape.length !== 1) throw new UsageError(`sinusoid takes one value per sample, not ${shapeText(values)}`);
  const rows = values.shape[0];
  const features = ctx.empty('sinusoid', [rows, SINUSOID_WIDTH]);
  ctx.dispatch({
    kernel,
    entry: 'forward',
    constants: { WG, HALF },
    tensors: { values, features },
    params: { rows, scale },
    grid: ceilDiv(times(rows, HALF), WG),
  });
  return features;
}

export const sinusoidContract = contract<{ batch: number; largest: number; scale?: number }>({
  name: 'sinusoid',
  cases: [
    { batch: 1, largest: 1 },
    { batch: 7, largest: 1 },
    { batch: 8, largest: 7 },
    { batch: 5, largest: 0.007, scale: 1000 },
    { batch: 9, largest: 1, scale: 1000 },
  ],
  inputs: ({ batch, largest }) => ({
    values: { shape: [batch], fill: (i) => (batch === 1 ? largest : Math.fround((largest * i) / (batch - 1))) },
  }),
  run: (ctx, { values }, { scale }) => ({ features: sinusoid(ctx, values!, scale) }),
  reference({ values }, { batch, scale = 1 }) {
    const features = new Float64Array(batch * SINUSOID_WIDTH);
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < HALF; i++) {
        const angle = scale * values![b]! * 10000 ** (-i / HALF);
        features[b * SINUSOID_WIDTH + i] = Math.cos(angle);
        features[b * SINUSOID_WIDTH + HALF + i] = Math.sin(angle);
      }
    }
    return { features };
  },
  differentiable: [],
  // The frequency and the angle are rounded, which the angle multiplies.
  reduction: ({ largest, scale = 1 }) => largest * scale,
  slack: 4,
});
