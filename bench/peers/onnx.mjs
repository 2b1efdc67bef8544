/**
 * ONNX models of the workloads, as bytes: a writer of the few messages of onnx.proto that they need, and the graphs. Weights are
 * initializers, as in an exported model, so that a runtime may lay them out as it likes; a graph's other inputs come at each run.
 */
import { concatenated as join } from '../../dist/formats/bytes.js';
import { applyLayer, CLAMP, GROUP_EPSILON, GROUPS, layersOf, outputShape } from './autoencoder.mjs';
import { EPSILON, isPictures, weightsIn } from './workloads.mjs';

const text = new TextEncoder();

function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.from([...bytes, Number(rest)]);
}

/** A field of type varint. */
const int = (field, value) => join([varint(field << 3), varint(value)]);
/** A field that is text, bytes or a message. */
function bytes(field, content) {
  const encoded = typeof content === 'string' ? text.encode(content) : content;
  return join([varint((field << 3) | 2), varint(encoded.length), encoded]);
}
const float = (field, value) => join([varint((field << 3) | 5), new Uint8Array(Float32Array.of(value).buffer)]);

const FLOAT = 1;
const INT64 = 7;

/** AttributeProto; a float is a number with a fraction. */
function attribute(name, value) {
  if (typeof value === 'string') return join([bytes(1, name), bytes(4, value), int(20, 3)]);
  if (Array.isArray(value)) return join([bytes(1, name), ...value.map((v) => int(8, v)), int(20, 7)]);
  if (Number.isInteger(value)) return join([bytes(1, name), int(3, value), int(20, 2)]);
  return join([bytes(1, name), float(2, value), int(20, 1)]);
}

/** ValueInfoProto of a float tensor. */
function valueInfo(name, shape) {
  const dims = shape.map((d) => bytes(1, int(1, d)));
  return join([bytes(1, name), bytes(2, bytes(1, join([int(1, FLOAT), bytes(2, join(dims))])))]);
}

/** TensorProto. */
function tensorProto(name, { shape, data }) {
  const type = data instanceof BigInt64Array ? INT64 : FLOAT;
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return join([...shape.map((d) => int(1, d)), int(2, type), bytes(8, name), bytes(9, raw)]);
}

/** A graph under construction: operations take names of values and give the names of their results. */
class Graph {
  #nodes = [];
  #initializers = [];

  /** A constant; its name. */
  constant(name, shape, data) {
    this.#initializers.push(bytes(5, tensorProto(name, { shape, data })));
    return name;
  }

  number(value) {
    return this.constant(`c${this.#initializers.length}`, [], Float32Array.of(value));
  }

  integers(...values) {
    return this.constant(`c${this.#initializers.length}`, [values.length], BigInt64Array.from(values, BigInt));
  }

  /** An operation with `count` results; the name of the result, or of all. */
  op(type, inputs, attributes = {}, count = 1) {
    const outputs = Array.from({ length: count }, (_, k) => `v${this.#nodes.length}.${k}`);
    const fields = [...inputs.map((name) => bytes(1, name)), ...outputs.map((name) => bytes(2, name)), bytes(4, type)];
    for (const [name, value] of Object.entries(attributes)) fields.push(bytes(5, attribute(name, value)));
    this.#nodes.push(bytes(1, join(fields)));
    return count === 1 ? outputs[0] : outputs;
  }

  /** ModelProto, whose output `y` is the value of that name. */
  model(inputs, value, shape) {
    this.#nodes.push(bytes(1, join([bytes(1, value), bytes(2, 'y'), bytes(4, 'Identity')])));
    const declared = Object.entries(inputs).map(([name, input]) => bytes(11, valueInfo(name, input.shape)));
    const graph = join([
      ...this.#nodes,
      bytes(2, 'workload'),
      ...this.#initializers,
      ...declared,
      bytes(12, valueInfo('y', shape)),
    ]);
    return join([int(1, 9), bytes(2, 'odelt'), bytes(7, graph), bytes(8, join([bytes(1, ''), int(2, 20)]))]);
  }
}

/** Unfused: runtimes' fused attention is 2 to 6 % wrong on software drivers. */
function attention(g, [q, k, v], { batch, tokens, width, heads }) {
  const shape = g.integers(batch, tokens, heads, width / heads);
  const split = (x, perm) => g.op('Transpose', [g.op('Reshape', [x, shape])], { perm });
  const logits = g.op('MatMul', [split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1])]);
  const weights = g.op('Softmax', [g.op('Mul', [logits, g.number(Math.sqrt(heads / width))])], { axis: -1 });
  const y = g.op('Transpose', [g.op('MatMul', [weights, split(v, [0, 2, 1, 3])])], { perm: [0, 2, 1, 3] });
  return g.op('Reshape', [y, g.integers(batch, tokens, width)]);
}

function modulate(g, x, shift, scale, { width }) {
  const ones = g.constant(`ones of ${x}`, [width], new Float32Array(width).fill(1));
  const normal = g.op('LayerNormalization', [x, ones], { axis: -1, epsilon: EPSILON });
  return g.op('Add', [g.op('Mul', [normal, g.op('Add', [scale, g.number(1)])]), shift]);
}

/** A modulation [B, count D] as `count` values [B, 1, D]. */
function parts(g, modulation, count, { batch, width }) {
  const rows = g.op('Reshape', [modulation, g.integers(batch, 1, count * width)]);
  return g.op('Split', [rows], { axis: -1, num_outputs: count }, count);
}

