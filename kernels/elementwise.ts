/** Elementwise operations: SiLU, GELU's slope, products, sums of tensors with missing rows. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar } from '../engine/scalar.ts';
import type { AddGradients } from '../engine/tape.ts';
import { lastDim, maxSize, reshaped, rowLayout, rowSize, shapeText, sizeOf, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import source from './elementwise.wgsl';
import lib from './lib.wgsl';

const kernel = defineKernel('elementwise', lib, source);
const WG = 64;
const EACH = 8;

type Entry = 'silu_forward' | 'silu_backward' | 'gelu_backward' | 'multiply' | 'add' | 'pad' | 'add_each';

function launch(ctx: Context, entry: Entry, out: Tensor, a: Tensor, b: Tensor | null): Tensor {
  const size = sizeOf(out);
  const layout = b && entry === 'multiply' ? rowLayout(b) : { offset: 0, stride: 0 };
  const params: Record<string, Scalar> = {
    size,
    a_size: sizeOf(a),
    b_size: b ? sizeOf(b) : 0,
    width: b && entry === 'multiply' ? lastDim(b) : 1,
    b_offset: layout.offset,
    b_stride: layout.stride,
  };
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, EACH },
    tensors: b ? { a, b, out } : { a, out },
    params,
    grid: ceilDiv(size, WG * EACH),
  });
  return out;
}

/** x * sigmoid(x), any shape. */
export function silu(ctx: Context, x: Tensor): Tensor {
  const y = launch(ctx, 'silu_forward', ctx.empty('silu', x.shape), x, null);
  ctx.tape?.add({
    name: 'silu',
    inputs: [x],
    outputs: [y],
    backward: (g) => void launch(ctx, 'silu_backward', g.out(0), x, g.dy(0)),
  });
  return y;
}

/** dy * gelu'(x): the backward of a GELU fused into a matrix product (kernels/linear.ts). */
export const geluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'gelu_backward', ctx.empty('d(gelu)', x.shape), x, dy);

/** dy * silu'(x). */
export const siluBackward = (ctx: Context, x: Tensor, dy: Tensor): Tensor =>
  launch(ctx, 'silu_backward', ctx.empty('d(silu)', x.shape), x, dy);

/** a * b elementwise, [B, C] both; b may be columns of a wider matrix. */
export function mul(ctx: Context, a: Tensor, b: Tensor): Tensor {
  const y = launch(ctx, 'multiply', ctx.empty('mul', a.shape), a, b);
  ctx.tape?.add({
    name: 'mul',
    inputs: [a, b],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      if (g.needs(0)) launch(ctx, 'multiply', g.out(0), dy, b);
      if (g.needs(1)) launch(ctx, 'multiply', g.out(1), dy, a);
    },
  });
  return y;
}

/** a + b, shaped like a; b may have fewer (leading) rows, the others are taken as zero. */
export function add(ctx: Context, a: Tensor, b: Tensor): Tensor {
  if (rowSize(a) !== rowSize(b) || maxSize(b) > maxSize(a)) {
    throw new UsageError(`cannot add ${shapeText(b)} to ${shapeText(a)}`);
  }
  const y = launch(ctx, 'add', ctx.empty('add', a.shape), a, b);
  ctx.tape?.add({
    name: 'add',
    inputs: [a, b],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      g.give(0, dy);
      g.give(1, reshaped(dy, b.shape));
    },
  });
  return y;
}

/** x + table, with the table (all but x's first dimension, not differentiated) added to every row of x. */
export function addEach(ctx: Context, x: Tensor, table: Tensor): Tensor {
  if (rowSize(x) !== maxSize(table))
    throw new UsageError(`cannot add ${shapeText(table)} to each row of ${shapeText(x)}`);
  const y = launch(ctx, 'add_each', ctx.empty('addEach', x.shape), x, table);
  ctx.tape?.add({ name: 'addEach', inputs: [x], outputs: [y], backward: (g) => g.give(0, g.dy(0)) });
  return y;
}

/** Copies x into `target`, a tensor of its own; where x has fewer rows the others become zero. Not differentiable. */
export const copyInto = (ctx: Context, x: Tensor, target: Tensor): Tensor => launch(ctx, 'pad', target, x, null);

/** The tape's sum of gradients (engine/tape.ts). */
export const addGradients: AddGradients = (ctx, like, a, b, target) =>
  launch(ctx, b ? 'add' : 'pad', target ?? ctx.empty(`d(${like.label})`, like.shape), a, b);

export const siluContract = contract<{ size: number }>({
  name: 'silu',
  cases: [{ size: 1 }, { size: 259 }],
  inputs: ({ size }) => ({ x: { shape: [size], fill: (_i, normal) => 3 * normal() } }),
  run: (ctx, { x }) => ({ y: silu(ctx, x!) }),
  reference: ({ x }) => ({ y: x!.map((v) => v / (1 + Math.exp(-v))) }),
  differentiable: ['x'],
  reduction: () => 1,
});

export const addContract = contract<{ rows: number; missing: number; width: number }>({
  name: 'add',
  cases: [
    { rows: 1, missing: 0, width: 1 },
    { rows: 5, missing: 2, width: 33 },
    { rows: 3, missing: 3, width: 4 },
  ],
  inputs: ({ rows, missing, width }) => ({
    a: { shape: [rows, width] },
    b: { shape: [rows - missing, width] },
  }),
  run: (ctx, { a, b }) => ({ y: add(ctx, a!, b!) }),
  reference: ({ a, b }) => ({ y: a!.map((v, i) => v + (b![i] ?? 0)) }),
  differentiable: ['a', 'b'],
  reduction: () => 1,
});

export const addEachContract = contract<{ rows: number; width: number }>({
  name: 'addEach',
  cases: [{ rows: 3, width: 171 }],
  inputs: ({ rows, width }) => ({ x: { shape: [rows, 3, width] }, table: { shape: [3, width] } }),
  run: (ctx, { x, table }) => ({ y: addEach(ctx, x!, table!) }),
  reference: ({ x, table }) => ({ y: x!.map((v, i) => v + table![i % table!.length]!) }),
  differentiable: ['x'],
  reduction: () => 1,
});
