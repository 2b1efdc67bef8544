/** The package's entry under Node: everything of index.ts, with engines from Dawn, files, data sets and training runs. */
import type { NodeDeviceOptions } from './engine/adapters.node.ts';
import { adapterKind } from './engine/device.ts';
import { createNodeEngine } from './engine/engine.node.ts';
import { Engine } from './engine/engine.ts';

export {
  ADAPTER_CHOICES,
  type AdapterChoice,
  type AdapterReport,
  type NodeDevice,
  type NodeDeviceOptions,
  requestNodeDevice,
} from './engine/adapters.node.ts';
export { createNodeEngine, type NodeEngine } from './engine/engine.node.ts';
export { openSafetensors, type SafetensorsFile, writeSafetensors } from './formats/safetensors.node.ts';
export * from './index.ts';
export { type ModelContents, modelContents, modelMetadata, modelTensors } from './model/weights/model-file.ts';
export { openModelSource } from './model/weights/source.node.ts';
export {
  type Checkpoint,
  checkpointSteps,
  loadCheckpoint,
  type OnNotice,
  type SavedState,
  type TrainSets,
} from './training/checkpoint.node.ts';
export { parseTrainConfig, TRAIN_DEFAULTS, type TrainConfig } from './training/config.ts';
export { type DataShape, type Dataset, type DatasetFields, datasetOf } from './training/data/dataset.ts';
export type { Fingerprint } from './training/data/fingerprint.node.ts';
export { type OpenOptions, openDataset } from './training/data/open.ts';
export { modelForData } from './training/model-for-data.ts';
export type { ConfigChange } from './training/resume.ts';
export { type RunConfig, type RunOptions, readRunConfig, runTraining } from './training/run.node.ts';
export { createTrainer, type TrainEvent, type Trainer, type TrainerOptions } from './training/trainer.ts';

export interface NodeEngineOptions extends NodeDeviceOptions {
  /** A device of your own; it stays alive when the engine is disposed. The other options then do not matter. */
  readonly device?: GPUDevice;
}

/**
 * An engine on the adapter asked for: 'gpu', 'lavapipe', 'swiftshader', or the best there is ('auto', the default; the
 * environment variable ODELT_ADAPTER changes it). Dispose it when done.
 * @throws UnsupportedError naming every driver that was tried and what would help; LimitError; ConfigError.
 */
export async function createEngine(options: NodeEngineOptions = {}): Promise<Engine> {
  if (options.device) return new Engine(options.device, adapterKind(options.device.adapterInfo), { ownsDevice: false });
  return (await createNodeEngine({ onError: () => {}, ...options })).engine;
}
