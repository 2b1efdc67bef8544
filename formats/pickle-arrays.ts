/** What the pickles of NumPy, JAX, Flax and Optax mean: which names they use, and the arrays, numbers and dictionaries behind them. */
import { CheckpointError } from '../engine/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { PickleCall, PickleKey, PickleValue } from './pickle.ts';
import type { Dtype } from './safetensors-header.ts';
import {
  contiguousStrides,
  counts,
  elementBytes,
  elementCount,
  numbersOf,
  type StoredTensor,
  spanOf,
} from './stored-tensor.ts';

/** NumPy's modules were renamed in version 2. */
const numpyCore = (name: string) => [`numpy._core.${name}`, `numpy.core.${name}`];
const optax = (module: string, names: readonly string[]) => names.map((name) => `optax._src.${module}.${name}`);

const RECONSTRUCT = numpyCore('multiarray._reconstruct');
const SCALAR = numpyCore('multiarray.scalar');
const FROM_BUFFER = numpyCore('numeric._frombuffer');
const JAX_ARRAY = ['jax._src.array._reconstruct_array', 'jax._src.device_array.reconstruct_device_array'];
const BFLOAT16 = 'ml_dtypes.bfloat16';
const ENCODE = '_codecs.encode';
const FROZEN_DICT = 'flax.core.frozen_dict.FrozenDict';
const ORDERED_DICT = 'collections.OrderedDict';
const NAMESPACE = 'argparse.Namespace';
const BYTES = ['__builtin__.bytearray', 'builtins.bytearray', '__builtin__.bytes', 'builtins.bytes'];

const STATES = [
  ...optax('base', ['EmptyState']),
  ...optax('transform', ['ScaleByAdamState', 'ScaleByScheduleState', 'TraceState', 'EmaState', 'ScaleState']),
  ...optax('transform', ['AddDecayedWeightsState', 'ApplyEvery', 'ScaleByRmsState', 'ScaleByLionState']),
  ...optax('transforms._accumulation', ['TraceState', 'EmaState', 'MultiStepsState']),
  ...optax('transforms._masking', ['MaskedState', 'MaskedNode']),
  ...optax('schedule', ['InjectHyperparamsState', 'InjectStatefulHyperparamsState']),
  ...optax('wrappers', ['MultiStepsState', 'MaskedState', 'MaskedNode']),
];

/** Everything that checkpoints of the reference and of shortcut-models name. */
export const ARRAY_NAMES: ReadonlySet<string> = new Set([
  ...[...RECONSTRUCT, ...SCALAR, ...FROM_BUFFER, ...JAX_ARRAY, ...STATES, ...BYTES],
  ...['numpy.dtype', 'numpy.ndarray', BFLOAT16, ENCODE, FROZEN_DICT, ORDERED_DICT, NAMESPACE],
]);

/** The value as a call, if it is one of one of these names. */
export function callOf(value: PickleValue | undefined, ...names: readonly string[]): PickleCall | undefined {
  const isCall = typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'call';
  return isCall && names.includes(value.name) ? value : undefined;
}

/** The entries of a dictionary, whatever kind of one it is; undefined for another value. */
export function dictOf(value: PickleValue | undefined): ReadonlyMap<PickleKey, PickleValue> | undefined {
  if (value instanceof Map) return value;
  const frozen = callOf(value, FROZEN_DICT);
  if (frozen?.args[0] instanceof Map) return frozen.args[0];
  const namespace = callOf(value, NAMESPACE);
  if (namespace) return namespace.state instanceof Map ? namespace.state : new Map();
  const ordered = callOf(value, ORDERED_DICT);
  if (!ordered) return undefined;
  // Python 2 gave the entries as a list of pairs.
  const pairs = Array.isArray(ordered.args[0]) ? ordered.args[0] : [];
  const given = pairs.filter((pair): pair is [PickleKey, PickleValue] => Array.isArray(pair) && pair.length === 2);
  return new Map([...given, ...ordered.items]);
}

/** The fields of one of Optax' named tuples; undefined for another value. */
export const optaxState = (value: PickleValue | undefined, name: string): readonly PickleValue[] | undefined => {
  const found = callOf(value, ...STATES.filter((state) => state.endsWith(`.${name}`)));
  return found?.args;
};

const TYPES: Readonly<Record<string, Dtype>> = {
  ...{ f8: 'F64', f4: 'F32', f2: 'F16', i8: 'I64', i4: 'I32', i2: 'I16', i1: 'I8' },
  ...{ u8: 'U64', u4: 'U32', u2: 'U16', u1: 'U8', b1: 'BOOL', bfloat16: 'BF16' },
};

type Fail = (problem: string) => never;

function typeOf(dtype: PickleValue | undefined, fail: Fail): Dtype {
  const call = callOf(dtype, 'numpy.dtype');
  if (!call) return fail('holds an array of no known type');
  const [given] = call.args;
  const isBfloat16 = typeof given === 'object' && given !== null && 'kind' in given && given.kind === 'name';
  const name = isBfloat16 && given.name === BFLOAT16 ? 'bfloat16' : String(given);
  const type = Object.hasOwn(TYPES, name)
    ? TYPES[name]!
    : fail(`holds an array of ${name.slice(0, 40)}, which is no number`);
  const order = Array.isArray(call.state) ? call.state[1] : '<';
  if (order === '>' && elementBytes(type) > 1) fail('holds numbers with their highest byte first');
  return type;
}

