/** Packing of a kernel's parameters into its 256-byte uniform block, by the reflected layout. */
import { UsageError } from './errors.ts';
import type { CheckedDispatch } from './kernel.ts';
import { PARAMS_BYTES } from './pipeline.ts';
import { isSym } from './scalar.ts';
import type { ParamField } from './wgsl.ts';

/** Writes the parameters of `d` that are numbers at byte `offset` of `target`; those that are symbols wait for `packField`. */
export function packParams(d: CheckedDispatch, target: DataView, offset: number): void {
  for (const field of d.entry.params) {
    if (field.offset + 4 > PARAMS_BYTES) throw new UsageError(`${d.label}: Params exceed ${PARAMS_BYTES} bytes`);
    const value = d.dispatch.params![field.name]!;
    if (!isSym(value)) packField(d, field, value, target, offset);
  }
}

/** Writes one parameter. @throws UsageError for a value that its type cannot hold. */
export function packField(
  d: CheckedDispatch,
  field: ParamField,
  value: number,
  target: DataView,
  offset: number,
): void {
  if (Number.isNaN(value)) throw new UsageError(`${d.label}: parameter ${field.name} is NaN`);
  const at = offset + field.offset;
  if (field.type === 'f32') target.setFloat32(at, value, true);
  else if (field.type === 'u32') target.setUint32(at, integer(d, field.name, value, 0, 0xffffffff), true);
  else target.setInt32(at, integer(d, field.name, value, -0x80000000, 0x7fffffff), true);
}

function integer(d: CheckedDispatch, name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new UsageError(`${d.label}: parameter ${name} is ${value}, not an integer in ${min}..${max}`);
  }
  return value;
}
