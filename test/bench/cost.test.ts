/** The table of costs against numbers worked out by hand, on recordings that no GPU runs. */

import { describe, expect, it } from 'vitest';
import { type DispatchWork, dispatchWork } from '../../bench/cost.ts';
import type { Context } from '../../engine/context.ts';
import { dryEngine } from '../../engine/dry-device.ts';
import type { Engine } from '../../engine/engine.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { record } from '../../engine/program.ts';
import { scalarInput } from '../../engine/scalar.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { adamw } from '../../kernels/adamw.ts';
import { add } from '../../kernels/add.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { uploadCase } from '../../kernels/check.ts';
import { chunk } from '../../kernels/chunk.ts';
import { convolution } from '../../kernels/conv/convolution.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { caseInputs } from '../../kernels/expected.ts';
import { euler } from '../../kernels/flow.ts';
import { gatherRows } from '../../kernels/gather.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { groupnorm } from '../../kernels/norm/groupnorm.ts';
import { layernorm } from '../../kernels/norm/layernorm.ts';
import { columnSum } from '../../kernels/reduce.ts';
import { contracts } from '../../kernels/registry.ts';
import { softmax } from '../../kernels/softmax.ts';

const limits = {
  maxBufferSize: 2 ** 30,
  maxStorageBufferBindingSize: 2 ** 27,
  maxComputeWorkgroupsPerDimension: 65535,
};
const like = { device: { limits, features: new Set(), adapterInfo: {} }, adapterClass: 'lavapipe' };
const engine: Engine = dryEngine({ ...like, largestBinding: 2 ** 27 } as unknown as Engine);
const tensor = (label: string, shape: Tensor['shape'], dtype: 'f32' | 'u32' = 'f32') =>
  engine.tensor(label, shape, { dtype });

function works(body: (ctx: Context) => void, values = {}): DispatchWork[] {
  return record(engine, 'test', body).recording.nodes.map((node) => dispatchWork(node, values));
}

it('a dense layer and its gradients', () => {
  const [x, kernel, bias, dy] = [
    tensor('x', [2, 5, 8]),
    tensor('kernel', [8, 12]),
    tensor('bias', [12]),
    tensor('dy', [2, 5, 12]),
  ];
  const gradients = [x, kernel, bias].map((t) => [t, tensor(`d(${t.label})`, t.shape)] as const);
  const all = works((ctx) => {
    const tape = createTape();
    for (const [t, g] of gradients) tape.watch(t, g);
    ctx.tape = tape;
    tape.backward(ctx, [[linear(ctx, x, { kernel, bias }), dy]]);
  });
  const [forward, dx, dw, db] = all as [DispatchWork, DispatchWork, DispatchWork, DispatchWork];
  // 10 rows of 8 by 8 x 12: 10 * 8 * 12 multiply-adds each.
  for (const product of [forward, dx, dw]) expect(product.flops).toBe(2 * 10 * 8 * 12);
  expect(forward.kernel).toMatch(/^matmul\.\w+\/matmul NN$/);
  expect(forward.bytes).toBe(4 * (10 * 8 + 8 * 12 + 10 * 12 + 12));
  expect(dx.kernel).toMatch(/matmul NT$/);
  expect(dx).toMatchObject({ bytes: 4 * (10 * 12 + 8 * 12 + 10 * 8) });
  expect(dw.kernel).toMatch(/matmul TN$/);
  expect(dw).toMatchObject({ bytes: 4 * (10 * 8 + 10 * 12 + 8 * 12) });
  expect(db).toMatchObject({ kernel: 'columns/columns', flops: 10 * 12, bytes: 4 * (10 * 12 + 12) });
});

it('attention, forward and backward', () => {
  const [q, k, v, dy] = ['q', 'k', 'v', 'dy'].map((name) => tensor(name, [3, 7, 8])) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const all = works((ctx) => {
    const tape = createTape();
    for (const t of [q, k, v]) tape.watch(t, tensor(`d(${t.label})`, t.shape));
    ctx.tape = tape;
    tape.backward(ctx, [[attention(ctx, q, k, v, { heads: 2, scale: 1 }), dy]]);
  });
  const one = 2 * 3 * 7 * 7 * 8; // a multiplication and an addition for every sample, query, key and feature
  expect(all.map(({ flops }) => flops)).toEqual([2 * one, 3 * one, 4 * one]);
  const [features, perQuery] = [4 * 3 * 7 * 8, 4 * 3 * 2 * 7];
  expect(all.map(({ bytes }) => bytes)).toEqual([
    4 * features + perQuery, // q, k, v, out; log sum of exponentials
    6 * features + 2 * perQuery, // q, k, v, out, dout, dq; that and delta
    6 * features + 2 * perQuery, // q, k, v, dout, dk, dv; the same
  ]);
});

it('symbolic rows count as many as run, and none cost nothing', () => {
  const rows = scalarInput('rows', 6);
  const [x, kernel, bias] = [tensor('x', [6, 4]), tensor('kernel', [4, 4]), tensor('bias', [4])];
  const body = (ctx: Context) => void linear(ctx, ctx.prefix(x, rows), { kernel, bias });
  expect(works(body, { rows: 5 })[0]).toMatchObject({ flops: 2 * 5 * 4 * 4, bytes: 4 * (5 * 4 + 16 + 5 * 4 + 4) });
  expect(works(body, { rows: 0 })[0]).toMatchObject({ flops: 0, bytes: 0 });
});

