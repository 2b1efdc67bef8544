/** Owns turning a WebGPU `GPU` into a device with its limits, features and error watch; knows no runtime (browser-safe). */

import {
  ConfigError,
  DeviceLostError,
  LimitError,
  OdeltError,
  OutOfMemoryError,
  UnsupportedError,
  UsageError,
} from './errors.ts';

/** What executes the shaders: hardware, one of the two known software Vulkan drivers, or another software one. */
export type AdapterKind = 'gpu' | 'lavapipe' | 'swiftshader' | 'software';

/** The limits that compute work runs into; a device is requested with the adapter's value of each. */
export const COMPUTE_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxBindGroups',
  'maxStorageBuffersPerShaderStage',
  'maxUniformBuffersPerShaderStage',
  'maxDynamicStorageBuffersPerPipelineLayout',
  'maxDynamicUniformBuffersPerPipelineLayout',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
  'maxComputeWorkgroupsPerDimension',
] as const;

/** Offset alignments: unlike the others a smaller value is the better one, and they are never requested. */
export const ALIGNMENT_LIMITS = ['minStorageBufferOffsetAlignment', 'minUniformBufferOffsetAlignment'] as const;

/** A limit of WebGPU that compute shaders run into. */
export type ComputeLimit = (typeof COMPUTE_LIMITS)[number];
/** A limit that descriptions of adapters show. */
export type DescribedLimit = ComputeLimit | (typeof ALIGNMENT_LIMITS)[number];

/** Features worth having; each is requested where the adapter offers it and never required. */
const OPTIONAL_FEATURES = [
  'timestamp-query',
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'chromium-experimental-subgroup-matrix',
] as const;

