/** A gated residual as an operation of its own, and the gradients of every gated residual. */
import type { Context } from '../../engine/context.ts';
import { defineKernel } from '../../engine/kernel.ts';
import { ceilDiv, times } from '../../engine/scalar.ts';
import { lastDim, rowLayout, type Tensor } from '../../engine/tensor.ts';
import { choose } from '../family.ts';
import lib from '../lib.wgsl';
import { tokenSums } from '../token-sums.ts';
import tokenSumSource from '../token-sums.wgsl';
import gateSource from './gate.wgsl';

const gateKernel = defineKernel('gate', tokenSumSource, gateSource, lib);

/** residual + gate * branch where something (dropout) stands between the dense layer and the gate. Shapes as gatedLinear's (linear.ts). */
export function gatedResidual(ctx: Context, branch: Tensor, residual: Tensor, gate: Tensor): Tensor {
  const y = ctx.empty('gated', branch.shape);
  gateDispatch(ctx, 'forward', branch, gate, { branch, gate, residual, y });
  ctx.tape?.add({
    name: 'gatedResidual',
    inputs: [branch, residual, gate],
    outputs: [y],
    backward(g) {
      const dy = g.dy(0);
      g.give(1, dy);
      const dbranch = g.needs(0) ? g.out(0) : ctx.empty('d(branch)', branch.shape);
      gateBackward(ctx, dy, branch, gate, dbranch, g.needs(2) ? g.out(2) : ctx.empty('d(gate)', gate.shape));
    },
  });
  return y;
}

/** dbranch = gate dy, dgate = sums of dy branch over tokens. */
export function gateBackward(
  ctx: Context,
  dy: Tensor,
  branch: Tensor,
  gate: Tensor,
  dbranch: Tensor,
  dgate: Tensor,
): void {
  gateDispatch(ctx, 'backward', branch, gate, { dy, branch, gate, dbranch, dgate });
}

function gateDispatch(
  ctx: Context,
  entry: string,
  branch: Tensor,
  gate: Tensor,
  tensors: Record<string, Tensor>,
): void {
  const [batch, tokens = 1] = branch.shape;
  const width = lastDim(branch);
  const { offset, stride } = rowLayout(gate);
  const vec = [width, offset, stride].every((n) => n % 4 === 0);
  const { constants, channels } = choose(ctx.engine, tokenSums, { vec, width, tokens });
  ctx.dispatch({
    kernel: gateKernel,
    entry,
    constants,
    tensors,
    params: { samples: batch, tokens, width, offset, stride },
    grid: ceilDiv(times(batch, width), channels),
  });
}
