/**
 * odelt under Node: all of `odelt`, with engines from Dawn on the adapter of your choice, model files, data sets on disk, training
 * runs as folders, and the model and pictures that come with the package.
 * @module odelt/node
 */
import type { NodeDeviceOptions } from './engine/adapters.node.ts';
import { createNodeEngine } from './engine/engine.node.ts';
import { type Engine, type EngineOptions, engineOn } from './engine/engine.ts';
import { type TunedEngineOptions, withTuning } from './tuning/with-tuning.ts';

export { type Cluster, joinCluster } from './cluster/cluster.node.ts';
export { type Launch, launchOf } from './cluster/launch.node.ts';
export {
  ADAPTER_CHOICES,
  type AdapterChoice,
  type AdapterReport,
  type CandidateReport,
  type NodeDevice,
  type NodeDeviceOptions,
  requestNodeDevice,
} from './engine/adapters.node.ts';
export { createNodeEngine, type NodeEngine } from './engine/engine.node.ts';
export type { Environment } from './engine/folders.node.ts';
export { type AblationOptions, type AblationProgress, runAblation } from './evaluation/ablation.node.ts';
export {
  loadOnnxRuntime,
  type OnnxFeatures,
  type OnnxRuntime,
  type OnnxSession,
  type OnnxTensor,
  onnxFeatures,
} from './evaluation/onnx-features.node.ts';
export {
  type FeatureSource,
  featureSource,
  type OpenedFeatures,
  readClassifier,
  sourceOfStatistics,
} from './evaluation/open-features.node.ts';
export { LINEAR_ALGEBRA, type LinearAlgebraName, openLinearAlgebra } from './evaluation/openblas.node.ts';
export { readResults, readResultsFile, writeResults } from './evaluation/results.node.ts';
export { openSafetensors, type SafetensorsFile, writeSafetensors } from './formats/safetensors.node.ts';
export { shippedClassifier, shippedData, shippedModel } from './formats/shipped.node.ts';
export * from './index.ts';
export { openAutoencoder } from './model/autoencoder/open.node.ts';
export { type CheckpointOnDisk, openCheckpointFile } from './model/weights/imports/open.node.ts';
export { openModelSource } from './model/weights/source.node.ts';
export {
  type Checkpoint,
  checkpointSteps,
  loadCheckpoint,
  type OnNotice,
  type SavedState,
} from './training/checkpoint.node.ts';
export { type EncodeOptions, encodeLatents } from './training/data/encode.ts';
export { FACE_CLASSES } from './training/data/faces.ts';
export type { LatentsFolder, LatentsRecipe, LatentsShard } from './training/data/latents.ts';
export { makeFaceFiles } from './training/data/make-face-files.node.ts';
export { type FacesOptions, makeFaces } from './training/data/make-faces.node.ts';
export {
  type DataParts,
  type OpenOptions,
  openDataset,
  openParts,
  openTrainingData,
  openTrainingParts,
  type Split,
} from './training/data/open.ts';
export type { ConfigChange } from './training/resume.ts';
export { type RunOptions, runTraining } from './training/run.node.ts';
export { type RunConfig, readRunConfig } from './training/run-config.node.ts';
export type { DrawnPicture, WatchOptions } from './training/watch.node.ts';
export { type FileStore, fileStore, readTable, writeTable } from './tuning/store.node.ts';

/** How to get an engine under Node. */
export interface NodeEngineOptions
  extends NodeDeviceOptions,
    TunedEngineOptions,
    Pick<EngineOptions, 'mirrors' | 'submissionBudget'> {
  /** A device of your own; it stays alive when the engine is disposed. Options of the device then do not matter. */
  readonly device?: GPUDevice;
}

/**
 * An engine on the adapter asked for: 'gpu', 'lavapipe', 'swiftshader', or the best there is ('auto', the default; the
 * environment variable ODELT_ADAPTER changes it). Dispose it when done.
 * @throws UnsupportedError naming every driver that was tried and what would help; LimitError; ConfigError; TuningError; UsageError for a
 * `device` that is none.
 */
export async function createEngine(options: NodeEngineOptions = {}): Promise<Engine> {
  const engine = options.device
    ? engineOn(options.device, options)
    : (await createNodeEngine({ onError: () => {}, ...options })).engine;
  return withTuning(engine, options, async () => (await import('./tuning/store.node.ts')).fileStore());
}