function block(g, x, c, dense, size) {
  const modulation = dense(g.op('Mul', [c, g.op('Sigmoid', [c])]), 'mod');
  const [shift1, scale1, gate1, shift2, scale2, gate2] = parts(g, modulation, 6, size);
  const h1 = modulate(g, x, shift1, scale1, size);
  const projected = ['q', 'k', 'v'].map((name) => dense(h1, name));
  const x1 = g.op('Add', [x, g.op('Mul', [gate1, dense(attention(g, projected, size), 'o')])]);
  const hidden = g.op('Gelu', [dense(modulate(g, x1, shift2, scale2, size), 'up')], { approximate: 'tanh' });
  return g.op('Add', [x1, g.op('Mul', [gate2, dense(hidden, 'down')])]);
}

/** Weights [taps * in, out] as ONNX has them, [out, in, side, side]. */
function turned(data, input, output, taps) {
  const w = new Float32Array(data.length);
  for (let tap = 0; tap < taps; tap++) {
    for (let c = 0; c < input; c++) {
      for (let n = 0; n < output; n++) w[(n * input + c) * taps + tap] = data[(tap * input + c) * output + n];
    }
  }
  return w;
}

/** The layers of an autoencoder, NCHW as exported models have them; what comes and goes is NHWC, as a runtime's own layout may be. */
function decoded(g, workload, weights) {
  const operations = {
    clamp: (x) => g.op('Mul', [g.op('Tanh', [g.op('Div', [x, g.number(CLAMP)])]), g.number(CLAMP)]),
    conv(x, part, { input, output, taps, relu, residual, double, bias }) {
      const side = Math.sqrt(taps);
      const data = turned(weights[`${part}.w`].data, input, output, taps);
      const w = g.constant(`${part}.w`, [output, input, side, side], data);
      const b = bias ? [g.constant(`${part}.b`, [output], weights[`${part}.b`].data)] : [];
      const scales = () => g.constant(`scales of ${part}`, [4], Float32Array.of(1, 1, 2, 2));
      const nearest = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
      const from = double ? g.op('Resize', [x, '', scales()], nearest) : x;
      const pads = Array.from({ length: 4 }, () => (side - 1) / 2);
      const y = g.op('Conv', [from, w, ...b], { kernel_shape: [side, side], pads });
      const sum = residual ? g.op('Add', [y, residual]) : y;
      return relu ? g.op('Relu', [sum]) : sum;
    },
    /** As PyTorch's exporter writes group norm for opset 20 and before: instance norm of the groups, then gain and bias. */
    norm(x, part, channels) {
      const [ones, zeros] = [1, 0].map((v) =>
        g.constant(`${v} of ${part}`, [GROUPS], new Float32Array(GROUPS).fill(v)),
      );
      const grouped = g.op('Reshape', [x, g.integers(1, GROUPS, -1)]);
      const normal = g.op('InstanceNormalization', [grouped, ones, zeros], { epsilon: GROUP_EPSILON });
      const [gain, bias] = ['g', 'b'].map((which) =>
        g.constant(`${part}.${which}`, [channels, 1, 1], weights[`${part}.${which}`].data),
      );
      const back = g.op('Reshape', [normal, g.op('Shape', [x])]);
      const v = g.op('Add', [g.op('Mul', [back, gain]), bias]);
      return g.op('Mul', [v, g.op('Sigmoid', [v])]);
    },
  };
  let x = g.op('Transpose', ['x'], { perm: [0, 3, 1, 2] });
  for (const layer of layersOf(workload)) x = applyLayer(layer, x, operations);
  return g.op('Transpose', [x], { perm: [0, 2, 3, 1] });
}

/** Of each kind that is inference: from a graph to the value that is the output. */
const KINDS = {
  product: (g) => g.op('MatMul', ['a', 'b']),
  attention: (g, size) => attention(g, ['q', 'k', 'v'], size),
  decoder: (g, size, weights) => decoded(g, { kind: 'decoder', size }, weights),
  stage: (g, size, weights) => decoded(g, { kind: 'stage', size }, weights),
  layernorm: (g, size) => modulate(g, 'x', ...parts(g, 'modulation', 2, size), size),
  block(g, size, weights) {
    for (const [name, { shape, data }] of Object.entries(weights)) g.constant(name, shape, data);
    let x = 'x';
    for (let i = 0; i < size.depth; i++) {
      const dense = (input, name) => g.op('Add', [g.op('MatMul', [input, `${i}.${name}.w`]), `${i}.${name}.b`]);
      x = block(g, x, 'c', dense, size);
    }
    return x;
  },
};

/**
 * A workload's model, the inputs that it is run with, and the shape of its output `y`. Undefined for what ONNX Runtime does not do:
 * gradients.
 */
export function onnxModel({ kind, size }, inputs) {
  if (!(kind in KINDS)) return undefined;
  const weights = weightsIn(inputs);
  const fed = Object.fromEntries(Object.entries(inputs).filter(([name]) => !(name in weights)));
  const rows = kind === 'product' ? [size.rows, size.columns] : [size.batch, size.tokens, size.width];
  const shape = isPictures({ kind }) ? outputShape({ kind, size }) : rows;
  const graph = new Graph();
  return { model: graph.model(fed, KINDS[kind](graph, size, weights), shape), fed, shape };
}