it('what works in place is read and written', () => {
  const [params, gradient, m, v, ema] = ['params', 'gradient', 'm', 'v', 'ema'].map((name) => tensor(name, [100])) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const update = works((ctx) => adamw(ctx, { params, gradient, m, v, ema }, { lr: 1, count: 1 }));
  expect(update[0]).toMatchObject({ flops: 2000, bytes: 4 * 900 });
  expect(works((ctx) => euler(ctx, params, gradient, 1))[0]).toMatchObject({ bytes: 4 * 300 });
});

it('rows that are looked up, columns that are views, and missing rows', () => {
  const table = tensor('table', [1000, 8]);
  const indices = tensor('indices', [3], 'u32');
  expect(works((ctx) => void gatherRows(ctx, table, indices))[0]).toMatchObject({ flops: 0, bytes: 4 * (3 + 2 * 24) });
  const [x, modulation] = [tensor('x', [2, 5, 8]), tensor('modulation', [2, 16])];
  const norm = works((ctx) => {
    const [shift, scale] = chunk(ctx, modulation, 2);
    layernorm(ctx, x, shift!, scale!);
  });
  // x, y, mean and deviation of 10 rows, shift and scale of 2 samples.
  expect(norm[0]).toMatchObject({ flops: 8 * 80, bytes: 4 * (80 + 80 + 20 + 32) });
  const [a, b] = [tensor('a', [5, 4]), tensor('b', [2, 4])];
  expect(works((ctx) => void add(ctx, a, b))[0]).toMatchObject({ flops: 8, bytes: 4 * (20 + 8 + 20) });
  expect(works((ctx) => void columnSum(ctx, a))[0]).toMatchObject({ flops: 20, bytes: 4 * (20 + 4) });
});

it('a kernel that the table does not know costs null', () => {
  const source = `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn fill() { y[0] = 1.0; }`;
  const kernel = defineKernel('stranger', source);
  const y = tensor('y', [1]);
  const [work] = works((ctx) => ctx.dispatch({ kernel, entry: 'fill', tensors: { y }, grid: 1 }));
  expect(work).toMatchObject({ kernel: 'stranger/fill', flops: null, bytes: null, grid: [1] });
  // Nor is a product trusted whose sizes go by other names.
  const other = defineKernel(
    'matmul',
    source.replaceAll('fill', 'matmul').replaceAll(' y:', ' c:').replaceAll('y[0]', 'c[0]'),
  );
  const [product] = works((ctx) => ctx.dispatch({ kernel: other, entry: 'matmul', tensors: { c: y }, grid: 1 }));
  expect(product).toMatchObject({ flops: null });
});

describe('every kernel has a rule', () => {
  for (const c of contracts) {
    it(c.name, () => {
      const [k] = c.cases;
      const inputs = uploadCase(engine, c, k!, caseInputs(c, k!));
      const all = works((ctx) => {
        const tape = createTape();
        for (const name of c.differentiable)
          tape.watch(inputs[name]!, tensor(`d(${name})`, inputs[name]!.shape as Tensor['shape']));
        if (c.differentiable.length > 0) ctx.tape = tape;
        const outputs = Object.values(c.run(ctx, inputs, k!));
        const seeds = outputs.map((y) => [y, engine.tensor('dy', y.shape)] as const);
        if (c.differentiable.length > 0) tape.backward(ctx, seeds);
      });
      expect(all.length).toBeGreaterThan(0);
      expect(all.filter(({ bytes }) => bytes === null).map(({ kernel }) => kernel)).toEqual([]);
    });
  }
});

it('a convolution, a group norm and a softmax', () => {
  const [x, kernel, bias, channels] = [
    tensor('x', [2, 4, 6, 8]),
    tensor('kernel', [72, 12]),
    tensor('bias', [12]),
    tensor('channels', [8]),
  ];
  const [conv, measure, combine, normalise, softened] = works((ctx) => {
    convolution(ctx, x, { kernel, bias }, { stride: 2, padding: 'end' });
    groupnorm(ctx, x, { gain: channels, bias: channels }, { groups: 2, eps: 1e-6 });
    softmax(ctx, x, 1);
  }) as [DispatchWork, DispatchWork, DispatchWork, DispatchWork, DispatchWork];
  // 2 pictures of 2 x 3 pixels, 9 taps of 8 channels, 12 results.
  expect(conv).toMatchObject({ flops: 2 * 2 * 6 * 72 * 12, bytes: 4 * (2 * 24 * 8 + 72 * 12 + 12 + 2 * 6 * 12) });
  // A mean and a sum of squares per row and channel; a mean and a factor per picture and channel.
  expect(measure.bytes).toBe(4 * (2 * 24 * 8 + 2 * 4 * 2 * 8));
  expect(combine.bytes).toBe(4 * (2 * 4 * 2 * 8 + 8 + 2 * 2 * 8));
  expect(normalise.bytes).toBe(4 * (2 * 2 * 24 * 8 + 2 * 2 * 8 + 8));
  expect(softened).toMatchObject({ flops: 6 * 2 * 24 * 8, bytes: 8 * 2 * 24 * 8 });
});
