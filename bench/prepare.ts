/**
 * One case of a contract on one engine, checked and ready to be timed. Everything that depends on a build's kernels and engine is behind
 * this function: two builds are compared in one process by taking it from each.
 */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import type { Contract } from '../kernels/contract.ts';
import { createTape } from '../kernels/derivatives.ts';
import { type Clock, compileRepeated, type Repeated } from './harness.ts';
import { type Comparison64, type ReadyCase, readyCase } from './ready-case.ts';

/** Programs of a case; `dispose` frees them and their tensors. */
export interface Prepared {
  readonly forward: Repeated;
  /** Forward and backward; null where nothing is differentiable, or it was not asked for. */
  readonly both: Repeated | null;
  /** Null where it was prepared without the check. */
  readonly accuracy: Comparison64 | null;
  /** Frees the programs and, unless they were given, their tensors. */
  dispose(): void;
}

/**
 * Compiles the case's programs, without `backward` the forward one alone, and, with `check`, compares the forward pass with float64: all of it, or its `bench.part`.
 * `ready`: the case's tensors and reference, made before with the same `backward`; they stay the caller's.
 * @throws OdeltError ('wrong-result') for a kernel that computes wrong; OutOfMemoryError, LimitError for a case that does not fit.
 */
export async function prepareCase(
  engine: Engine,
  c: Contract,
  k: object,
  clock: Clock,
  check = true,
  backward = true,
  ready?: ReadyCase,
): Promise<Prepared> {
  const made = ready ?? (await readyCase(engine, c, k, { backward }));
  const { inputs, seeds, gradients } = made;
  const programs: Repeated[] = [];
  const dispose = () => {
    for (const { program } of programs) program.dispose();
    if (!ready) made.dispose();
  };
  try {
    const pass = (whole: boolean) => (ctx: Context) => {
      const tape = whole ? createTape() : null;
      ctx.tape = tape;
      for (const [name, gradient] of Object.entries(gradients)) tape?.watch(inputs[name]!, gradient);
      const outputs = c.run(ctx, inputs, k);
      if (!tape) return;
      const pairs = Object.entries(outputs).map(([name, y]) => [y, { ...seeds[name]!, shape: y.shape }] as const);
      tape.backward(ctx, pairs);
    };
    const compiled = async (whole: boolean): Promise<Repeated> => {
      const program = await compileRepeated(engine, c.name, clock, pass(whole));
      programs.push(program);
      return program;
    };
    const forward = await compiled(false);
    const both = Object.keys(gradients).length > 0 ? await compiled(true) : null;
    // After the first compilation, so that this finds warm pipelines and the cold seconds stay cold.
    const accuracy = check ? await made.check() : null;
    return { forward, both, accuracy, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}
