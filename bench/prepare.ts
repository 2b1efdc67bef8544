/**
 * One case of a contract on one engine, checked and ready to be timed. Everything that depends on a build's kernels and engine is behind
 * this function: two builds are compared in one process by taking it from each.
 */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { record } from '../engine/program.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { caseInputs, checkForward, checkPart, uploadCase } from '../kernels/check.ts';
import type { Contract } from '../kernels/contract.ts';
import { createTape } from '../kernels/derivatives.ts';
import { type Clock, compileRepeated, type Repeated } from './harness.ts';

/** What was compared with float64. */
export interface Comparison64 {
  /** Largest relative error. */
  readonly error: number;
  /** Outputs compared, of so many. */
  readonly checked: number;
  readonly outputs: number;
}

/** Programs of a case; `dispose` frees them and their tensors. */
export interface Prepared {
  readonly forward: Repeated;
  /** Forward and backward; null where nothing is differentiable, or it was not asked for. */
  readonly both: Repeated | null;
  /** Null where it was prepared without the check. */
  readonly accuracy: Comparison64 | null;
  /** Frees the programs and their tensors. */
  dispose(): void;
}

/** Above so many operations, references in float64 take more than a few seconds, and `bench.part` is compared instead. */
const MOST_REFERENCE_FLOPS = 1.5e9;

/** Whether a case's whole reference takes too long. */
export const isLarge = ({ bench }: Contract, k: object): boolean =>
  bench !== undefined && bench.cost(k).flops > MOST_REFERENCE_FLOPS;

/**
 * Compiles the case's programs, without `backward` the forward one alone, and, with `check`, compares the forward pass with float64: all of it, or its `bench.part`.
 * @throws OdeltError ('wrong-result') for a kernel that computes wrong; OutOfMemoryError, LimitError for a case that does not fit.
 */
export async function prepareCase(
  engine: Engine,
  c: Contract,
  k: object,
  clock: Clock,
  check = true,
  backward = true,
): Promise<Prepared> {
  const differentiable = backward ? c.differentiable : [];
  const arrays = caseInputs(c, k);
  const tensors: Tensor[] = [];
  const own = <T extends Record<string, Tensor>>(made: T): T => {
    tensors.push(...Object.values(made));
    return made;
  };
  const programs: Repeated[] = [];
  const dispose = () => {
    for (const { program } of programs) program.dispose();
    for (const t of tensors) engine.release(t);
  };
  try {
    const inputs = own(uploadCase(engine, c, k, arrays));
    const outputs = backward ? record(engine, 'outputs', (ctx) => c.run(ctx, inputs, k)).result : {};
    const seeds = own(
      mapped(outputs, (y: Tensor, name) => {
        const size = maxSize(y);
        return engine.tensor(`seed(${name})`, [size], { data: new Float32Array(size).fill(1) });
      }),
    );
    const gradients = own(
      Object.fromEntries(differentiable.map((name) => [name, engine.tensor(`d(${name})`, inputs[name]!.shape)])),
    );
    const pass = (whole: boolean) => (ctx: Context) => {
      const tape = whole ? createTape() : null;
      ctx.tape = tape;
      for (const [name, gradient] of Object.entries(gradients)) tape?.watch(inputs[name]!, gradient);
      const made = c.run(ctx, inputs, k);
      if (!tape) return;
      const pairs = Object.entries(made).map(([name, y]) => [y, { ...seeds[name]!, shape: y.shape }] as const);
      tape.backward(ctx, pairs);
    };
    const compiled = async (whole: boolean): Promise<Repeated> => {
      const program = await compileRepeated(engine, c.name, clock, pass(whole));
      programs.push(program);
      return program;
    };
    const forward = await compiled(false);
    const both = differentiable.length > 0 ? await compiled(true) : null;
    if (!check) return { forward, both, accuracy: null, dispose };
    // After the first compilation, so that this finds warm pipelines and the cold seconds stay cold.
    const accuracy =
      c.bench?.part && isLarge(c, k)
        ? await checkPart(engine, c, k, inputs, arrays)
        : await checkWhole(engine, c, k, inputs, c.reference(arrays, k));
    return { forward, both, accuracy, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

async function checkWhole(
  engine: Engine,
  c: Contract,
  k: object,
  inputs: Record<string, Tensor>,
  want: ReturnType<Contract['reference']>,
): Promise<Comparison64> {
  const outputs = Object.values(want).reduce((sum, values) => sum + values.length, 0);
  return { error: await checkForward(engine, c, k, inputs, want), checked: outputs, outputs };
}

const mapped = <T, U>(from: Readonly<Record<string, T>>, f: (value: T, name: string) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(from).map(([name, value]) => [name, f(value, name)]));
