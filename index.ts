/**
 * The package's entry for browsers and every other runtime: nothing here, nor anything it imports, needs Node. Under Node,
 * `odelt` resolves to node.ts, which has all of this and more.
 */
import { adapterKind, type RequestDeviceOptions, requestDevice } from './engine/device.ts';
import { Engine } from './engine/engine.ts';
import lib from './kernels/lib.wgsl';

export { Context } from './engine/context.ts';
export {
  type AcquiredDevice,
  type AdapterDescription,
  type AdapterKind,
  type DeviceOptions,
  describeAdapter,
  type RequestDeviceOptions,
  requestDevice,
} from './engine/device.ts';
export { eager } from './engine/eager.ts';
export { Engine, type TensorData } from './engine/engine.ts';
export * from './engine/errors.ts';
export type { Gradients, TapeEntry } from './engine/gradients.ts';
export { type Dispatch, defineKernel, type Grid, type Kernel } from './engine/kernel.ts';
export type { MemoryKind, MemoryReport } from './engine/memory/accountant.ts';
export { Arena } from './engine/memory/arena.ts';
export type { Plan } from './engine/memory/planner.ts';
export { type CompileOptions, Program, type Recording, record } from './engine/program.ts';
export { ceilDiv, type Scalar, type ScalarValues, scalarInput, times } from './engine/scalar.ts';
export { Tape } from './engine/tape.ts';
export { type DType, lastDim, maxSize, type Shape, sizeOf, type Tensor } from './engine/tensor.ts';
export { addGradients, copyInto } from './kernels/add.ts';
export { type Contract, contract, type InputSpec } from './kernels/contract.ts';
export { contracts } from './kernels/registry.ts';
export {
  allowedLengths,
  type LengthConfig,
  type ModelConfig,
  PRESETS,
  type PresetName,
  parseModelConfig,
  preset,
} from './model/config.ts';
export { type Depth, type Model, type VelocityInputs, velocity } from './model/dit.ts';
export { initParams, type ParamLayout, type ParamSet, paramLayout } from './model/params.ts';
export { classNamesOf, type ModelFile, parseModelFile } from './model/weights/model-file.ts';
export { PRECISIONS, type Precision } from './model/weights/quantize.ts';
export { groupsFor, ResidentModel, type Storing, uploadModel } from './model/weights/residency.ts';
export {
  type GroupSource,
  type ModelSource,
  memorySource,
  type PrefetchingSource,
  prefetching,
} from './model/weights/source.ts';
export { openModelUrl } from './model/weights/source-url.ts';
export {
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
  type Choice,
  chooseSettings,
  type Estimate,
  estimateSampling,
  type Settings,
  type Wanted,
} from './sampling/budget.ts';
export { describeLabel, parseLabels } from './sampling/labels.ts';
export {
  type SampleProgress,
  type SampleRequest,
  Sampler,
  type SamplerOptions,
  type Samples,
} from './sampling/sampler.ts';

/** Helpers that kernels share (`linear_id`, `silu`, ...), as WGSL text: pass it to `defineKernel` before your own. */
export const wgslLib: string = lib;

export interface BrowserEngineOptions extends RequestDeviceOptions {
  /** A device of your own; it stays alive when the engine is disposed. The other options then do not matter. */
  readonly device?: GPUDevice;
}

/**
 * An engine on `navigator.gpu`'s preferred adapter, or on your own device. Dispose it when done.
 * @throws UnsupportedError where there is no WebGPU; LimitError and ConfigError for `requiredLimits` that cannot be had.
 */
export async function createEngine(options: BrowserEngineOptions = {}): Promise<Engine> {
  if (options.device) return new Engine(options.device, adapterKind(options.device.adapterInfo), { ownsDevice: false });
  const gpu = 'navigator' in globalThis ? globalThis.navigator.gpu : undefined;
  const { device, adapter } = await requestDevice(gpu, options);
  return new Engine(device, adapter.kind);
}
