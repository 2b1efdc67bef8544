/**
 * What all programs of one case share: its tensors on the GPU and what must come out of it. The host makes them once, however many
 * variants are prepared; of large cases that takes longer than all that a GPU does with them.
 */
import type { Engine } from '../engine/engine.ts';
import { record } from '../engine/program.ts';
import { maxSize, type Tensor } from '../engine/tensor.ts';
import { type CaseTensors, checkForward, checkPart, releaseCase, uploadCase } from '../kernels/check.ts';
import type { Arrays, Contract } from '../kernels/contract.ts';
import { caseInputs, expectPart } from '../kernels/expected.ts';

/** What was compared with float64. */
export interface Comparison64 {
  /** Largest relative error. */
  readonly error: number;
  /** Outputs compared, of so many. */
  readonly checked: number;
  readonly outputs: number;
}

/** Above so many operations, references in float64 take more than a few seconds, and `bench.part` is compared instead. */
const MOST_REFERENCE_FLOPS = 1.5e9;

/** Whether a case's whole reference takes too long. */
export const isLarge = ({ bench }: Contract, k: object, most = MOST_REFERENCE_FLOPS): boolean =>
  bench !== undefined && bench.cost(k).flops > most;

/** How a case is made ready. */
export interface ReadyOptions {
  /** Makes what a backward pass needs, too, where there is one. */
  readonly backward: boolean;
  /** Operations of a case whose whole output is compared, where it could be part of it. */
  readonly mostFlops?: number;
}

/** A case's tensors, and the check of whatever computes it. The caller disposes it. */
export interface ReadyCase extends CaseTensors {
  /** Runs the operation forward and compares it with float64. @throws OdeltError ('wrong-result'). */
  check(): Promise<Comparison64>;
  /** Frees its tensors. */
  dispose(): void;
}

/** Draws and uploads the inputs of a case. @throws OutOfMemoryError, LimitError for one that does not fit. */
export async function readyCase(engine: Engine, c: Contract, k: object, options: ReadyOptions): Promise<ReadyCase> {
  const differentiable = options.backward ? c.differentiable : [];
  let arrays: Arrays | null = caseInputs(c, k);
  const inputs = uploadCase(engine, c, k, arrays);
  const seeds: Record<string, Tensor> = {};
  const gradients: Record<string, Tensor> = {};
  const dispose = () => releaseCase(engine, { inputs, seeds, gradients });
  /** Of the arrays, which are not kept: they take twice as much as the tensors. */
  const expected = <T>(make: (from: Arrays) => T): T => {
    const made = make(arrays!);
    arrays = null;
    return made;
  };
  let compare: (() => Promise<Comparison64>) | undefined;
  const comparison = (): (() => Promise<Comparison64>) => {
    if (c.bench?.part && isLarge(c, k, options.mostFlops)) {
      const part = expected((from) => expectPart(c, k, from));
      return () => checkPart(engine, c, k, inputs, {}, part);
    }
    const want = expected((from) => c.reference(from, k));
    const outputs = Object.values(want).reduce((sum, values) => sum + values.length, 0);
    return async () => ({ error: await checkForward(engine, c, k, inputs, want), checked: outputs, outputs });
  };
  try {
    if (differentiable.length > 0) {
      const { result } = record(engine, 'outputs', (ctx) => c.run(ctx, inputs, k));
      for (const [name, y] of Object.entries(result)) {
        const data = new Float32Array(maxSize(y)).fill(1);
        seeds[name] = engine.tensor(`seed(${name})`, [data.length], { data });
      }
      for (const name of differentiable) gradients[name] = engine.tensor(`d(${name})`, inputs[name]!.shape);
    }
    await engine.allocated();
  } catch (error) {
    dispose();
    throw error;
  }
  return {
    ...{ inputs, seeds, gradients, dispose },
    check() {
      compare ??= comparison();
      return compare();
    },
  };
}
