/**
 * What a dispatch computes and moves, from its parameters and the sizes of its tensors: arithmetic of the operation, not of a kernel
 * that does more, and bytes as if every element were loaded or stored once. What is not in the table costs null, not nought.
 */
import { type CheckedDispatch, gridOf } from '../engine/kernel.ts';
import { evaluate, type ScalarValues } from '../engine/scalar.ts';
import { lastDim, rowSize, type Tensor } from '../engine/tensor.ts';

/** A tensor as one run binds it. */
interface Bound {
  /** Rows that count in this run, then the other dimensions. */
  readonly shape: readonly number[];
  readonly elements: number;
  readonly bytes: number;
}

/** One dispatch of one run, symbols evaluated. */
export interface DispatchWork {
  /** Scopes, kernel and entry. */
  readonly label: string;
  /** `kernel/entry`, and of products how their factors are stored. */
  readonly kernel: string;
  /** Workgroups, before a long row of them is folded. */
  readonly grid: readonly number[];
  readonly constants: Readonly<Record<string, number | boolean>>;
  readonly params: Readonly<Record<string, number>>;
  /** Additions and multiplications; null where the table does not know. */
  readonly flops: number | null;
  readonly bytes: number | null;
}

interface Facts {
  readonly params: Readonly<Record<string, number>>;
  readonly tensors: Readonly<Record<string, Bound>>;
}

interface Rule {
  readonly flops?: (facts: Facts) => number;
  /** Default: every bound tensor once. */
  readonly bytes?: (facts: Facts) => number;
}

const once = ({ tensors }: Facts): number => Object.values(tensors).reduce((sum, t) => sum + t.bytes, 0);
/** Tensors that are read and written in place count once more. */
const twice =
  (...names: readonly string[]) =>
  (facts: Facts): number =>
    once(facts) + names.reduce((sum, name) => sum + facts.tensors[name]!.bytes, 0);
const perElement =
  (tensor: string, each: number) =>
  ({ tensors }: Facts): number =>
    each * tensors[tensor]!.elements;

/** `pairs` multiply-adds for every query, key and feature: q k', and what becomes of the weights. */
const attention =
  (pairs: number) =>
  ({ tensors }: Facts): number => {
    const { elements, shape } = tensors.q!;
    return 2 * pairs * elements * shape[1]!;
  };

/** By kernel (up to a dot, behind which variants have their own names) and entry. */
const RULES: Readonly<Record<string, Readonly<Record<string, Rule>>>> = {
  matmul: { matmul: { flops: ({ params: { M, N, K } }) => 2 * M! * N! * K!, bytes: productBytes } },
  attention: {
    forward: { flops: attention(2) },
    // Logits and their gradients are made anew: q k', dout v' and ds k; and for keys and values two results instead of one.
    backward_q: { flops: attention(3) },
    backward_kv: { flops: attention(4) },
  },
  layernorm: {
    // One view of the modulation is bound, shift and scale are read.
    forward: { flops: perElement('x', 8), bytes: twice('modulation') },
    backward_x: {},
    backward_mod: {},
  },
  adamw: {
    update: { flops: perElement('weights', 20), bytes: twice('weights', 'm', 'v', 'ema') },
    applied: { flops: perElement('weights', 9) },
  },
  add: { add: { flops: perElement('b', 1) }, add_each: { flops: perElement('a', 1) }, copy: { flops: () => 0 } },
  reduce: {
    sum: { flops: perElement('x', 1) },
    squares: { flops: perElement('x', 2) },
    root: {},
    sum_bits: {},
    non_finite: {},
  },
  histogram: { count: { flops: () => 0 }, merge: { flops: perElement('words', 1) } },
  columns: { columns: { flops: perElement('x', 1) } },
  gather: {
    // Rows of the table that are asked for, not the table.
    gather: { flops: () => 0, bytes: ({ tensors: { indices, rows_out } }) => indices!.bytes + 2 * rows_out!.bytes },
    scatter: { flops: () => 0, bytes: ({ tensors: { indices, rows_in } }) => indices!.bytes + 2 * rows_in!.bytes },
    link: {},
    backward: {},
  },
  conv: {
    convolve: {
      flops: ({ params: { rows, columns, side, channels } }) => 2 * rows! * columns! * side! ** 2 * channels!,
    },
    turn: {},
  },
  groupnorm: {
    measure: { flops: perElement('x', 4) },
    combine: { flops: perElement('parts', 4) },
    normalise: {
      flops: ({ params: { rows, width, channels } }) => 3 * rows! * width! * channels!,
      // Rows of a band may be few of those that its tensors have.
      bytes: ({ params: { rows, width, channels }, tensors: { table, bias } }) =>
        8 * rows! * width! * channels! + table!.bytes + bias!.bytes,
    },
    // The slope, without an activation's; what it multiplies, and the sums.
    measure_dy: { flops: perElement('x', 7) },
    combine_dy: { flops: perElement('parts', 2) },
    differentiate: { flops: perElement('x', 9) },
  },
  rows: { copy: { flops: () => 0, bytes: ({ params: { rows, width } }) => 8 * rows! * width! } },
  softmax: { forward: { flops: perElement('x', 6) }, backward: { flops: perElement('dy', 5) } },
  affine: { forward: { flops: perElement('x', 2) }, backward: { flops: perElement('dy', 2) } },
  elementwise: { silu_forward: {}, silu_backward: {}, gelu_backward: {}, relu_backward: {} },
  mul: { multiply: {} },
  gate: { forward: {}, backward: {} },
  chunk: { join: { flops: () => 0 } },
  patches: { patchify: { flops: () => 0 }, unpatchify: { flops: () => 0 } },
  flow: {
    interpolate: {},
    mix_by: {},
    advance: { bytes: twice('result') },
    advance_each: {},
    advance_within: {},
    mix_each: {},
    toward: {},
    toward_backward: {},
  },
  // Slots that count are read, one binding of all of them is made.
  stages: { combine: {}, scaled: {}, store: { flops: () => 0, bytes: ({ tensors }) => 2 * tensors.x!.bytes } },
  mse: { parts: {}, samples: {}, total: {}, backward: {} },
  'cross-entropy': {
    forward: { flops: perElement('scores', 4) },
    total: { flops: perElement('samples_in', 1) },
    backward: { flops: perElement('scores', 4) },
  },
  random: { uniforms: {}, normals: {} },
  dropout: { apply: {} },
  sinusoid: { forward: {} },
};

