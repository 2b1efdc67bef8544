/** ONNX files made for tests: a network of one dense layer, as the protocol buffer that exporters write (onnx.proto). */

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
const number = (field: number, value: number): number[] => [...varint(field * 8), ...varint(value)];
const bytes = (field: number, content: Iterable<number>): number[] => {
  const inside = [...content];
  return [...varint(field * 8 + 2), ...varint(inside.length), ...inside];
};
const text = (field: number, value: string): number[] => bytes(field, new TextEncoder().encode(value));

/** A name for a size that is left open. */
type Size = number | string;

const value = (field: number, name: string, shape: readonly Size[], type = 1): number[] => {
  const dimensions = shape.flatMap((size) => bytes(1, typeof size === 'number' ? number(1, size) : text(2, size)));
  return bytes(field, [...text(1, name), ...bytes(2, bytes(1, [...number(1, type), ...bytes(2, dimensions)]))]);
};

const node = (op: string, inputs: readonly string[], output: string): number[] =>
  bytes(1, [...inputs.flatMap((name) => text(1, name)), ...text(2, output), ...text(4, op)]);

/** What differs from a network of grey pictures in float32. */
export interface Dense {
  /** Of the input 'pictures'. */
  readonly shape: readonly Size[];
  /** [numbers of a picture, outputs] */
  readonly weights: Float32Array;
  readonly outputs: number;
  readonly type?: number;
  /** Lists the weights among the inputs, too, as old exporters do. */
  readonly listed?: boolean;
  readonly secondInput?: boolean;
}

/** features = flatten(pictures) weights. */
export function denseOnnx({ shape, weights, outputs, type, listed, secondInput }: Dense): Uint8Array<ArrayBuffer> {
  const sides = [weights.length / outputs, outputs];
  const raw = new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
  const graph = [
    ...node('Flatten', ['pictures'], 'flat'),
    ...node('MatMul', ['flat', 'weights'], 'features'),
    ...text(2, 'dense'),
    ...bytes(5, [...sides.flatMap((n) => number(1, n)), ...number(2, 1), ...text(8, 'weights'), ...bytes(9, raw)]),
    ...(listed ? value(11, 'weights', sides) : []),
    ...value(11, 'pictures', shape, type),
    ...(secondInput ? value(11, 'mask', [1]) : []),
    ...value(12, 'features', [shape[0]!, outputs]),
  ];
  return Uint8Array.from([...number(1, 8), ...text(2, 'test'), ...bytes(7, graph), ...bytes(8, number(2, 13))]);
}
