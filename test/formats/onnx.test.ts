/** What an ONNX file says of its inputs and outputs, and what is refused as no ONNX file, or not the whole of one. */
import { expect, it } from 'vitest';
import { CheckpointError } from '../../engine/errors.ts';
import { parseOnnx } from '../../formats/onnx.ts';
import { denseOnnx } from '../support/onnx.ts';

const weights = Float32Array.from({ length: 12 * 200 }, (_, i) => i);
const file = denseOnnx({ shape: ['N', 3, 2, 2], weights, outputs: 200 });

it('names, types and shapes are read; sizes that are left open are undefined', () => {
  expect(parseOnnx(file, 'net.onnx')).toEqual({
    inputs: [{ name: 'pictures', type: 1, shape: [undefined, 3, 2, 2] }],
    outputs: [{ name: 'features', type: 1, shape: [undefined, 200] }],
  });
});

it('weights that old files list among the inputs are none', () => {
  const listed = denseOnnx({ shape: [300, 'rows', 4, 1], weights, outputs: 200, listed: true, type: 10 });
  expect(parseOnnx(listed, 'net.onnx').inputs).toEqual([{ name: 'pictures', type: 10, shape: [300, undefined, 4, 1] }]);
});

it('every truncation is refused, and names the file', () => {
  // The last field is the version of the operators; cut before it, the graph is still whole.
  for (const length of [0, 1, 2, 5, 9, 10, 40, 1000, file.length - 300, file.length - 8]) {
    expect(() => parseOnnx(file.subarray(0, length), 'net.onnx'), `${length} bytes`).toThrow(CheckpointError);
  }
  expect(() => parseOnnx(file.subarray(0, 1000), 'net.onnx')).toThrow(
    /^net\.onnx is no whole ONNX model: it ends within a field of \d+ bytes, of which \d+ are there$/,
  );
});

it.each([
  [[0x08, 0x08], 'holds no graph'],
  [[0x00], 'holds a field without a number'],
  [[0x0b], 'holds a field of unknown kind 3'],
  [[0x08, ...Array(11).fill(0xff)], 'holds a number that does not end'],
  [[0x08, 0xff], 'ends within a number'],
  [[0x08, 0x08, 0x3a, 0x00], 'names no input or no output'],
  [[...new TextEncoder().encode('PK\x03\x04')], 'ONNX'],
])('%j is no model', (start, problem) => {
  expect(() => parseOnnx(Uint8Array.from(start), 'other')).toThrow(problem);
});
