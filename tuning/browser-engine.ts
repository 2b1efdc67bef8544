/** Engines in browsers: on `navigator.gpu`'s adapter, or on a device of the page's own. */
import { type RequestDeviceOptions, requestDevice } from '../engine/device.ts';
import { Engine, type EngineOptions, engineOn } from '../engine/engine.ts';
import { type TunedEngineOptions, withTuning } from './with-tuning.ts';

/** How to get an engine where `navigator.gpu` is the way to a device. */
export interface BrowserEngineOptions
  extends RequestDeviceOptions,
    TunedEngineOptions,
    Pick<EngineOptions, 'mirrors' | 'submissionBudget'> {
  /** A device of your own; it stays alive when the engine is disposed. Options of the device then do not matter. */
  readonly device?: GPUDevice;
}

/**
 * An engine on `navigator.gpu`'s preferred adapter, or on your own device. Dispose it when done.
 * @throws UnsupportedError where there is no WebGPU; LimitError and ConfigError for `requiredLimits` that cannot be had; TuningError;
 * UsageError for a `device` that is none.
 */
export async function createEngine(options: BrowserEngineOptions = {}): Promise<Engine> {
  const engine = options.device ? engineOn(options.device, options) : await ownEngine(options);
  return withTuning(engine, options, async () =>
    'indexedDB' in globalThis ? (await import('./store.ts')).indexedDbStore() : null,
  );
}

async function ownEngine(options: BrowserEngineOptions): Promise<Engine> {
  const gpu = 'navigator' in globalThis ? globalThis.navigator.gpu : undefined;
  const { device, adapter } = await requestDevice(gpu, options);
  return new Engine(device, adapter.kind, {
    matrixUnits: adapter.matrixUnits,
    mirrors: options.mirrors,
    submissionBudget: options.submissionBudget,
  });
}
