/** Sums of tensors with missing rows, sums with a table, and copies; f32 or f16. */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, type Scalar, times } from '../engine/scalar.ts';
import type { AddGradients } from '../engine/tape.ts';
import { maxSize, reshaped, rowSize, shapeText, type Tensor } from '../engine/tensor.ts';
import source from './add.wgsl';
import { contract } from './contract.ts';
import lib from './lib.wgsl';

const kernel = defineKernel('add', lib, source);
const WG = 64;
const EACH = 8;

function launch(ctx: Context, entry: 'add' | 'copy' | 'add_each', out: Tensor, a: Tensor, b: Tensor | null): Tensor {
  const half = (t: Tensor | null) => t?.dtype === 'f16';
  const each = [a, b, out].some(half) ? 2 : 1;
  const odd = [a, b, out].find((t) => t && rowSize(t) % each !== 0);
  if (odd) throw new UsageError(`'${odd.label}' ${shapeText(odd)} has odd rows; sums in f16 go by pairs`);
  const size = (t: Tensor): Scalar => times(t.shape[0], rowSize(t) / each);
  ctx.dispatch({
    kernel,
    entry,
    constants: { WG, EACH, F16_A: half(a), F16_B: half(b), F16_OUT: half(out) },
    tensors: b ? { a, b, out } : { a, out },
    params: { size: size(out), a_size: size(a), b_size: b ? size(b) : 0 },
    grid: ceilDiv(size(out), WG * EACH),
  });
  return out;
}

/** a + b, shaped and stored like a; b may have fewer (leading) rows, the others are taken as zero. */
export function add(ctx: Context, a: Tensor, b: Tensor): Tensor {
  if (rowSize(a) !== rowSize(b) || maxSize(b) > maxSize(a)) {
    throw new UsageError(`cannot add ${shapeText(b)} to ${shapeText(a)}`);
  }
  const y = launch(ctx, 'add', ctx.empty('add', a.shape, a.dtype), a, b);
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

/** x + table, stored like x, with the table (all but x's first dimension, not differentiated) added to every row of x. */
export function addEach(ctx: Context, x: Tensor, table: Tensor): Tensor {
  if (rowSize(x) !== maxSize(table))
    throw new UsageError(`cannot add ${shapeText(table)} to each row of ${shapeText(x)}`);
  const y = launch(ctx, 'add_each', ctx.empty('addEach', x.shape, x.dtype), x, table);
  ctx.tape?.add({ name: 'addEach', inputs: [x], outputs: [y], backward: (g) => g.give(0, g.dy(0)) });
  return y;
}

/** Copies x into `target`, a tensor of its own, which may be stored otherwise; where x has fewer rows the others become zero. Not differentiable. */
export const copyInto = (ctx: Context, x: Tensor, target: Tensor): Tensor => launch(ctx, 'copy', target, x, null);

/** The tape's sum of gradients (engine/tape.ts). */
export const addGradients: AddGradients = (ctx, like, a, b, target) =>
  launch(ctx, b ? 'add' : 'copy', target ?? ctx.empty(`d(${like.label})`, like.shape), a, b);

export const addContract = contract<{ rows: number; missing: number; width: number }>({
  name: 'add',
  cases: [
    { rows: 1, missing: 0, width: 1 },
    { rows: 5, missing: 2, width: 33 },
    { rows: 5, missing: 2, width: 36 },
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
  cases: [
    { rows: 3, width: 171 },
    { rows: 2, width: 44 },
  ],
  inputs: ({ rows, width }) => ({ x: { shape: [rows, 3, width] }, table: { shape: [3, width] } }),
  run: (ctx, { x, table }) => ({ y: addEach(ctx, x!, table!) }),
  reference: ({ x, table }) => ({ y: x!.map((v, i) => v + table![i % table!.length]!) }),
  differentiable: ['x'],
  reduction: () => 1,
});
