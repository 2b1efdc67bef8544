/**
 * A digest of the kernels that a measurement was about: made from their WGSL and constants, so that it changes with them and
 * nobody has to remember a version number.
 */

import type { Context } from '../engine/context.ts';
import type { Engine } from '../engine/engine.ts';
import { record } from '../engine/program.ts';
import { type DType, type Shape, storageBytes, type Tensor, tensor } from '../engine/tensor.ts';
import { createTape } from '../kernels/derivatives.ts';
import type { Trial } from '../kernels/families.ts';
import type { Variant } from '../kernels/family.ts';
import { hash32 } from './hash.ts';
import { type Subject, trialOf, withVariant } from './problem.ts';

/** Makes a tensor that a trial needs besides its results. */
type Make = (label: string, shape: Shape, dtype?: DType) => Tensor;

/** Without memory: enough for recording. */
const placeless: Make = (label, shape, dtype = 'f32') =>
  tensor(label, shape, dtype, { label, bytes: storageBytes({ shape, dtype }), place: null });

/** Runs a trial's operation, and its backward where it has one. */
export function runTrial(ctx: Context, { contract: c, case: k }: Trial, make: Make = placeless): void {
  const inputs = Object.fromEntries(
    Object.entries(c.inputs(k)).map(([name, { shape, dtype }]) => [name, make(name, shape, dtype)]),
  );
  const tape = c.differentiable.length > 0 ? createTape() : null;
  for (const name of c.differentiable) tape?.watch(inputs[name]!, make(`d(${name})`, inputs[name]!.shape));
  ctx.tape = tape;
  const outputs = Object.entries(c.run(ctx, inputs, k));
  tape?.backward(
    ctx,
    outputs.map(([name, y]) => [y, make(`seed(${name})`, y.shape)] as const),
  );
}

/** Of the kernels behind these variants, on this engine. Links them, which later uses then need not; touches no GPU. */
export async function fingerprint(engine: Engine, subject: Subject, ids: readonly string[]): Promise<string> {
  const parts = new Set<string>();
  for (const id of new Set(ids)) {
    const variant: Variant | undefined = subject.candidates.find((v) => v.id === id);
    parts.add(JSON.stringify(variant));
    await withVariant(engine, subject, id, () => {
      const { recording } = record(engine, 'fingerprint', (ctx) => runTrial(ctx, trialOf(subject, 2)));
      for (const { dispatch } of recording.nodes) {
        const { kernel, entry, constants } = dispatch;
        parts.add(JSON.stringify([kernel.name, kernel.source, entry, constants]));
      }
    });
  }
  const text = [...parts].sort().join('\n');
  // 64 bits: against change, not against malice.
  return hash32(text) + hash32(text, 0x5bd1e995);
}
