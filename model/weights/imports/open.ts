/**
 * Opens a checkpoint of another program, told by its contents: pickles of the Flax reference, files of torch.save, safetensors
 * in one file or many. The sets of weights in it are found, not yet read.
 */
import { CheckpointError } from '../../../engine/errors.ts';
import type { ByteSource } from '../../../formats/byte-source.ts';
import { type PickleValue, readPickle } from '../../../formats/pickle.ts';
import { ARRAY_NAMES, arrayOf, dictOf, flattened, numberOf, optaxState } from '../../../formats/pickle-arrays.ts';
import { openPytorch } from '../../../formats/pytorch.ts';
import { beginsSafetensors, headerLength, LENGTH_BYTES, parseHeader } from '../../../formats/safetensors-header.ts';
import { contiguousStrides, type StoredTensor } from '../../../formats/stored-tensor.ts';
import { type ForeignWeights, refuse } from './foreign.ts';

/** A checkpoint's sets of weights, by what they are. */
export interface Checkpointed {
  /** What the file is, in words. */
  readonly kind: string;
  readonly raw: ForeignWeights | undefined;
  /** The moving average. */
  readonly ema: ForeignWeights | undefined;
  /** Adam's moments, where the file has both. */
  readonly moments: { readonly m: ForeignWeights; readonly v: ForeignWeights } | undefined;
  /** Updates done, where the file says so. */
  readonly step: number | undefined;
}

/** Files beside one that was given, by name: the parts of safetensors in many files. */
export type Beside = (name: string) => Promise<ByteSource>;

const LEGACY_HINT = 'load it with PyTorch 1.6 or later and save it again with torch.save, or as safetensors';

/** The magic number that torch.save wrote before PyTorch 1.6, as a pickle of its own. */
const LEGACY_TORCH = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/** Most bytes of an index of safetensors. */
const MOST_INDEX = 2 ** 24;

const text = (bytes: Uint8Array): string => new TextDecoder('utf-8').decode(bytes);

/**
 * Opens a checkpoint. `file` is its name for messages; `beside` opens the files that an index names.
 * @throws CheckpointError for what is no checkpoint, damaged, truncated, or names anything but tensors and the like.
 */
