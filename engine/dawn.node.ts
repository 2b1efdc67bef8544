/** Owns Dawn, WebGPU under Node: loading it, its flags, and its instances, of which a process has one per driver and flags. */

import { ConfigError, UnsupportedError } from './errors.ts';

export interface DawnOptions {
  /** Dawn flags, `enable-dawn-features=a,b` or `disable-dawn-features=c`; merged with odelt's own. */
  toggles?: readonly string[];
  /** Leave out the bounds checks that Dawn adds to shaders: for kernels proved in bounds. */
  disableRobustness?: boolean;
}

/** Dawn takes each key once (the last wins), so all toggles of one kind go into one comma-separated flag. @throws ConfigError */
export function dawnFlags(options: DawnOptions): string[] {
  const toggles = {
    'enable-dawn-features': new Set<string>(options.disableRobustness ? ['disable_robustness'] : []),
    'disable-dawn-features': new Set(['timestamp_quantization']), // else time stamps move in steps of 65,536 ns
  };
  for (const flag of options.toggles ?? []) {
    const [key = '', names] = flag.split('=');
    if (!(key in toggles) || !names) {
      throw new ConfigError(`Dawn flag '${flag}' is not understood`, {
        hint: 'Write enable-dawn-features=NAME,... or disable-dawn-features=NAME,... .',
      });
    }
    for (const name of names.split(',')) toggles[key as keyof typeof toggles].add(name);
  }
  const flags = Object.entries(toggles).flatMap(([key, names]) =>
    names.size ? [`${key}=${[...names].join(',')}`] : [],
  );
  return process.platform === 'linux' ? ['backend=vulkan', ...flags] : flags;
}

export interface Dawn {
  create(flags: string[]): GPU;
  globals: object;
}

/** Imports Dawn, which is optional and never in a browser's bundle. @throws UnsupportedError */
export async function loadDawn(load: () => Promise<Dawn> = () => import('webgpu')): Promise<Dawn> {
  let dawn: Dawn;
  try {
    dawn = await load();
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    const reason = missing ? 'is not installed' : `cannot be loaded: ${(cause as Error).message}`;
    throw new UnsupportedError(`the optional package webgpu (Dawn) ${reason}`, {
      hint: 'npm install webgpu@0.6.2; it has builds for Linux (glibc), macOS and Windows. Or pass a GPUDevice of your own.',
      cause,
    });
  }
  for (const [name, value] of Object.entries(dawn.globals)) {
    if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  return dawn;
}

/** What the Vulkan loader takes its drivers from; the second is for loaders before 1.3.207. */
export const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'] as const;

/**
 * Instances of this process, by flags and driver. An instance opens its driver, which keeps threads and memory until the
 * garbage collector comes by; so a process that makes engines again and again must not make an instance for each.
 */
const instances = new Map<string, GPU>();

export interface Instance {
  readonly gpu: GPU;
  /** The request that was made of it. */
  readonly adapter: Promise<GPUAdapter | null>;
  /** Makes the next caller get a new instance: after a failure of the driver. */
  readonly forget: () => void;
}

/**
 * Asks for an adapter of the instance with these flags on the driver of `driverFiles` (undefined: of the environment), making
 * the instance if there is none yet.
 */
export function requestFromInstance(dawn: Dawn, flags: readonly string[], driverFiles: string | undefined): Instance {
  const drivers = driverFiles ?? DRIVER_VARIABLES.map((name) => process.env[name]);
  const key = JSON.stringify([flags, drivers]);
  return withDriverFiles(driverFiles, () => {
    const gpu = instances.get(key) ?? dawn.create([...flags]);
    instances.set(key, gpu);
    const adapter = gpu.requestAdapter({ powerPreference: 'high-performance' });
    const forget = () => {
      if (instances.get(key) === gpu) instances.delete(key);
    };
    return { gpu, adapter, forget };
  });
}

/**
 * Runs `body` with VK_DRIVER_FILES set, then puts the environment back. The Vulkan instance reads it within the first
 * `requestAdapter` call of each Dawn instance, before that call returns its promise; so nothing here may be awaited.
 */
function withDriverFiles<T>(files: string | undefined, body: () => T): T {
  if (files === undefined) return body();
  const before = DRIVER_VARIABLES.map((name) => process.env[name]);
  for (const name of DRIVER_VARIABLES) process.env[name] = files;
  try {
    return body();
  } finally {
    DRIVER_VARIABLES.forEach((name, i) => {
      const value = before[i];
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    });
  }
}

/** Outlasts the callbacks that Dawn has queued for an instance: collected before they ran, it would crash the process. */
export async function settleInstance(gpu: GPU): Promise<void> {
  const keep = [gpu];
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  keep.length = 0;
}
