/** The backward of chunk.ts: the gradients of the chunks side by side. */
import { defineKernel } from '../engine/kernel.ts';
import { ceilDiv, times } from '../engine/scalar.ts';
import type { Derivative } from '../engine/tape.ts';
import source from './chunk.backward.wgsl';
import type { ChunkSaved } from './chunk.ts';
import lib from './lib.wgsl';

const kernel = defineKernel('chunk', lib, source);
const WG = 64;

export const chunkBackward: Derivative<ChunkSaved> = (ctx, g, { rows, width, count }) => {
  const pieces = Object.fromEntries(Array.from({ length: count }, (_, k) => [`piece${k}`, g.dy(k)]));
  ctx.dispatch({
    kernel,
    entry: 'join',
    constants: { WG, COUNT: count },
    tensors: { joined: g.out(0), ...pieces },
    params: { rows, width },
    grid: ceilDiv(times(rows, width), WG),
  });
};