export async function openCheckpoint(source: ByteSource, file: string, beside?: Beside): Promise<Checkpointed> {
  const first = await source.read(0, Math.min(source.size, LEGACY_TORCH.length));
  if (beginsSafetensors(first)) {
    const tensors = unwrapped(await safetensorsOf(source, file));
    return { kind: 'safetensors', ...sets({ tensors, bytes: source.size, file }), moments: undefined, step: undefined };
  }
  if (LEGACY_TORCH.every((byte, i) => first[i] === byte)) {
    refuse(file, 'it was written by torch.save before PyTorch 1.6', LEGACY_HINT);
  }
  if (first[0] === 0x50 && first[1] === 0x4b) return openTorch(source, file);
  if (first[0] === 0x80) return openFlaxPickle(source, file);
  if (first[0] === 0x7b) return openIndex(source, file, beside);
  const seen = Array.from(first.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw new CheckpointError(`${file} is no checkpoint that can be read: it begins with ${seen || 'nothing'}`, {
    hint: 'give a pickle of the reference, a .pt of torch.save, .safetensors, or a model.safetensors.index.json',
  });
}

/** One set of weights; what it is of is not said. */
const sets = (weights: ForeignWeights) => ({ raw: weights, ema: undefined });

/** A dictionary's entry that is a dictionary itself. */
function part(dict: ReadonlyMap<unknown, PickleValue>, ...names: readonly string[]): PickleValue | undefined {
  const name = names.find((key) => dictOf(dict.get(key)) !== undefined);
  return name === undefined ? undefined : dict.get(name);
}

async function openFlaxPickle(source: ByteSource, file: string): Promise<Checkpointed> {
  const value = await readPickle(source, { names: ARRAY_NAMES, file });
  const top = dictOf(value) ?? refuse(file, 'the pickle holds no dictionary');
  const state = dictOf(top.get('train_state')) ?? top;
  const weightsOf = (tree: PickleValue | undefined): ForeignWeights | undefined => {
    if (tree === undefined) return undefined;
    // Flax' variables have their parameters one dictionary further down.
    const inner = part(dictOf(tree) ?? new Map(), 'params') ?? tree;
    const leaf = (array: PickleValue, path: string) => arrayOf(array, source, `${file}: ${path}`);
    const tensors = flattened(inner, leaf, file);
    return tensors.size > 0 ? { tensors, bytes: source.size, file } : undefined;
  };
  const raw = weightsOf(part(state, 'params'));
  const ema = weightsOf(part(state, 'params_ema', 'ema_params'));
  if (!raw && !ema) {
    const keys = [...state.keys()].slice(0, 8).map(String).join(', ');
    refuse(
      file,
      `the pickle holds no params; it has ${keys || 'nothing'}`,
      'give a checkpoint of the reference, or its params in a dictionary',
    );
  }
  const [, mu, nu] = adamOf(state.get('opt_state')) ?? [];
  const [m, v] = [weightsOf(mu), weightsOf(nu)];
  const step = await numberOf(state.get('step'), source, `${file}: step`);
  return { kind: 'pickle of the Flax reference', raw, ema, moments: m && v ? { m, v } : undefined, step };
}

/** Adam's (count, mu, nu) in the tuples of an optimiser's state. */
function adamOf(state: PickleValue | undefined, depth = 0): readonly PickleValue[] | undefined {
  const found = optaxState(state, 'ScaleByAdamState');
  if (found) return found;
  if (!Array.isArray(state) || depth > 4) return undefined;
  for (const inner of state.slice(0, 64)) {
    const adam = adamOf(inner, depth + 1);
    if (adam) return adam;
  }
  return undefined;
}

/** Tensors without the names that DataParallel puts before all others, and torch.compile before those of a module. */
function unwrapped(tensors: ReadonlyMap<string, StoredTensor>): ReadonlyMap<string, StoredTensor> {
  const entries = [...tensors].map(([name, tensor]) => [name.replaceAll('_orig_mod.', ''), tensor] as const);
  const isParallel = entries.every(([name]) => name.startsWith('module.'));
  return new Map(isParallel ? entries.map(([name, tensor]) => [name.slice('module.'.length), tensor]) : entries);
}

async function openTorch(source: ByteSource, file: string): Promise<Checkpointed> {
  const { value, tensor } = await openPytorch(source, file);
  const top = dictOf(value) ?? refuse(file, 'torch.save was given no dictionary', LEGACY_HINT);
  const weightsOf = (tree: PickleValue | undefined): ForeignWeights | undefined => {
    if (tree === undefined) return undefined;
    const tensors = unwrapped(flattened(tree, tensor, file));
    return tensors.size > 0 ? { tensors, bytes: source.size, file } : undefined;
  };
  const ema = weightsOf(part(top, 'ema'));
  const raw = weightsOf(part(top, 'model', 'state_dict') ?? (ema ? undefined : value));
  if (!raw && !ema) refuse(file, 'there is no tensor in it');
  return { kind: 'file of torch.save', raw, ema, moments: undefined, step: undefined };
}

async function safetensorsOf(source: ByteSource, file: string): Promise<Map<string, StoredTensor>> {
  const length = headerLength(await source.read(0, Math.min(LENGTH_BYTES, source.size)), source.size, file);
  const header = parseHeader(await source.read(LENGTH_BYTES, LENGTH_BYTES + length), source.size, file);
  return new Map(
    [...header.tensors].map(([name, { dtype, shape, begin, end }]) => {
      const load = () => source.read(begin, end);
      return [name, { type: dtype, shape, strides: contiguousStrides(shape), bytes: end - begin, load }];
    }),
  );
}

/** The files that an index names, each with the tensors that it says are there. */
async function openIndex(source: ByteSource, file: string, beside: Beside | undefined): Promise<Checkpointed> {
  if (source.size > MOST_INDEX) refuse(file, `it has ${source.size} bytes; an index has at most ${MOST_INDEX}`);
  let json: unknown;
  try {
    json = JSON.parse(text(await source.read(0, source.size)));
  } catch (cause) {
    throw new CheckpointError(`${file} begins as JSON, but is none`, { cause });
  }
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  const entries = typeof map === 'object' && map !== null ? Object.entries(map as Record<string, unknown>) : [];
  if (entries.length === 0) refuse(file, 'it has no weight_map, so it is no index of safetensors');
  if (!beside) refuse(file, 'it is an index of several files, of which only one was given');
  const tensors = new Map<string, StoredTensor>();
  const opened = new Map<string, Map<string, StoredTensor>>();
  let bytes = 0;
  for (const [name, shard] of entries) {
    // Only files beside the index: a path could lead anywhere.
    if (typeof shard !== 'string' || !/^[\w][\w.-]*$/.test(shard))
      refuse(file, `it puts ${name} into ${JSON.stringify(shard)}, which is no name of a file beside it`);
    let found = opened.get(shard as string);
    if (!found) {
      const part = await beside(shard as string);
      found = await safetensorsOf(part, shard as string);
      opened.set(shard as string, found);
      bytes += part.size;
    }
    tensors.set(name, found.get(name) ?? refuse(file, `it puts ${name} into ${shard}, which does not hold it`));
  }
  return {
    kind: `safetensors in ${opened.size} files`,
    ...sets({ tensors: unwrapped(tensors), bytes, file }),
    moments: undefined,
    step: undefined,
  };
}
