/** Files of PyTorch's torch.save: a zip file with a pickle of the structure and one entry of bytes per storage. */
import { CheckpointError } from '../engine/errors.ts';
import { type ByteSource, bytesSource } from './byte-source.ts';
import { type PickleValue, readPickle } from './pickle.ts';
import { ARRAY_NAMES, arrayOf, callOf } from './pickle-arrays.ts';
import type { Dtype } from './safetensors-header.ts';
import { counts, elementBytes, type StoredTensor, spanOf } from './stored-tensor.ts';
import { readZip } from './zip.ts';

const STORAGES: Readonly<Record<string, Dtype>> = {
  ...{ DoubleStorage: 'F64', FloatStorage: 'F32', HalfStorage: 'F16', BFloat16Storage: 'BF16' },
  ...{ LongStorage: 'I64', IntStorage: 'I32', ShortStorage: 'I16', CharStorage: 'I8', ByteStorage: 'U8' },
  BoolStorage: 'BOOL',
};

const TENSOR = 'torch._utils._rebuild_tensor_v2';
const PARAMETERS = ['torch._utils._rebuild_parameter', 'torch._utils._rebuild_parameter_with_state'];

/** Everything that a file of weights may name. */
const NAMES: ReadonlySet<string> = new Set([
  ...ARRAY_NAMES,
  ...[TENSOR, ...PARAMETERS, 'torch.Size', 'torch.device'],
  ...Object.keys(STORAGES).flatMap((name) => [`torch.${name}`, `torch.storage.${name}`]),
  // Paths among the arguments of a training; `pathlib._local` since Python 3.13.
  ...['pathlib', 'pathlib._local'].flatMap((module) =>
    ['PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath'].map((name) => `${module}.${name}`),
  ),
]);

/** Most bytes of the pickle: it holds no numbers of tensors. */
const MOST_PICKLE = 2 ** 26;
const HINT = 'save the weights with torch.save(model.state_dict(), path), or as safetensors';

/** What torch.save was given. */
export interface PytorchFile {
  readonly value: PickleValue;
  /** The tensor, or array, that a part of `value` stands for; undefined for another value. @throws CheckpointError. */
  tensor(value: PickleValue, name: string): StoredTensor | undefined;
}

/**
 * Opens a file of torch.save (PyTorch 1.6 and later). Tensors are read when they are asked for.
 * @throws CheckpointError for what is damaged or truncated, packed, names anything but tensors and the like, or has its numbers'
 * highest byte first.
 */
export async function openPytorch(source: ByteSource, file = 'PyTorch file'): Promise<PytorchFile> {
  const entries = await readZip(source, file);
  const name = [...entries.keys()].find((entry) => /^[^/]+\/data\.pkl$/.test(entry));
  if (name === undefined) {
    throw new CheckpointError(`${file}: the zip file holds no data.pkl, so it is no file of torch.save`, {
      hint: HINT,
    });
  }
  const folder = name.slice(0, -'data.pkl'.length);
  const order = await entries.get(`${folder}byteorder`)?.read(0, 3);
  if (order && new TextDecoder().decode(order) !== 'lit') {
    throw new CheckpointError(`${file} holds numbers with their highest byte first`, { hint: HINT });
  }
  const entry = entries.get(name)!;
  if (entry.size > MOST_PICKLE) {
    throw new CheckpointError(`${file}: its data.pkl has ${entry.size} bytes; at most ${MOST_PICKLE} are expected`);
  }
  const pickle = bytesSource(await entry.read());
  const value = await readPickle(pickle, { names: NAMES, elsewhere: true, file });

  const tensor = (given: PickleValue, label: string): StoredTensor | undefined => {
    const fail = (problem: string): never => {
      throw new CheckpointError(`${file}: ${label} ${problem}`, {
        hint: 'the file is damaged: fetch or write it again',
      });
    };
    const parameter = callOf(given, ...PARAMETERS);
    const call = callOf(parameter ? parameter.args[0] : given, TENSOR);
    if (!call) return parameter ? fail('is a parameter of no tensor') : arrayOf(given, pickle, `${file}: ${label}`);
    const [storage, offset, sizes, steps] = call.args;
    const isElsewhere =
      typeof storage === 'object' && storage !== null && 'kind' in storage && storage.kind === 'elsewhere';
    const id = isElsewhere && Array.isArray(storage.id) ? storage.id : fail('has no storage');
    const [what, kind, key, , count] = id;
    const kindName =
      typeof kind === 'object' && kind !== null && 'kind' in kind && kind.kind === 'name' ? kind.name : '';
    const type = STORAGES[kindName.slice(kindName.lastIndexOf('.') + 1)];
    if (what !== 'storage' || !type) return fail(`has a storage of no known type (${kindName || 'none'})`);
    const bytes = entries.get(`${folder}data/${String(key)}`) ?? fail(`lies in data/${String(key)}, which is missing`);
    const width = elementBytes(type);
    if (typeof count !== 'number' || count * width !== bytes.size) {
      return fail(
        `lies in a storage of ${String(count)} numbers (${type}), but data/${String(key)} has ${bytes.size} bytes`,
      );
    }
    const shape = counts(sizes, 'its shape', fail);
    const strides = counts(steps, 'its strides', fail);
    const [begin] = counts([offset], 'its offset', fail) as [number];
    const span = spanOf(shape, strides, count - begin, fail);
    const load = () => bytes.read(begin * width, (begin + span) * width);
    return { type, shape, strides, bytes: span * width, load };
  };
  return { value, tensor };
}