/** A kind of matrix that a subgroup multiplies at once: an element of GPUAdapterInfo.subgroupMatrixConfigs (Chromium's experiment). */
export interface MatrixUnit {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** The kinds of matrix unit that an adapter or device lists. */
export function matrixUnitsOf(info: GPUAdapterInfo | undefined): MatrixUnit[] {
  const { subgroupMatrixConfigs = [] } = (info ?? {}) as { subgroupMatrixConfigs?: Iterable<MatrixUnit> };
  // Copied, as the fields of Dawn's are getters of a prototype, which JSON does not see.
  return Array.from(subgroupMatrixConfigs, ({ componentType, resultComponentType, M, N, K }) => {
    return { componentType, resultComponentType, M, N, K };
  });
}

/** A JSON-able description of an adapter, or of the device made from it (then: what was granted). */
export interface AdapterDescription {
  name: string;
  vendor: string;
  architecture: string;
  /** The driver's own words, often with its version. */
  driver: string;
  kind: AdapterKind;
  /** True where a CPU does the work. */
  software: boolean;
  /** Invocations per subgroup, smallest and largest; undefined where the runtime does not tell. */
  subgroupSize: { min: number; max: number } | undefined;
  matrixUnits: MatrixUnit[];
  features: string[];
  /** Bytes for sizes and alignments, else counts. */
  limits: Record<DescribedLimit, number>;
}

/** What a driver says of itself, of GPUAdapterInfo. */
interface DriverWords {
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly isFallbackAdapter: boolean;
}

/** The kind of an adapter by what its driver says of itself. */
export function adapterKind(info: DriverWords): AdapterKind {
  const words = `${info.architecture} ${info.device} ${info.description}`;
  if (/swiftshader/i.test(words)) return 'swiftshader';
  if (/llvmpipe|lavapipe/i.test(words)) return 'lavapipe';
  if (info.isFallbackAdapter || /basic render|\bwarp\b/i.test(words)) return 'software';
  return 'gpu';
}

const NO_WORDS = { vendor: '', architecture: '', device: '', description: '', isFallbackAdapter: false };

/**
 * A device that has `adapterInfo`, which Safari 26.0 and Chrome before 132 leave out: what its adapter says of itself, else nothing.
 * @throws UsageError for what is no device.
 */
export function informed(device: GPUDevice, info?: GPUAdapterInfo): GPUDevice {
  if (typeof (device as Partial<GPUDevice> | null)?.createComputePipeline !== 'function') {
    throw new UsageError(`a GPUDevice was expected, not ${Object.prototype.toString.call(device)}`, {
      hint: 'await adapter.requestDevice() gives one',
    });
  }
  if (!device.adapterInfo) Object.defineProperty(device, 'adapterInfo', { value: info ?? NO_WORDS });
  return device;
}

/** Describes an adapter (all it offers) or a device (what it was granted). */
export function describeAdapter(source: GPUAdapter | GPUDevice): AdapterDescription {
  const info = ('info' in source ? source.info : source.adapterInfo) ?? NO_WORDS;
  const kind = adapterKind(info);
  const limits = Object.fromEntries(
    [...COMPUTE_LIMITS, ...ALIGNMENT_LIMITS].map((name) => [name, source.limits[name]]),
  ) as Record<DescribedLimit, number>;
  const { subgroupMinSize: min, subgroupMaxSize: max } = info;
  return {
    name: info.device || info.description || info.architecture || info.vendor || 'unnamed adapter',
    vendor: info.vendor,
    architecture: info.architecture,
    driver: info.description,
    kind,
    software: kind !== 'gpu',
    subgroupSize: min && max ? { min, max } : undefined,
    matrixUnits: matrixUnitsOf(info),
    features: [...source.features].sort(),
    limits,
  };
}

/** What a device must be able to do, and who is told of its errors. */
export interface DeviceOptions {
  label?: string;
  /** Ask for WebGPU's guaranteed limits only, to test that everything fits the smallest adapter. */
  forceDefaultLimits?: boolean;
  /** Limits the caller cannot do without; LimitError where the adapter has less. */
  requiredLimits?: Partial<Record<ComputeLimit, number>>;
  /** Called for each uncaptured error and for an unexpected loss; default: console.error. */
  onError?: (error: OdeltError) => void;
}

/** The same, where the platform chooses the adapter. */
export interface RequestDeviceOptions extends DeviceOptions {
  powerPreference?: 'low-power' | 'high-performance';
}

/** A device with its description and the watch over its errors. `device.destroy()` ends it. */
export interface AcquiredDevice {
  device: GPUDevice;
  /** What the device was granted. */
  adapter: AdapterDescription;
  watch: DeviceWatch;
}

/** The limits to request: the adapter's own unless `forceDefaultLimits`, then the caller's on top. @throws LimitError, ConfigError */
export function chooseLimits(
  available: Readonly<Record<ComputeLimit, number>>,
  options: Pick<DeviceOptions, 'forceDefaultLimits' | 'requiredLimits'> = {},
): Partial<Record<ComputeLimit, number>> {
  const limits: Partial<Record<ComputeLimit, number>> = {};
  if (!options.forceDefaultLimits) for (const name of COMPUTE_LIMITS) limits[name] = available[name];
  for (const [key, asked] of Object.entries(options.requiredLimits ?? {})) {
    const name = COMPUTE_LIMITS.find((known) => known === key);
    if (name === undefined) {
      throw new ConfigError(`unknown device limit '${key}'`, { hint: `Known limits: ${COMPUTE_LIMITS.join(', ')}.` });
    }
    if (asked === undefined) continue;
    if (asked > available[name]) {
      throw new LimitError(
        `${name} of ${asked} was asked for, the adapter has ${available[name]}`,
        { asked, available: available[name] },
        { hint: 'Choose a smaller model or batch, or another adapter.' },
      );
    }
    limits[name] = options.forceDefaultLimits ? asked : available[name];
  }
  return limits;
}

/** Requests an adapter and its device. @throws UnsupportedError without an adapter; else as `deviceFromAdapter` */
export async function requestDevice(gpu: GPU | undefined, options: RequestDeviceOptions = {}): Promise<AcquiredDevice> {
  const adapter = await gpu?.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' });
  if (!gpu || !adapter) {
    throw new UnsupportedError(gpu ? 'WebGPU has no adapter on this machine' : 'this runtime has no WebGPU', {
      hint: 'Use a browser with WebGPU switched on and a supported GPU driver, or Node with the webgpu package.',
    });
  }
  return deviceFromAdapter(gpu, adapter, options);
}

/**
 * Requests the device of an adapter; WebGPU lets each adapter do so once.
 * @throws LimitError, ConfigError (required limits), UnsupportedError (the driver failed)
 */
export async function deviceFromAdapter(
  gpu: GPU,
  adapter: GPUAdapter,
  options: DeviceOptions = {},
): Promise<AcquiredDevice> {
  const label = options.label ?? 'odelt';
  const requiredLimits = chooseLimits(adapter.limits, options);
  const requiredFeatures = OPTIONAL_FEATURES.filter((feature) =>
    (adapter.features as ReadonlySet<string>).has(feature),
  ) as GPUFeatureName[];
  let device: GPUDevice;
  try {
    const queue = { label: `${label}/queue` };
    device = await adapter.requestDevice({ label, requiredFeatures, requiredLimits, defaultQueue: queue });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UnsupportedError(`${describeAdapter(adapter).name} gave no device`, { details: reason, cause });
  }
  // Dawn's device runs its callbacks on the instance behind `gpu` without owning it: were `gpu` collected first, the
  // process would crash in freed memory. So whoever holds the device holds `gpu`.
  Object.defineProperty(informed(device, adapter.info), Symbol('instance'), { value: gpu });
  const granted = describeAdapter(device);
  // Dawn under Node lists them with the adapter alone.
  if (granted.matrixUnits.length === 0 && granted.features.includes('chromium-experimental-subgroup-matrix')) {
    granted.matrixUnits = matrixUnitsOf(adapter.info);
  }
  return { device, adapter: granted, watch: watchDevice(device, options.onError) };
}

/** What went wrong on a device outside of any error scope. */
export interface DeviceWatch {
  /** Uncaptured errors that `check` has not thrown yet, oldest first (at most 100 are kept). */
  readonly errors: readonly OdeltError[];
  /** Set once the device is gone, whether destroyed on purpose or lost. */
  readonly lost: DeviceLostError | undefined;
  /** Resolves when the device is gone; never rejects. */
  readonly whenLost: Promise<DeviceLostError>;
  /** Throws if the device is gone, or the oldest uncaptured error (then forgets the collected ones). */
  check(): void;
  /** Forgets the validation errors collected so far: they follow from something that has been reported. */
  forgetValidation(): void;
  /** Collects no more: whoever watches a device of somebody else's leaves nothing on it. */
  stop(): void;
}

const KEPT_ERRORS = 100;

/** Collects a device's uncaptured errors and its loss, and reports them; also for a caller's own device. */
export function watchDevice(device: GPUDevice, onError: (error: OdeltError) => void = logError): DeviceWatch {
  let errors: OdeltError[] = [];
  let lost: DeviceLostError | undefined;
  const collect = (event: GPUUncapturedErrorEvent) => {
    // Chrome logs what nobody prevents; here `onError` has the say.
    event.preventDefault?.();
    const error = typedError(event.error);
    if (errors.length < KEPT_ERRORS) errors.push(error);
    onError(error);
  };
  device.addEventListener('uncapturederror', collect);
  const whenLost = device.lost.then((info) => {
    // Dawn holds listeners, and they the device: left on it, they would keep it and its threads for as long as the process runs.
    device.removeEventListener('uncapturederror', collect);
    const why = info.message || 'no reason was given';
    lost =
      info.reason === 'destroyed'
        ? new DeviceLostError('the device was destroyed', { hint: 'Request a new device.' })
        : new DeviceLostError('the device was lost', {
            details: why,
            hint: 'Request a new device and go on from the last checkpoint.',
          });
    if (info.reason !== 'destroyed') onError(lost);
    return lost;
  });
  return {
    get errors() {
      return errors;
    },
    whenLost,
    get lost() {
      return lost;
    },
    check() {
      if (lost) throw lost;
      const [first] = errors.splice(0);
      if (first) throw first;
    },
    forgetValidation() {
      errors = errors.filter((error) => error.code !== 'validation');
    },
    stop() {
      device.removeEventListener('uncapturederror', collect);
    },
  };
}

/** The typed error for what an error scope or the uncaptured-error event gave. */
function typedError(error: GPUError): OdeltError {
  // By name: under Node the GPU error classes are globals only where somebody installed them.
  switch (error.constructor.name) {
    case 'GPUOutOfMemoryError':
      return new OutOfMemoryError('the device is out of memory', {
        details: error.message,
        hint: 'Use a smaller batch or model, or free other users of the GPU.',
      });
    case 'GPUValidationError':
      return new OdeltError('validation', 'WebGPU validation failed', {
        details: error.message,
        hint: 'This is a bug in the calling code; please report it.',
      });
    default:
      return new OdeltError('gpu-internal', 'the GPU driver failed', {
        details: error.message,
        hint: 'Update the driver, or choose another adapter.',
      });
  }
}

function logError(error: OdeltError): void {
  console.error(`odelt: ${error.message}`);
}
