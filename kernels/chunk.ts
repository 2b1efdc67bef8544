/** Equal column chunks of a matrix as views (the six parts of an adaLN modulation): free forward, one kernel backward (chunk.backward.ts). */
import type { Context } from '../engine/context.ts';
import { UsageError } from '../engine/errors.ts';
import { type Scalar, times } from '../engine/scalar.ts';
import { columns, lastDim, rowSize, type Tensor } from '../engine/tensor.ts';
import { contract } from './contract.ts';
import { mul } from './mul.ts';

/** What the backward of a chunk needs: rows of x, columns of a chunk. */
export interface ChunkSaved {
  readonly rows: Scalar;
  readonly width: number;
  readonly count: number;
}

/** Splits x [..., count * C] into `count` (1 to 6) views [..., C]. Where one has a gradient, all must. */
export function chunk(ctx: Context, x: Tensor, count: number): Tensor[] {
  const width = lastDim(x) / count;
  if (!Number.isInteger(width) || count < 1 || count > 6) {
    throw new UsageError(`cannot split ${lastDim(x)} columns into ${count} chunks (1 to 6, equal)`);
  }
  const rows = times(x.shape[0], rowSize(x) / lastDim(x));
  const outputs = Array.from({ length: count }, (_, k) => columns(x, k * width, width));
  ctx.tape?.add({ name: 'chunk', inputs: [x], outputs, saved: { rows, width, count } satisfies ChunkSaved });
  return outputs;
}

export const chunkContract = contract<{ rows: number; width: number; count: number }>({
  name: 'chunk',
  cases: [
    { rows: 1, width: 1, count: 2 },
    { rows: 5, width: 13, count: 2 },
  ],
  inputs: ({ rows, width, count }) => ({ x: { shape: [rows, width * count] }, weight: { shape: [rows, width] } }),
  run(ctx, { x, weight }, { count }) {
    const parts = chunk(ctx, x!, count);
    return Object.fromEntries(parts.map((p, k) => [`part${k}`, mul(ctx, weight!, p)]));
  },
  reference({ x, weight }, { rows, width, count }) {
    const part = (k: number) =>
      Float64Array.from({ length: rows * width }, (_, i) => {
        const [r, c] = [Math.floor(i / width), i % width];
        return weight![i]! * x![r * width * count + k * width + c]!;
      });
    return Object.fromEntries(Array.from({ length: count }, (_, k) => [`part${k}`, part(k)]));
  },
  differentiable: ['x'],
  reduction: () => 1,
});
