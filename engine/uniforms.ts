/** Packing of a kernel's parameters into its 256-byte uniform block, by the reflected layout. */
import { UsageError } from './errors.ts';
import type { CheckedDispatch } from './kernel.ts';
import { PARAMS_BYTES } from './pipeline.ts';
import { evaluate, isSym, type ScalarValues } from './scalar.ts';

/** Writes the parameters of `d`, evaluated with `values`, at byte `offset` of `target`. */
export function packParams(d: CheckedDispatch, values: ScalarValues, target: DataView, offset: number): void {
  for (const field of d.entry.params) {
    const value = evaluate(d.dispatch.params![field.name]!, values);
    if (field.offset + 4 > PARAMS_BYTES) throw new UsageError(`${d.label}: Params exceed ${PARAMS_BYTES} bytes`);
    if (Number.isNaN(value)) throw new UsageError(`${d.label}: parameter ${field.name} is NaN`);
    if (field.type === 'f32') target.setFloat32(offset + field.offset, value, true);
    else if (field.type === 'u32')
      target.setUint32(offset + field.offset, integer(d, field.name, value, 0, 0xffffffff), true);
    else target.setInt32(offset + field.offset, integer(d, field.name, value, -0x80000000, 0x7fffffff), true);
  }
}

function integer(d: CheckedDispatch, name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new UsageError(`${d.label}: parameter ${name} is ${value}, not an integer in ${min}..${max}`);
  }
  return value;
}

export const hasSymbolicParams = (d: CheckedDispatch): boolean => Object.values(d.dispatch.params ?? {}).some(isSym);
