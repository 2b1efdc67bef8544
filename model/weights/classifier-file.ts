/** A classifier as one safetensors file: its parameters by name, with its description and the names of its classes in the metadata. */
import { CheckpointError } from '../../engine/errors.ts';
import { sha256 } from '../../formats/bytes.ts';
import { parseSafetensors } from '../../formats/safetensors.ts';
import { type ClassifierConfig, classifierLayout, parseClassifierConfig } from '../classifier.ts';
import { type ParamSet, paramEntries, paramsFrom } from '../params.ts';
import { CLASSES_KEY, classNamesOf, type ModelContents, modelTensors } from './model-file.ts';

/** Key of the description in a file's metadata. */
const CLASSIFIER_KEY = 'odelt.classifier';

/** A classifier as it is written, as F16; `extra` is further metadata. Names of classes are left out where they are not one per class. */
export function classifierContents(
  config: ClassifierConfig,
  params: ParamSet,
  { classNames, extra = {} }: { classNames?: readonly string[]; extra?: Readonly<Record<string, string>> } = {},
): ModelContents {
  const metadata: Record<string, string> = { ...extra, [CLASSIFIER_KEY]: JSON.stringify(config) };
  if (classNames?.length === config.classes) metadata[CLASSES_KEY] = JSON.stringify(classNames);
  return { tensors: modelTensors(params, 'F16'), metadata };
}

/** A classifier's file, read. */
export interface ClassifierFile {
  readonly config: ClassifierConfig;
  readonly params: ParamSet;
  readonly classNames?: readonly string[];
  readonly metadata: ReadonlyMap<string, string>;
  /** SHA-256 of the whole file, hexadecimal. */
  readonly digest: string;
}

/**
 * Reads a classifier's file held in memory; `file` is its name for messages.
 * @throws CheckpointError for a file that is damaged, holds no classifier, or weights that do not fit its description or are not finite
 */
export async function parseClassifierFile(bytes: Uint8Array<ArrayBuffer>, file: string): Promise<ClassifierFile> {
  const tensors = parseSafetensors(bytes, file);
  const { metadata } = tensors.header;
  const text = metadata.get(CLASSIFIER_KEY);
  if (text === undefined) {
    throw new CheckpointError(`${file} holds no classifier (metadata '${CLASSIFIER_KEY}')`, {
      hint: 'give a file that `odelt classifier` wrote',
    });
  }
  let config: ClassifierConfig;
  try {
    config = parseClassifierConfig(JSON.parse(text));
  } catch (cause) {
    throw new CheckpointError(`${file}: its description of a classifier is not valid`, { cause });
  }
  const params = paramsFrom(classifierLayout(config), tensors, file);
  for (const { spec, values } of paramEntries(params)) {
    const at = values.findIndex((x) => !Number.isFinite(x));
    if (at >= 0) throw new CheckpointError(`${file}: ${spec.name} holds ${values[at]} at element ${at}`);
  }
  return {
    config,
    params,
    classNames: classNamesOf({ metadata, config }, file),
    metadata,
    digest: await sha256(bytes),
  };
}
