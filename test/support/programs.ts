/** Small programs for tests of the engine, and the errors that promises end in. */
import type { Engine } from '../../engine/engine.ts';
import { type CompileOptions, Program, record } from '../../engine/program.ts';
import type { Tensor } from '../../engine/tensor.ts';
import { silu } from '../../kernels/elementwise.ts';

/** A persistent tensor of these numbers. */
export const floats = (
  engine: Engine,
  label: string,
  data: ArrayLike<number>,
  shape: [number, ...number[]] = [data.length],
): Tensor => engine.tensor(label, shape, { data: Float32Array.from(data) });

export const range = (n: number, f: (i: number) => number = (i) => i): number[] =>
  Array.from({ length: n }, (_, i) => f(i));

/** Compiles silu applied `times` times to x. */
export async function siluProgram(engine: Engine, x: Tensor, times: number, options: CompileOptions = {}) {
  const { recording, result } = record(engine, `silu${times}`, (ctx, keep) => {
    let y = x;
    for (let i = 0; i < times; i++) y = silu(ctx, y);
    keep(y);
    return y;
  });
  return { program: await Program.compile(engine, recording, options), y: result };
}

/** The rejection of a promise, which must be of the given class. */
export async function rejection<T extends Error>(
  promise: Promise<unknown>,
  type: abstract new (...args: never[]) => T,
): Promise<T> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  if (!(error instanceof type)) throw error;
  return error;
}
