/**
 * What an ONNX file says of its inputs and outputs: their names, types and shapes. Reads the protocol buffer's outline and no weights;
 * computes nothing.
 */
import { CheckpointError } from '../engine/errors.ts';

/** An input or output of a network. */
export interface OnnxValue {
  readonly name: string;
  /** ONNX's number of the element type: 1 is float32. */
  readonly type: number;
  /** A number, or undefined for a size that is left open. */
  readonly shape: readonly (number | undefined)[];
}

/** The inputs that a network must be given, and its outputs. */
export interface OnnxOutline {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

/** Element type of float32. */
export const ONNX_FLOAT = 1;

/** Numbers of the fields that are looked at (onnx.proto). */
const MODEL = { irVersion: 1, graph: 7 } as const;
const GRAPH = { initializer: 5, input: 11, output: 12 } as const;
const TENSOR_NAME = 8;
const VALUE = { name: 1, type: 2 } as const;
const TYPE_TENSOR = 1;
const TENSOR_TYPE = { element: 1, shape: 2 } as const;
const SHAPE_DIMENSION = 1;
const DIMENSION_VALUE = 1;

/** One field of a message: a number, or bytes. Fields of fixed size are bytes. */
interface Field {
  readonly number: number;
  readonly value: number;
  readonly bytes: Uint8Array;
}

const NOTHING = new Uint8Array();
/** Bytes of the longest number. */
const LONGEST = 10;

/** The fields of a message, in order. `fail` is told what is wrong. */
function* fieldsOf(bytes: Uint8Array, fail: (problem: string) => never): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let i = 0; i < LONGEST; i++) {
      const byte = bytes[at++];
      if (byte === undefined) fail('ends within a number');
      value += (byte! & 0x7f) * 2 ** (7 * i);
      if (byte! < 0x80) return value;
    }
    return fail('holds a number that does not end');
  };
  const take = (length: number): Uint8Array => {
    if (!(length <= bytes.length - at))
      fail(`ends within a field of ${length} bytes, of which ${bytes.length - at} are there`);
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = varint();
    const [number, wire] = [Math.floor(key / 8), key % 8];
    if (number === 0) fail('holds a field without a number');
    if (wire === 0) yield { number, value: varint(), bytes: NOTHING };
    else if (wire === 2) yield { number, value: 0, bytes: take(varint()) };
    else if (wire === 1 || wire === 5) yield { number, value: 0, bytes: take(wire === 1 ? 8 : 4) };
    else fail(`holds a field of unknown kind ${wire}`);
  }
}

/**
 * The outline of an ONNX model's file held in memory; `file` is its name for messages. Inputs that have values in the file
 * (initializers, as older files list them) are left out.
 * @throws CheckpointError for bytes that are no ONNX model, or not the whole of one
 */
export function parseOnnx(bytes: Uint8Array, file: string): OnnxOutline {
  const fail = (problem: string): never => {
    throw new CheckpointError(`${file} is no whole ONNX model: it ${problem}`, { hint: 'export or fetch it again' });
  };
  const named = (message: Uint8Array, field: number): Field[] =>
    [...fieldsOf(message, fail)].filter(({ number }) => number === field);
  const text = (message: Uint8Array, field: number) =>
    new TextDecoder().decode(named(message, field).at(-1)?.bytes ?? NOTHING);
  const value = (message: Uint8Array): OnnxValue => {
    const [type] = named(message, VALUE.type);
    const [tensor] = named(type?.bytes ?? NOTHING, TYPE_TENSOR);
    const inside = tensor?.bytes ?? NOTHING;
    const [shape] = named(inside, TENSOR_TYPE.shape);
    return {
      name: text(message, VALUE.name),
      type: named(inside, TENSOR_TYPE.element).at(-1)?.value ?? 0,
      shape: named(shape?.bytes ?? NOTHING, SHAPE_DIMENSION).map(
        (dimension) => named(dimension.bytes, DIMENSION_VALUE).at(-1)?.value,
      ),
    };
  };
  const model = [...fieldsOf(bytes, fail)];
  const graph = model.findLast(({ number }) => number === MODEL.graph)?.bytes;
  if (graph === undefined || !model.some(({ number }) => number === MODEL.irVersion)) return fail('holds no graph');
  const parts = [...fieldsOf(graph, fail)];
  const of = (field: number) => parts.filter(({ number }) => number === field).map((part) => part.bytes);
  const initialised = new Set(of(GRAPH.initializer).map((tensor) => text(tensor, TENSOR_NAME)));
  const inputs = of(GRAPH.input)
    .map(value)
    .filter(({ name }) => !initialised.has(name));
  const outputs = of(GRAPH.output).map(value);
  if (inputs.length === 0 || outputs.length === 0) fail('names no input or no output');
  return { inputs, outputs };
}
