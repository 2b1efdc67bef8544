/**
 * Checkpoints as the bytes of one safetensors file, for where there are no folders: parameters, average, moments and teacher, with
 * model, options and step in the metadata and a digest over all tensors. The same state gives the same bytes everywhere.
 */
import { CheckpointError } from '../engine/errors.ts';
import {
  encode,
  parseSafetensors,
  serializeSafetensors,
  type Tensors,
  type TensorToWrite,
} from '../formats/safetensors.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { type ParamSet, paramLayout, paramsFrom, type TensorSource } from '../model/params.ts';
import { groupDigest } from '../model/weights/digests.ts';
import { modelContents, modelMetadata, modelTensors } from '../model/weights/model-file.ts';
import { parseTrainConfig, type TrainConfig } from './config.ts';
import type { DataShape } from './data/dataset.ts';
import { type Fingerprint, parseFingerprint } from './data/fingerprint.ts';
import { modelAsTrained } from './model-as-trained.ts';
import type { NumberFields } from './numbers.ts';
import type { TrainSets } from './state.ts';

/** A training run between two updates. */
export interface TrainingState {
  /** Updates done. */
  readonly step: number;
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  /** Of the data; kept where there is one per class of the model. */
  readonly classNames?: readonly string[];
  readonly sets: TrainSets;
  /** What tells the data that it is trained on from others. Absent in checkpoints of earlier versions. */
  readonly pictures?: Fingerprint;
  /** Numbers that the run is trained on, where it carries them, so that its checkpoint alone is enough to go on. */
  readonly data?: NumberFields;
}

const STEP_KEY = 'odelt.step';
const TRAIN_KEY = 'odelt.train';
const DIGEST_KEY = 'odelt.sha256.all';
const DATA_KEY = 'odelt.data';
const PICTURES_KEY = 'odelt.pictures';
const PARTS = ['params', 'ema', 'm', 'v', 'teacher'] as const;

/** Whether a file with this metadata says that it is a checkpoint of a run. */
export const isCheckpoint = (metadata: ReadonlyMap<string, string>): boolean => metadata.has(TRAIN_KEY);

/** A state as one file's bytes. @throws UnsupportedError where there is no SHA-256: in pages that are not secure. */
export async function checkpointBytes(state: TrainingState): Promise<Uint8Array<ArrayBuffer>> {
  const { step, model, train, classNames, sets, pictures, data } = state;
  const tensors: TensorToWrite[] = PARTS.flatMap((part) => {
    const set = sets[part];
    return set ? modelTensors(set).map((tensor) => ({ ...tensor, name: `${part}/${tensor.name}` })) : [];
  });
  if (data) tensors.push(...dataTensors(data));
  const extra = {
    [STEP_KEY]: String(step),
    [TRAIN_KEY]: JSON.stringify(train),
    ...(pictures ? { [PICTURES_KEY]: JSON.stringify(pictures) } : {}),
    ...(data ? { [DATA_KEY]: JSON.stringify(shapeOf(data)) } : {}),
    [DIGEST_KEY]: await groupDigest(tensors.map(encode)),
  };
  return serializeSafetensors(tensors, modelMetadata(modelAsTrained(model, train), extra, classNames));
}

/**
 * Reads what `checkpointBytes` wrote; `name` is what messages call it. `createTrainer({ model, train, data, from: state })` goes on.
 * @throws CheckpointError for bytes that are damaged or no checkpoint; UnsupportedError without SHA-256.
 */
export async function parseCheckpoint(bytes: Uint8Array, name = 'the checkpoint'): Promise<TrainingState> {
  const file = parseSafetensors(bytes, name);
  const { metadata, tensors } = file.header;
  const step = Number(metadata.get(STEP_KEY));
  const described = [metadata.get('odelt.model'), metadata.get(TRAIN_KEY)];
  if (!Number.isInteger(step) || step < 0 || described.includes(undefined)) {
    throw new CheckpointError(`${name} is no checkpoint of a training run`, {
      hint: 'give the bytes of a checkpoint; a model file holds no state to go on from',
    });
  }
  const stored = [...tensors.values()].map(({ begin, end }) => bytes.subarray(begin, end));
  const digest = await groupDigest(stored);
  if (digest !== metadata.get(DIGEST_KEY)) {
    throw new CheckpointError(
      `${name} is damaged: its SHA-256 is ${digest}, it states ${metadata.get(DIGEST_KEY) ?? 'none'}`,
      { hint: 'take an earlier checkpoint' },
    );
  }
  let model: ModelConfig;
  let train: TrainConfig;
  let pictures: Fingerprint | undefined;
  try {
    const recorded = metadata.get(PICTURES_KEY);
    if (recorded !== undefined) pictures = parseFingerprint(JSON.parse(recorded), name);
    train = parseTrainConfig(JSON.parse(described[1]!));
    // Checkpoints of earlier versions do not say what follows from how they train.
    model = modelAsTrained(parseModelConfig(JSON.parse(described[0]!)), train);
  } catch (cause) {
    throw new CheckpointError(`${name}: its model, options or description of the data are not valid`, { cause });
  }
  const layout = paramLayout(model);
  const read = (part: (typeof PARTS)[number]): ParamSet => paramsFrom(layout, under(`${part}/`, file), name);
  const hasTeacher = file.names().some((tensor) => tensor.startsWith('teacher/'));
  const sets = {
    params: read('params'),
    ema: read('ema'),
    m: read('m'),
    v: read('v'),
    ...(hasTeacher ? { teacher: read('teacher') } : {}),
  };
  const classes = metadata.get('odelt.classes');
  const shape = metadata.get(DATA_KEY);
  return {
    ...{ step, model, train, sets },
    ...(classes ? { classNames: JSON.parse(classes) } : {}),
    ...(pictures ? { pictures } : {}),
    ...(shape ? { data: dataFrom(file, shape, name) } : {}),
  };
}

const shapeOf = ({ name, height, width, channels, classes, classNames }: NumberFields) => ({
  ...{ name, height, width, channels, classes },
  ...(classNames ? { classNames } : {}),
});

const dataTensors = ({ values, labels, height, width, channels }: NumberFields): TensorToWrite[] => [
  { name: 'data/values', dtype: 'F32', shape: [labels.length, height, width, channels], values },
  { name: 'data/labels', dtype: 'F32', shape: [labels.length], values: Float32Array.from(labels) },
];

function dataFrom(file: Tensors, shape: string, name: string): NumberFields {
  try {
    const fields: DataShape = JSON.parse(shape);
    return { ...fields, values: file.floats('data/values'), labels: Uint16Array.from(file.floats('data/labels')) };
  } catch (cause) {
    throw new CheckpointError(`${name}: its data are not valid`, { cause });
  }
}

/** The tensors whose names begin with `prefix`, without it. */
const under = (prefix: string, file: TensorSource): TensorSource => ({
  has: (name) => file.has(prefix + name),
  shape: (name) => file.shape(prefix + name),
  floats: (name) => file.floats(prefix + name),
});

/** The averaged weights of a state as a model file, which `Sampler` and every command can sample. @throws as checkpointBytes. */
export async function trainedModel({
  model,
  train,
  classNames,
  sets,
  step,
}: TrainingState): Promise<Uint8Array<ArrayBuffer>> {
  const extra = { [STEP_KEY]: String(step) };
  const { tensors, metadata } = await modelContents(modelAsTrained(model, train), sets.ema, { extra, classNames });
  return serializeSafetensors(tensors, metadata);
}
