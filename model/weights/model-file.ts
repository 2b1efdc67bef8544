/**
 * A model as one safetensors file: its parameters by Flax name, block after block, with its description, the names of its
 * classes and the digests of its groups in the metadata.
 */
import { CheckpointError } from '../../engine/errors.ts';
import { encode, parseSafetensors, type SafetensorsHeader, type TensorToWrite } from '../../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../config.ts';
import { type ParamSet, paramEntries } from '../params.ts';
import { DIGESTS_KEY, groupDigest } from './digests.ts';
import { rangeSource, readParams } from './source.ts';

/** Key of the description in a file's metadata. */
const CONFIG_KEY = 'odelt.model';

/** Key of the names of the classes, a JSON array of `classes` strings; they may be absent. */
export const CLASSES_KEY = 'odelt.classes';
/** Longest name of a class, in UTF-16 units: the longest that file systems allow for a folder, and some. */
const LONGEST_NAME = 1000;

/** The tensors of a parameter set in file order. F16 rounds to nearest even. */
export const modelTensors = (params: ParamSet, dtype: 'F32' | 'F16' = 'F32'): TensorToWrite[] =>
  Array.from(paramEntries(params), ({ spec, values }) => ({ name: spec.name, shape: spec.shape, dtype, values }));

/**
 * The metadata that describe a model, beside `extra`; `modelContents` adds digests. Names of classes are left out where they are
 * not one per class.
 */
export const modelMetadata = (
  config: ModelConfig,
  extra: Readonly<Record<string, string>> = {},
  classNames?: readonly string[],
): Record<string, string> => ({
  ...extra,
  [CONFIG_KEY]: JSON.stringify(config),
  ...(classNames?.length === config.classes ? { [CLASSES_KEY]: JSON.stringify(classNames) } : {}),
});

/**
 * Names of a model's classes, [classes], from its file's metadata; undefined where there are none. They are as the file has
 * them: escape them before they are shown.
 * @throws CheckpointError for anything but one string of at most 1000 characters per class
 */
export function classNamesOf(
  {
    metadata,
    config,
  }: { readonly metadata: ReadonlyMap<string, string>; readonly config: Pick<ModelConfig, 'classes'> },
  file: string,
): readonly string[] | undefined {
  const text = metadata.get(CLASSES_KEY);
  if (text === undefined) return undefined;
  const refuse = (problem: string, cause?: unknown): never => {
    throw new CheckpointError(`${file}: its class names (metadata '${CLASSES_KEY}') ${problem}`, {
      cause,
      hint: 'the file is damaged, or was written by something else: fetch or write it again',
    });
  };
  let names: unknown;
  try {
    names = JSON.parse(text);
  } catch (cause) {
    refuse('are no JSON', cause);
  }
  if (!Array.isArray(names) || !names.every((name): name is string => typeof name === 'string')) {
    return refuse('are no list of strings');
  }
  if (names.length !== config.classes) refuse(`are ${names.length}, for ${config.classes} classes`);
  const long = names.find((name) => name.length > LONGEST_NAME);
  if (long !== undefined) refuse(`hold one of ${long.length} characters; ${LONGEST_NAME} are allowed`);
  return names;
}

/** What a model's file holds, as `writeSafetensors` takes it. */
export interface ModelContents {
  readonly tensors: TensorToWrite[];
  readonly metadata: Record<string, string>;
}

/** How a model is written. */
export interface ContentsOptions {
  readonly dtype?: 'F32' | 'F16';
  /** Further metadata. */
  readonly extra?: Readonly<Record<string, string>>;
  /** One per class, or they are left out. */
  readonly classNames?: readonly string[];
}

/**
 * A model as it is written: its tensors, and metadata with its description, the digest of each group and `extra`. F16 rounds
 * to nearest even. @throws UnsupportedError, see groupDigest.
 */
export async function modelContents(
  config: ModelConfig,
  params: ParamSet,
  { dtype, extra, classNames }: ContentsOptions = {},
): Promise<ModelContents> {
  const tensors = modelTensors(params, dtype);
  const digests: Record<string, string> = {};
  let at = 0;
  for (const { name, specs } of params.layout.groups) {
    digests[name] = await groupDigest(tensors.slice(at, at + specs.length).map(encode));
    at += specs.length;
  }
  const metadata = modelMetadata(config, { ...extra, [DIGESTS_KEY]: JSON.stringify(digests) }, classNames);
  return { tensors, metadata };
}

/** A model file, read. */
export interface ModelFile {
  readonly config: ModelConfig;
  readonly params: ParamSet;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads a model file held in memory; `config` is needed where the file does not describe its model.
 * @throws CheckpointError for a damaged file, one without description, or parameters that do not fit it; what reading a group
 * of `rangeSource` throws.
 */
export async function parseModelFile(bytes: Uint8Array, file: string, config?: ModelConfig): Promise<ModelFile> {
  const { header } = parseSafetensors(bytes, file);
  const described = describedModel(header, file, config);
  const source = rangeSource(header, described, async (begin, end) => bytes.subarray(begin, end), file);
  return { config: described, params: await readParams(source), metadata: header.metadata };
}

/** Whether a file's metadata describe a model: files of odelt do. */
export const describesModel = (metadata: ReadonlyMap<string, string>): boolean => metadata.has(CONFIG_KEY);

/** The model that a file's metadata describe, or `given`. @throws CheckpointError for none or one that is not valid. */
export function describedModel(header: SafetensorsHeader, file: string, given?: ModelConfig): ModelConfig {
  if (given !== undefined) return given;
  const text = header.metadata.get(CONFIG_KEY);
  if (text === undefined) {
    throw new CheckpointError(`${file} does not describe its model (metadata '${CONFIG_KEY}')`, {
      hint: 'give the configuration beside it',
    });
  }
  try {
    return parseModelConfig(JSON.parse(text));
  } catch (cause) {
    throw new CheckpointError(`${file}: its model description is not valid`, { cause });
  }
}
