/**
 * odelt for every platform: engines, programs and kernels of one's own, models, sampling, training, pictures. Nothing here, nor
 * anything it imports, needs Node; under Node the same import finds Dawn, and `odelt/node` adds files, data sets on disk and
 * training runs. Operations on tensors are in `odelt/ops`, the check and the timing of kernels in `odelt/bench`.
 * @module odelt
 */

import lib from './kernels/lib.wgsl';

export { alone, type Communicator } from './cluster/communicator.ts';
export { Context, checkpoint, type GradientTape } from './engine/context.ts';
export {
  type AcquiredDevice,
  type AdapterDescription,
  type AdapterKind,
  ALIGNMENT_LIMITS,
  COMPUTE_LIMITS,
  type ComputeLimit,
  type DescribedLimit,
  type DeviceOptions,
  type DeviceWatch,
  describeAdapter,
  type MatrixUnit,
  type RequestDeviceOptions,
  requestDevice,
} from './engine/device.ts';
export { eager } from './engine/eager.ts';
export { Engine, type EngineOptions, type HostPhase, type TensorData } from './engine/engine.ts';
export * from './engine/errors.ts';
export type { Gradients, TapeEntry } from './engine/gradients.ts';
export { type Dispatch, defineKernel, type Grid, type Kernel } from './engine/kernel.ts';
export type { Memory, MemoryKind, MemoryReport, PeakMeter } from './engine/memory/accountant.ts';
export { Arena } from './engine/memory/arena.ts';
export type { Placement, Plan } from './engine/memory/planner.ts';
export { type CompileOptions, type Part, Program, type Recording, record } from './engine/program.ts';
export { ceilDiv, map, type Scalar, type ScalarValues, type Sym, scalarInput, times } from './engine/scalar.ts';
export {
  columns,
  DTYPES,
  type DType,
  lastDim,
  maxSize,
  reshaped,
  rowSize,
  type Shape,
  type Storage,
  shapeText,
  sizeOf,
  type Tensor,
} from './engine/tensor.ts';
export type { Runner, ShapeClass, Tuning, TuningChoice } from './engine/tuning.ts';
export {
  type AblationCell,
  type AblationMean,
  type AblationResults,
  type AblationRun,
  type AblationSettings,
  type Method,
  type Variant,
  type VariantPart,
  variantNames,
  variantOf,
} from './evaluation/ablation.ts';
export {
  type Bought,
  type Budget,
  chooseCell,
  describeBought,
  type Pace,
  type Priced,
  parseBudget,
  secondsOfCells,
} from './evaluation/afford.ts';
export {
  type Agreement,
  type ClassAgreement,
  classAgreement,
  prepareReference,
  type Reference,
} from './evaluation/agreement.ts';
export {
  type Described,
  featuresOfClassifier,
  knowsClasses,
  type NamedData,
  takesPictures,
} from './evaluation/classifier-features.ts';
export type { Drawn, Range } from './evaluation/draw.ts';
export {
  type EvaluationOptions,
  type EvaluationProgress,
  evaluateModel,
  weightsDigest,
} from './evaluation/evaluate.ts';
export { askedAs, type FeatureChoice, parseFeatures } from './evaluation/feature-choice.ts';
export {
  createFeatureSums,
  type FeatureStatistics,
  type FeatureSums,
  featureStatistics,
} from './evaluation/feature-statistics.ts';
export {
  FEATURE_NAMES,
  type FeatureName,
  type Features,
  type Fitting,
  featuresOf,
  featuresOfData,
  type PictureShape,
  pixelFeatures,
  principalFeatures,
  principalFeaturesAgain,
  principalFeaturesInTurns,
  randomFeatures,
} from './evaluation/features.ts';
export { checkFlow, type Flow, type FlowRequest, flowRows, traceFlow } from './evaluation/flow.ts';
export {
  type FrechetOptions,
  frechetDistance,
  measuredFrechet,
  REFERENCE_OFFSET,
  type ResampledDistance,
} from './evaluation/frechet.ts';
export { cellsOf, checkGrid, type EvaluationGrid } from './evaluation/grid.ts';
export type { Judge, RealStatistics } from './evaluation/judge.ts';
export {
  type KernelDistance,
  type KernelDistanceOptions,
  kernelDistance,
  squaredDiscrepancy,
} from './evaluation/kernel-distance.ts';
export { type LinearAlgebra, ownAlgebra } from './evaluation/linear-algebra.ts';
export { type LossCell, type LossMapOptions, lossMap, lossMapCsv, lossMapPlots } from './evaluation/loss-map.ts';
export { lossPlot } from './evaluation/loss-plot.ts';
export { type Manifold, type ManifoldOptions, manifold } from './evaluation/manifold.ts';
export { type Figure, type Measured, type Resampling, type Share, share } from './evaluation/measured.ts';
export { distanceQuantiles, NEAREST_QUANTILES, nearerShare, nearestDistances } from './evaluation/nearest.ts';
export type { Balls } from './evaluation/neighbours.ts';
export { behindBest, pairedDifference } from './evaluation/paired.ts';
export { type Cost, paretoOf, paretoPlot, paretoRows } from './evaluation/pareto.ts';
export { evaluationPlots } from './evaluation/plots.ts';
export { bytesOfCells, type Drawing, measurePace } from './evaluation/prices.ts';
export { type Pictures, type RealPictures, realPictures } from './evaluation/real.ts';
export type { FeatureRecord } from './evaluation/results.ts';
export {
  type BehindBest,
  type BehindCell,
  type Cell,
  type CellKey,
  checkSameSettings,
  type Distances,
  describeMeasured,
  type EvaluationResults,
  type Floor,
  type Nearest,
  type NearestCell,
  type Pareto,
  type ParetoPoint,
  type Provenance,
  parseResults,
  resultRows,
  resultsCsv,
  sameCell,
} from './evaluation/results.ts';
export { type SampleSheet, type SheetOptions, sampleSheet } from './evaluation/sample-sheet.ts';
export {
  drawShard,
  type MergeOptions,
  mergeShards,
  type ShardCell,
  type ShardOptions,
  type ShardPart,
  type ShardRecord,
} from './evaluation/shards.ts';
export {
  checkNetworkOf,
  featuresDigest,
  featuresOfStatistics,
  readStatistics,
  type StatisticsFile,
  writeStatistics,
} from './evaluation/statistics-file.ts';
export {
  evaluationMetadata,
  evaluationOf,
  type StoredCell,
  type StoredEvaluation,
  storedEvaluation,
} from './evaluation/stored.ts';
export { createVelocities, type Velocities, type VelocityRequest } from './evaluation/velocities.ts';
export type { FigureWork, Waiting } from './evaluation/waiting.ts';
export { type ByteSource, blobSource, bytesSource } from './formats/byte-source.ts';
export type { Bounds, Option, OptionSet, OptionText, ValuesOf } from './formats/options.ts';
export {
  type Dtype,
  parseSafetensors,
  type SafetensorsHeader,
  serializeSafetensors,
  type TensorInfo,
  type Tensors,
  type TensorToWrite,
} from './formats/safetensors.ts';
export type { StoredTensor } from './formats/stored-tensor.ts';
export { type EventContent, eventBytes, type HistogramSummary, type Summary } from './formats/tensorboard.ts';
export {
  Autoencoder,
  type AutoencoderOptions,
  autoencoderPeak,
  type Banding,
  chooseBands,
  createAutoencoder,
  type Encoded,
  type PassOptions,
  type PictureBatch,
} from './model/autoencoder/autoencoder.ts';
export {
  createDecoder,
  type Decoder,
  type DecoderMatch,
  decodedShape,
  foreignDecoder,
  matchDecoder,
} from './model/autoencoder/decoder.ts';
export { type Gaussian, gaussianDivergence, gaussianOf, gaussianSample } from './model/autoencoder/gaussian.ts';
export { type ImportedAutoencoder, importAutoencoder } from './model/autoencoder/import.ts';
export type { ConvolutionLayer, Layer } from './model/autoencoder/layers.ts';
export { type AutoencoderNetwork, HALVES, type Half } from './model/autoencoder/network.ts';
export { readAutoencoder } from './model/autoencoder/open.ts';
export { type LatentsOrigin, originIn, originMetadata, originOf } from './model/autoencoder/origin.ts';
export { type Spread, spreadProblem } from './model/autoencoder/spread.ts';
export {
  CLASSIFIER_DEFAULTS,
  type ClassifierConfig,
  classifierLayout,
  initClassifier,
  parseClassifierConfig,
} from './model/classifier.ts';
export { Classifier } from './model/classify.ts';
export {
  allowedLengths,
  type LengthConfig,
  type ModelConfig,
  PRESETS,
  type Predicts,
  type PresetName,
  parseModelConfig,
  preset,
  usualSteps,
} from './model/config.ts';
export {
  ACTIVATIONS,
  type Activations,
  type Depth,
  type Model,
  type Point,
  type TrainingMode,
  type VelocityInputs,
  velocity,
} from './model/dit.ts';
export { type DropoutSource, mlpWithDropout } from './model/dropout.ts';
export {
  type Init,
  initParams,
  type ParamGroup,
  type ParamLayout,
  type ParamSet,
  type ParamSpec,
  paramLayout,
} from './model/params.ts';
export { type ClassifierFile, classifierContents, parseClassifierFile } from './model/weights/classifier-file.ts';
export { type DescribedModel, firstBlocks } from './model/weights/first-blocks.ts';
export { ditTensors } from './model/weights/imports/dit-export.ts';
export type { ForeignWeights, ModelHints } from './model/weights/imports/foreign.ts';
export { type ImportedModel, type ImportedState, importState, importWeights } from './model/weights/imports/import.ts';
export { type Beside, type Checkpointed, openCheckpoint } from './model/weights/imports/open.ts';
export {
  type ContentsOptions,
  classNamesOf,
  type ModelContents,
  type ModelFile,
  modelContents,
  modelMetadata,
  modelTensors,
  parseModelFile,
} from './model/weights/model-file.ts';
export { type GroupValues, PRECISIONS, type Precision } from './model/weights/quantize.ts';
export { groupsFor, ResidentModel, type Storing, uploadModel } from './model/weights/residency.ts';
export {
  type GroupProgress,
  type GroupSource,
  type ModelSource,
  memorySource,
  type PrefetchingSource,
  type PrefetchOptions,
  prefetching,
  type RangeSource,
} from './model/weights/source.ts';
export { openModelUrl, type UrlOptions } from './model/weights/source-url.ts';
export { Weights, type WeightsOptions } from './model/weights/weights.ts';
export {
  type Colour,
  type ContactSheet,
  contactSheet,
  fromBytes,
  fromUnit,
  type GridOptions,
  grid,
  type Picture,
} from './pictures/picture.ts';
export { encodePng } from './pictures/png.ts';
export {
  type Blocks,
  type BlocksFrom,
  describeBlocks,
  LOADING,
  type Loading,
  parseBlocks,
  parseRefresh,
  type Refresh,
} from './sampling/blocks.ts';
export {
  type Choice,
  chooseSettings,
  type Estimate,
  estimateSampling,
  type Settings,
  type Wanted,
} from './sampling/budget.ts';
export { usualGuidance, usualLabels } from './sampling/classes.ts';
export {
  type Choosing,
  chooseDecoded,
  chooseDecoder,
  DECODER_PRECISIONS,
  type DecodedChoice,
  type DecodeEachOptions,
  type DecodeOptions,
  type DecoderChoice,
  type DecoderPrecision,
  type DecoderWanted,
  decodeEach,
  decodeSamples,
} from './sampling/decoding.ts';
export {
  type AttentionInside,
  type Inspection,
  Inspector,
  type InspectRequest,
  type LengthInside,
} from './sampling/inspect.ts';
export { describeLabel, parseLabels } from './sampling/labels.ts';
export {
  type Requested,
  RNGS,
  type Rng,
  type SampleProgress,
  type SampleRequest,
  SOLVERS,
  type Solver,
} from './sampling/request.ts';
export { Sampler, type SamplerOptions, type Samples } from './sampling/sampler.ts';
export type { Shard } from './sampling/shards.ts';
export { CONTROLLERS, type Controller } from './sampling/solvers/controller.ts';
export type { Solve } from './sampling/solvers/integrate.ts';
export { type BatchOptions, type BatchReader, readBatches } from './training/batches.ts';
export { checkpointBytes, parseCheckpoint, type TrainingState, trainedModel } from './training/checkpoint.ts';
export {
  type Accuracy,
  CLASSIFIER_OPTIONS,
  type ClassifierEvent,
  type ClassifierTrainer,
  type ClassifierTraining,
  createClassifierTrainer,
  measureAccuracy,
  measureScale,
  parseClassifierTraining,
  type Stopping,
} from './training/classifier.ts';
export { type Guidance, parseTrainConfig, TRAIN_DEFAULTS, TRAIN_OPTIONS, type TrainConfig } from './training/config.ts';
export {
  type DataShape,
  type Dataset,
  type DatasetFields,
  datasetOf,
  isStreamed,
  type LabelledData,
  type PictureDraw,
  type PictureGroups,
  type PictureReader,
  type SkippedFile,
  type StreamedDataset,
  type TrainingData,
} from './training/data/dataset.ts';
export type { Fingerprint } from './training/data/fingerprint.ts';
export { type DataOrder, type DataOrderOptions, dataOrder, fillBatch } from './training/data/order.ts';
export { holdOut } from './training/held-out.ts';
export type { GroupNorms, Inspected } from './training/inspection.ts';
export type { Losses } from './training/losses.ts';
export type { LossCurve } from './training/metrics.ts';
export { modelAsTrained } from './training/model-as-trained.ts';
export { modelForData } from './training/model-for-data.ts';
export { type NumberFields, numbersOf } from './training/numbers.ts';
export {
  POINT_MODEL,
  POINT_SHAPES,
  POINT_TRAINING,
  type PointShape,
  pointData,
  pointsOf,
} from './training/points.ts';
export type { TrainSets } from './training/state.ts';
export { createTrainer, type TrainEvent, type Trainer, type TrainerOptions } from './training/trainer.ts';
export type { ValidationLosses, ValidationOptions } from './training/validation.ts';
export { type BrowserEngineOptions, createEngine } from './tuning/browser-engine.ts';
export type { EngineTuning } from './tuning/open.ts';
export type { TuningStore } from './tuning/store.ts';
export type { TunedAdapter, TuningResult, TuningTable } from './tuning/table.ts';
export type { TunedEngineOptions } from './tuning/with-tuning.ts';
export { type CacheOfAnswers, type CacheOptions, type Caches, cachingFetch } from './web/cache.ts';
export {
  type Dropped,
  type DroppedEntry,
  type DroppedItem,
  type DroppedReader,
  droppedFiles,
  type FileAt,
} from './web/files.ts';
export { datasetOfIdx, type IdxFiles } from './web/idx.ts';
export {
  type Bitmap,
  datasetOfFiles,
  datasetOfPictures,
  type LabelledPicture,
  type PictureOptions,
} from './web/pictures.ts';

/** Helpers that kernels share (`linear_id`, `silu`, ...), as WGSL text: pass it to `defineKernel` before your own. */
export const wgslLib: string = lib;