/** Bytes of an array: those in the file, or those that protocol 2 wrote as text. */
interface RawBytes {
  readonly size: number;
  load(): Promise<Uint8Array>;
}

function bytesOf(value: PickleValue | undefined, source: ByteSource, fail: Fail): RawBytes {
  if (typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'bytes') {
    return { size: value.end - value.begin, load: () => source.read(value.begin, value.end) };
  }
  const made = callOf(value, ...BYTES);
  if (made)
    return made.args.length === 0
      ? { size: 0, load: async () => new Uint8Array() }
      : bytesOf(made.args[0], source, fail);
  // Python 2's strings, and the way that protocol 2 has for bytes.
  const text = callOf(value, ENCODE)?.args[0] ?? value;
  if (typeof text === 'string') {
    return { size: text.length, load: async () => Uint8Array.from(text, (char) => char.charCodeAt(0)) };
  }
  return fail('holds an array whose numbers are no bytes');
}

function tensorOf(type: Dtype, shape: readonly number[], columns: boolean, raw: RawBytes, fail: Fail): StoredTensor {
  const strides = contiguousStrides(shape, columns);
  const size = elementCount(shape) * elementBytes(type);
  if (raw.size !== size) fail(`holds an array of shape [${shape}] in ${raw.size} bytes; it takes ${size}`);
  spanOf(shape, strides, elementCount(shape), fail);
  return { type, shape, strides, bytes: size, load: raw.load };
}

/**
 * The array that a value stands for, NumPy's or JAX'; a single number is an array of shape []. Undefined for another value.
 * `source` is the pickle's, `name` what the array is called in messages.
 * @throws CheckpointError for an array that does not fit its bytes or does not hold numbers.
 */
export function arrayOf(value: PickleValue | undefined, source: ByteSource, name: string): StoredTensor | undefined {
  const fail: Fail = (problem) => {
    throw new CheckpointError(`${name} ${problem}`, { hint: 'the file is damaged, or was written by something else' });
  };
  const scalar = callOf(value, ...SCALAR);
  if (scalar) return tensorOf(typeOf(scalar.args[0], fail), [], false, bytesOf(scalar.args[1], source, fail), fail);
  const buffer = callOf(value, ...FROM_BUFFER);
  if (buffer) {
    const [bytes, dtype, shape, order] = buffer.args;
    const sizes = counts(shape, "an array's shape", fail);
    return tensorOf(typeOf(dtype, fail), sizes, order === 'F', bytesOf(bytes, source, fail), fail);
  }
  const jax = callOf(value, ...JAX_ARRAY);
  const state = jax ? jax.args[2] : callOf(value, ...RECONSTRUCT)?.state;
  if (!jax && !callOf(value, ...RECONSTRUCT)) return undefined;
  if (!Array.isArray(state) || state.length !== 5) return fail('holds an array without its state');
  const [, shape, dtype, columns, bytes] = state;
  const type = typeOf(dtype, fail);
  return tensorOf(type, counts(shape, "an array's shape", fail), columns === true, bytesOf(bytes, source, fail), fail);
}

/** A number, given as one or as an array of one. */
export async function numberOf(
  value: PickleValue | undefined,
  source: ByteSource,
  name: string,
): Promise<number | undefined> {
  if (typeof value === 'number') return value;
  const array = arrayOf(value, source, name);
  return array && elementCount(array.shape) === 1 ? (await numbersOf(array, name))[0] : undefined;
}

/** Most tensors of a checkpoint, and most dictionaries in one another. */
const MOST_TENSORS = 65_536;
const DEEPEST = 32;

/**
 * Arrays of dictionaries in dictionaries, by their path joined with "/"; other values are left out. `leaf` says what is one.
 * @throws CheckpointError for more than 65,536 values, or dictionaries that hold themselves.
 */
export function flattened(
  tree: PickleValue | undefined,
  leaf: (value: PickleValue, path: string) => StoredTensor | undefined,
  file: string,
): Map<string, StoredTensor> {
  const found = new Map<string, StoredTensor>();
  let visited = 0;
  const visit = (value: PickleValue, path: string, depth: number) => {
    if (++visited > MOST_TENSORS) throw new CheckpointError(`${file} holds more than ${MOST_TENSORS} values`);
    const dict = dictOf(value);
    if (!dict) {
      const tensor = leaf(value, path);
      if (tensor) found.set(path, tensor);
      return;
    }
    if (depth === DEEPEST) throw new CheckpointError(`${file} holds more than ${DEEPEST} dictionaries in one another`);
    for (const [key, inner] of dict) visit(inner, path === '' ? String(key) : `${path}/${key}`, depth + 1);
  };
  if (tree !== undefined) visit(tree, '', 0);
  return found;
}
