/**
 * Random tensors by the counter-based generator of engine/philox.ts. A row's numbers follow from its sample number and the
 * source alone, so a sample's noise does not depend on the batch that it is drawn in.
 */
import type { Context } from '../../engine/context.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { philox } from '../../engine/philox.ts';
import { ceilDiv, type Scalar, times } from '../../engine/scalar.ts';
import { rowSize, type Shape, type Tensor } from '../../engine/tensor.ts';
import { contract, type InputSpec } from '../contract.ts';
import lib from '../lib.wgsl';
import precise from '../precise.wgsl';
import philoxSource from './philox.wgsl';
import source from './random.wgsl';

const kernel = defineKernel('random', lib, philoxSource, precise, source);
const WG = 64;

/** As RandomSource of engine/philox.ts, but the step may be symbolic. All are integers in [0, 2^32). */
export interface DeviceRandomSource {
  readonly seed: number;
  readonly stream: number;
  readonly step: Scalar;
}

/** `indices` [B] u32: the sample number of each row; without it a row's position is its number. */
export type RowRandomSource = DeviceRandomSource & { readonly indices?: Tensor };

/** Standard normals [B, ...]: Box-Muller as in engine/philox.ts, equal to it within about 1e-6. */
export const randomNormal = (ctx: Context, shape: Shape, from: RowRandomSource): Tensor =>
  draw(ctx, 'normals', shape, from);

/** Uniform numbers in [0, 1) [B, ...], in steps of 2^-24; equal to engine/philox.ts bit for bit. */
export const randomUniform = (ctx: Context, shape: Shape, from: RowRandomSource): Tensor =>
  draw(ctx, 'uniforms', shape, from);

function draw(
  ctx: Context,
  entry: 'normals' | 'uniforms',
  shape: Shape,
  { indices, ...from }: RowRandomSource,
): Tensor {
  const [rows, width] = [shape[0], rowSize({ shape })];
  const result = ctx.empty(entry, shape);
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, INDEXED: indices ? 1 : 0 },
    tensors: { result, ...(indices ? { indices } : {}) },
    params: { rows, width, seed: from.seed, stream: from.stream, step: from.step },
    grid: ceilDiv(times(rows, Math.ceil(width / 4)), WG),
  });
  return result;
}

interface RandomCase {
  rows: number;
  width: number;
  indexed: boolean;
}

const FROM = { seed: 0xfedcba98, stream: 3, step: 11 };
const CASES: RandomCase[] = [
  { rows: 1, width: 1, indexed: false },
  { rows: 5, width: 30, indexed: false },
  { rows: 3, width: 129, indexed: true },
];

/** Words 4i .. 4i + 3 of a row by the CPU generator. */
const row = (sample: number, width: number): number[] =>
  Array.from({ length: Math.ceil(width / 4) }, (_, quad) =>
    philox([quad, sample, FROM.step, 0], [FROM.seed, FROM.stream]),
  ).flat();

/* @__NO_SIDE_EFFECTS__ */
const both = (name: string, op: typeof randomNormal, value: (words: readonly number[], e: number) => number) =>
  contract<RandomCase>({
    name,
    cases: CASES,
    inputs: ({ rows, indexed }): Record<string, InputSpec> =>
      indexed ? { indices: { shape: [rows], dtype: 'u32', fill: (i) => 1000 - 7 * i } } : {},
    run: (ctx, { indices }, { rows, width }) => ({ y: op(ctx, [rows, width], { ...FROM, indices }) }),
    reference({ indices }, { rows, width }) {
      const y = new Float64Array(rows * width);
      for (let r = 0; r < rows; r++) {
        const words = row(indices ? indices[r]! : r, width);
        for (let e = 0; e < width; e++) y[r * width + e] = value(words, e);
      }
      return { y };
    },
    differentiable: [],
    reduction: () => 1,
    bench: {
      cases: [{ rows: 64, width: 4096, indexed: false }],
      cost: ({ rows, width }) => ({ flops: 0, bytes: 4 * rows * width }),
    },
  });

export const randomUniformContract = both('randomUniform', randomUniform, (words, e) => (words[e]! >>> 8) / 2 ** 24);

export const randomNormalContract = both('randomNormal', randomNormal, (words, e) => {
  const even = e - (e % 2);
  const radius = Math.sqrt(-2 * Math.log(Math.fround(((words[even]! >>> 8) + 0.5) / 2 ** 24)));
  const angle = (2 * Math.PI * (words[even + 1]! >>> 8)) / 2 ** 24;
  return radius * (e % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
});