/** Of a result that is N of `stride` columns, only those are written. */
function productBytes({ params: { N, stride }, tensors }: Facts): number {
  const share = stride ? Math.min(1, N! / stride) : 1;
  return Object.entries(tensors).reduce(
    (sum, [name, { bytes }]) => sum + bytes * (name === 'c' || name === 'pre' || name === 'residual' ? share : 1),
    0,
  );
}

function boundTensor(t: Tensor, values: ScalarValues): Bound {
  const rows = evaluate(t.shape[0], values);
  const elements = rows * rowSize(t);
  const words = t.dtype === 'f16' ? elements / 2 : t.dtype === 'i8' ? Math.ceil(elements / 4) + lastDim(t) : elements;
  return { shape: [rows, ...(t.shape.slice(1) as number[])], elements, bytes: 4 * Math.ceil(words) };
}

/** What a dispatch does when its program runs with these values. */
export function dispatchWork(node: CheckedDispatch, values: ScalarValues = {}): DispatchWork {
  const { kernel, entry, constants = {}, params: given = {}, grid: asked } = node.dispatch;
  const params = Object.fromEntries(Object.entries(given).map(([name, s]) => [name, evaluate(s, values)]));
  const grid = gridOf(asked).map((g) => evaluate(g, values));
  const tensors = Object.fromEntries(node.bindings.map((b) => [b.name, boundTensor(b.tensor, values)]));
  const rule = RULES[kernel.name.split('.')[0]!]?.[entry];
  const facts = { params, tensors };
  const cost = (how: ((facts: Facts) => number) | undefined): number | null => {
    if (grid.includes(0)) return 0;
    const found = how?.(facts);
    // A kernel that names its numbers otherwise is none that the table knows.
    return found !== undefined && Number.isFinite(found) ? found : null;
  };
  return {
    label: node.label,
    kernel: `${kernel.name}/${entry}${layoutOf(constants)}`,
    grid,
    constants,
    params,
    flops: rule ? cost(rule.flops) : cost(undefined),
    bytes: rule ? cost(rule.bytes ?? once) : cost(undefined),
  };
}

function layoutOf({ TRANSPOSE_A, TRANSPOSE_B }: Readonly<Record<string, number | boolean>>): string {
  if (TRANSPOSE_A === undefined && TRANSPOSE_B === undefined) return '';
  return ` ${TRANSPOSE_A ? 'T' : 'N'}${TRANSPOSE_B ? 'T' : 'N'}`;
}
