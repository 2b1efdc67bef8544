/** What fusing promises beyond values, which contracts hold: the passes that it saves, and refusals that it must not lose. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Context } from '../../engine/context.ts';
import type { Engine } from '../../engine/engine.ts';
import { Program, record } from '../../engine/program.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { add } from '../../kernels/add.ts';
import { createTape } from '../../kernels/derivatives.ts';
import { linear } from '../../kernels/matmul/linear.ts';
import { gatedMlp } from '../../kernels/matmul/mlp.ts';
import { testEngine } from '../support/engine.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const ramp = (label: string, shape: [number, ...number[]]) =>
  engine.tensor(label, shape, {
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i + label.length)),
  });

/** The gradient of `run`'s result, all ones, towards x, and how many dispatches of each kernel made both. */
async function gradient(x: Tensor, run: (ctx: Context) => Tensor) {
  const dx = engine.tensor('dx', x.shape);
  const { recording } = record(engine, 'test', (ctx) => {
    const tape = createTape();
    tape.watch(x, dx);
    ctx.tape = tape;
    const y = run(ctx);
    const ones = engine.tensor('ones', y.shape, { data: new Float32Array(6 * 8).fill(1) });
    tape.backward(ctx, [[y, ones]]);
  });
  const program = await Program.compile(engine, recording);
  program.run();
  const kernels = Object.fromEntries(program.kernels().map(({ kernel, dispatches }) => [kernel, dispatches]));
  program.dispose();
  return { dx: [...(await engine.read(dx))], kernels };
}

it('layers of one input add their gradients towards it in their products', async () => {
  const x = ramp('x', [2, 3, 8]);
  const layers = ['q', 'key', 'value'].map((name) => ({ kernel: ramp(name, [8, 8]), bias: ramp('bias', [8]) }));
  const branches = (ctx: Context, input: Tensor, of = layers) =>
    of.map((layer) => linear(ctx, input, layer)).reduce((a, b) => add(ctx, a, b));
  // By way of a tensor of its own, as blocks have: what is watched keeps its first piece in the caller's tensor.
  const inside = await gradient(x, (ctx) => branches(ctx, linear(ctx, x, layers[0]!)));
  // Forward adds two; backward none.
  expect(inside.kernels.add).toBe(2);
  const apart = await Promise.all(
    layers.map((layer) => gradient(x, (ctx) => branches(ctx, linear(ctx, x, layers[0]!), [layer]))),
  );
  for (const [i, got] of inside.dx.entries()) {
    expect(got).toBeCloseTo(
      apart.reduce((sum, { dx }) => sum + dx[i]!, 0),
      4,
    );
  }
});

it('an MLP makes no tensor of the gradient before GELU, and is refused in blocks of columns though only x wants a gradient', async () => {
  const x = ramp('x', [2, 3, 8]);
  const hidden = { kernel: ramp('w1', [8, 16]), bias: ramp('b1', [16]) };
  const output = { kernel: ramp('w2', [16, 8]), bias: ramp('b2', [8]) };
  const [residual, gate] = [ramp('residual', [2, 3, 8]), ramp('gate', [2, 8])];
  const { kernels } = await gradient(x, (ctx) => gatedMlp(ctx, x, { hidden, output }, residual, gate));
  expect(kernels.elementwise).toBeUndefined();
  const split = { ...output, kernel: [ramp('left', [16, 4]), ramp('right', [16, 4])] };
  await expect(gradient(x, (ctx) => gatedMlp(ctx, x, { hidden, output: split }, residual, gate))).rejects.toThrow(
    "no gradient passes 'left', which is held in 2 blocks of columns",
  );
});
