/** A model as one safetensors file: its parameters by Flax name, block after block, with its description in the metadata. */
import { CheckpointError } from '../../engine/errors.ts';
import { parseSafetensors, type SafetensorsHeader, type TensorToWrite } from '../../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../config.ts';
import { type ParamSet, paramEntries, paramLayout, paramsFrom } from '../params.ts';

/** Key of the description in a file's metadata. */
export const CONFIG_KEY = 'odelt.model';

/** The tensors of a parameter set in file order. F16 rounds to nearest even. */
export const modelTensors = (params: ParamSet, dtype: 'F32' | 'F16' = 'F32'): TensorToWrite[] =>
  Array.from(paramEntries(params), ({ spec, values }) => ({ name: spec.name, shape: spec.shape, dtype, values }));

export const modelMetadata = (
  config: ModelConfig,
  extra: Readonly<Record<string, string>> = {},
): Record<string, string> => ({
  ...extra,
  [CONFIG_KEY]: JSON.stringify(config),
});

export interface ModelFile {
  readonly config: ModelConfig;
  readonly params: ParamSet;
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads a model file; `config` is needed where the file does not describe its model.
 * @throws CheckpointError for a damaged file, one without description, or parameters that do not fit it.
 */
export function parseModelFile(bytes: Uint8Array, file: string, config?: ModelConfig): ModelFile {
  const tensors = parseSafetensors(bytes, file);
  const { metadata } = tensors.header;
  const described = describedModel(tensors.header, file, config);
  return { config: described, params: paramsFrom(paramLayout(described), tensors, file), metadata };
}

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
