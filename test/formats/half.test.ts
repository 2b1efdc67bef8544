/** Half and bfloat16 conversions, for every value and every border between two. */
import { expect, test } from 'vitest';
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from '../../formats/half.ts';

const everyHalf = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** A half's value by the definition of the format. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

test('all 65,536 halves have their value in float32 and come back unchanged', () => {
  const values = fromHalf(everyHalf);
  const back = toHalf(values);
  for (const bits of everyHalf) {
    if (!Object.is(values[bits], halfValue(bits))) expect([bits, values[bits]]).toEqual([bits, halfValue(bits)]);
    const nan = Number.isNaN(values[bits]);
    // A signalling NaN comes back quiet: the same but for the quiet bit.
    if (back[bits] !== (nan ? bits | 0x200 : bits)) expect([bits, back[bits]]).toEqual([bits, bits]);
  }
});

/** The floats next to a value: one unit in the last place below and above. */
function neighbours(value: number): [number, number] {
  const buffer = new DataView(new ArrayBuffer(4));
  buffer.setFloat32(0, value);
  const bits = buffer.getUint32(0);
  buffer.setUint32(0, bits - 1);
  const below = buffer.getFloat32(0);
  buffer.setUint32(0, bits + 1);
  return [below, buffer.getFloat32(0)];
}

test('rounding to half goes to the nearest, ties to even, at every border between two halves', () => {
  for (let low = 0; low < 0x7c00; low++) {
    // The border above the largest half is where its successor would begin, were there one.
    const high = low === 0x7bff ? 65536 : halfValue(low + 1);
    const border = (halfValue(low) + high) / 2;
    const [below, above] = neighbours(border);
    const even = low % 2 === 0 ? low : low + 1;
    const bits = [...toHalf(Float32Array.of(below, border, above, -below, -border, -above))];
    const expected = [low, even, low + 1, low | 0x8000, even | 0x8000, (low + 1) | 0x8000];
    if (bits.some((b, i) => b !== expected[i])) expect([low, bits]).toEqual([low, expected]);
  }
  const special = Float32Array.of(Infinity, -Infinity, 1e30, -0, 2 ** -149, 65519.996);
  expect([...toHalf(special)]).toEqual([0x7c00, 0xfc00, 0x7c00, 0x8000, 0, 0x7bff]);
});

test('all 65,536 bfloat16 values come back, and borders between them round to the nearest, ties to even', () => {
  const values = fromBfloat16(everyHalf);
  const back = toBfloat16(values);
  for (const bits of everyHalf) {
    const nan = Number.isNaN(values[bits]);
    if (back[bits] !== (nan ? bits | 0x40 : bits)) expect([bits, back[bits]]).toEqual([bits, bits]);
  }
  const words = Uint32Array.of(0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff, 0x7f800001, 0x80008000);
  const rounded = [...toBfloat16(new Float32Array(words.buffer))];
  expect(rounded).toEqual([0x3f80, 0x3f82, 0x3f80, 0x3f81, 0x7f80, 0x7fc0, 0x8000]);
});
