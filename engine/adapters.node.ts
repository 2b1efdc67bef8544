/** Owns choosing a Vulkan driver under Node: which candidates there are, in what order, and why not. */

import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { LISTING, type Listed, listedAt, listedInTurn, listedNames, listedOf } from './adapter-index.ts';
import {
  type Dawn,
  type DawnOptions,
  DRIVER_VARIABLES,
  dawnFlags,
  loadDawn,
  requestFromInstance,
  settleInstance,
} from './dawn.node.ts';
import {
  type AcquiredDevice,
  type AdapterDescription,
  type AdapterKind,
  adapterKind,
  type DeviceOptions,
  describeAdapter,
  deviceFromAdapter,
} from './device.ts';
import { ConfigError, LimitError, UnsupportedError } from './errors.ts';
import type { Environment } from './folders.node.ts';
import {
  findSwiftshaderArchive,
  hasVulkanLoader,
  preloadVulkanLoader,
  SWIFTSHADER_DIRECTORIES,
  swiftshaderIcd,
  unpackSwiftshader,
} from './swiftshader.node.ts';

/** Adapters that may be asked for by name; 'auto' takes the best there is. */
export const ADAPTER_CHOICES = ['auto', 'gpu', 'lavapipe', 'swiftshader'] as const;
/** One of `ADAPTER_CHOICES`. */
export type AdapterChoice = (typeof ADAPTER_CHOICES)[number];

/** Which adapter Dawn is to use, and how. */
export interface NodeDeviceOptions extends DeviceOptions, DawnOptions {
  /** Default: the environment variable ODELT_ADAPTER, else 'auto' (a GPU, else lavapipe, else SwiftShader). */
  adapter?: AdapterChoice;
  /**
   * Which of the adapters that `adapter` allows, from 0, in the order in which drivers are tried and Dawn lists each driver's. Default: the
   * environment variable ODELT_ADAPTER_INDEX, else the first that works.
   */
  adapterIndex?: number;
  /** Number of this process among those of its machine that train together: where no index is given, each takes the next adapter of the driver. */
  localRank?: number;
}

/** What became of one way to get an adapter. */
export interface CandidateReport {
  name: string;
  outcome: 'taken' | 'refused' | 'not tried';
  reason: string;
}

/** JSON-able: which adapter was taken, and why it and no other. */
export interface AdapterReport {
  choice: AdapterChoice;
  backend: string;
  adapter: AdapterDescription;
  candidates: CandidateReport[];
  /** Where one of several was chosen: names of all that the driver has, the one taken among them. */
  listed?: { readonly taken: string; readonly names: readonly string[] };
}

/** A device of Dawn's, and how it was found. */
export interface NodeDevice extends AcquiredDevice {
  /** Dawn's instance, which devices on one driver share; it lives as long as they do. */
  gpu: GPU;
  adapterReport: AdapterReport;
}

/** Where a candidate's Vulkan driver comes from. */
export type DriverSource =
  | { from: 'system' }
  | { from: 'icd'; file: string }
  | { from: 'directory'; directory: string }
  | { from: 'archive'; file: string }
  | { from: 'nowhere'; reason: string };

export interface Candidate {
  name: string;
  accepts: readonly AdapterKind[];
  source: DriverSource;
}

/** What the candidates depend on; `surveyMachine` fills it, tests make it up. */
export interface Machine {
  platform: string;
  arch: string;
  /** The user's own VK_DRIVER_FILES (or one of its kin), if set. */
  userDriver: string | undefined;
  lavapipeIcds: readonly string[];
  swiftshaderDirectories: readonly string[];
  swiftshaderArchive: string | undefined;
}

const ANY: readonly AdapterKind[] = ['gpu', 'lavapipe', 'swiftshader', 'software'];

/** The candidates for a choice, in the order in which they are to be tried. */
export function planCandidates(choice: AdapterChoice, machine: Machine): Candidate[] {
  const candidates: Candidate[] = [];
  const wants = (kind: AdapterChoice) => choice === 'auto' || choice === kind;
  const linux = machine.platform === 'linux';
  // A driver that the user chose by environment is taken whatever it is; so is all that Metal or Direct3D offer.
  if (wants('gpu') || machine.userDriver !== undefined) {
    const own = machine.userDriver === undefined ? 'gpu' : `gpu (${machine.userDriver})`;
    const accepts: readonly AdapterKind[] =
      choice === 'auto' ? (machine.userDriver !== undefined || !linux ? ANY : ['gpu']) : [choice];
    candidates.push({ name: own, accepts, source: { from: 'system' } });
  }
  const add = (kind: 'lavapipe' | 'swiftshader', where: string, source: DriverSource) =>
    candidates.push({ name: `${kind} (${where})`, accepts: [kind], source });
  const nowhere = (reason: string): DriverSource => ({ from: 'nowhere', reason });
  if (wants('lavapipe')) {
    for (const file of machine.lavapipeIcds) add('lavapipe', file, { from: 'icd', file });
    if (machine.lavapipeIcds.length === 0) {
      add('lavapipe', 'Mesa', nowhere(linux ? 'not installed: no lvp_icd*.json in any vulkan/icd.d' : 'Linux only'));
    }
  }
  if (wants('swiftshader')) {
    for (const directory of machine.swiftshaderDirectories) {
      add('swiftshader', directory, { from: 'directory', directory });
    }
    if (machine.swiftshaderDirectories.length === 0) {
      add('swiftshader', 'Chromium', nowhere(linux ? 'no Chromium with SwiftShader is installed' : 'Linux only'));
    }
    const file = machine.swiftshaderArchive;
    const npm = '@sparticuz/chromium';
    if (!linux || machine.arch !== 'x64') add('swiftshader', npm, nowhere('the package holds a Linux x64 driver only'));
    else if (file === undefined) add('swiftshader', npm, nowhere('the npm package is not installed'));
    else add('swiftshader', npm, { from: 'archive', file });
  }
  return candidates;
}

/**
 * Tries candidates in order and returns what `attempt` made of the first that did not throw.
 * @throws UnsupportedError naming every refusal and the ways out; LimitError and ConfigError pass through at once
 */
export async function takeFirst<T>(
  candidates: readonly Candidate[],
  attempt: (candidate: Candidate) => Promise<{ result: T; reason: string }>,
): Promise<{ result: T; reports: CandidateReport[] }> {
  const reports: CandidateReport[] = [];
  for (const [index, candidate] of candidates.entries()) {
    const { name } = candidate;
    try {
      const { result, reason } = await attempt(candidate);
      reports.push({ name, outcome: 'taken', reason });
      for (const later of candidates.slice(index + 1)) {
        reports.push({ name: later.name, outcome: 'not tried', reason: `${name} comes first` });
      }
      return { result, reports };
    } catch (error) {
      // The caller's own wishes: another adapter must not quietly take over from one that cannot grant them.
      if (error instanceof LimitError || error instanceof ConfigError) throw error;
      reports.push({ name, outcome: 'refused', reason: error instanceof Error ? error.message : String(error) });
    }
  }
  const list = reports.map(({ name, reason }) => `  - ${name}: ${reason}`).join('\n');
  throw new UnsupportedError('no WebGPU adapter was found; tried', { details: `\n${list}`, hint: WAYS_OUT });
}

const WAYS_OUT = `One of these three helps (the last two with ODELT_ADAPTER=auto):
  1. install the Vulkan driver of your GPU;
  2. apt-get install mesa-vulkan-drivers (Debian bookworm: -t bookworm-backports; Mesa 25 is known to work);
  3. npm install @sparticuz/chromium, or apt-get install chromium, for SwiftShader.`;

/** Looks for drivers on this machine: file names only, nothing is loaded. */
export function surveyMachine(env: Environment = process.env): Machine {
  const userVariable = [...DRIVER_VARIABLES, 'VK_ADD_DRIVER_FILES'].find((name) => env[name]);
  const dataHome = env.XDG_DATA_HOME || join(env.HOME || homedir(), '.local', 'share');
  const dataDirectories = (env.XDG_DATA_DIRS || '/usr/local/share:/usr/share').split(delimiter);
  const parents = new Set([dataHome, '/etc', '/usr/local/etc', '/usr/local/share', '/usr/share', ...dataDirectories]);
  // Code is loaded from there: an empty or relative entry must not lead into whatever directory this was started in.
  const lavapipeIcds = [...parents].filter(isAbsolute).flatMap((parent) => {
    const directory = join(parent, 'vulkan', 'icd.d');
    if (!existsSync(directory)) return [];
    const names = readdirSync(directory).filter((name) => /^lvp_icd.*\.json$/.test(name));
    return names.map((name) => join(directory, name));
  });
  return {
    platform: process.platform,
    arch: process.arch,
    userDriver: userVariable && `${userVariable}=${env[userVariable]}`,
    lavapipeIcds,
    swiftshaderDirectories: SWIFTSHADER_DIRECTORIES.filter((directory) => swiftshaderIcd(directory)),
    swiftshaderArchive: findSwiftshaderArchive(),
  };
}

/** The adapter choice from an option or the environment variable ODELT_ADAPTER. @throws ConfigError */
export function adapterChoice(option: string | undefined, env: Environment = process.env): AdapterChoice {
  const asked = option ?? (env.ODELT_ADAPTER || 'auto');
  const choice = ADAPTER_CHOICES.find((known) => known === asked);
  if (choice) return choice;
  const what = option === undefined ? 'ODELT_ADAPTER' : 'adapter';
  throw new ConfigError(`${what} '${asked}' is unknown`, { hint: `Choose one of ${ADAPTER_CHOICES.join(', ')}.` });
}

/** The index from an option or the environment variable ODELT_ADAPTER_INDEX. @throws ConfigError */
export function adapterIndexChoice(option: number | undefined, env: Environment = process.env): number | undefined {
  const what = option === undefined ? 'ODELT_ADAPTER_INDEX' : 'adapterIndex';
  const asked = option ?? (env.ODELT_ADAPTER_INDEX || undefined);
  if (asked === undefined) return undefined;
  if (/^\d{1,4}$/.test(String(asked))) return Number(asked);
  throw new ConfigError(`${what} is '${asked}'; it must be the number of an adapter, from 0`);
}

/**
 * Acquires a device under Node, from the first candidate that gives one. WebGPU's constants (`GPUBufferUsage`, ...)
 * become globals where they are not yet. To be called on the main thread: a worker's `process.env` is a copy that
 * drivers do not see.
 * @throws UnsupportedError (no candidate, or no `webgpu` package), LimitError, ConfigError (also for an index that no adapter has)
 */
export async function requestNodeDevice(options: NodeDeviceOptions = {}): Promise<NodeDevice> {
  const choice = adapterChoice(options.adapter);
  const index = adapterIndexChoice(options.adapterIndex);
  const flags = dawnFlags(options);
  const candidates = planCandidates(choice, surveyMachine());
  const dawn = await loadDawn();
  const seen: string[] = [];
  const chosen = async (candidate: Candidate, driverFiles: string | undefined) => {
    if (index === undefined && options.localRank === undefined) return undefined;
    const listed = listedOf(await namesOf(dawn, flags, driverFiles), candidate.accepts);
    if (index === undefined) return { listed, one: listedInTurn(listed, options.localRank!) };
    const from = seen.length;
    seen.push(...listed.map(({ name }) => name));
    if (index < from || index >= seen.length)
      throw new UnsupportedError(`its adapters are ${from} to ${seen.length - 1}, number ${index} was asked for`);
    return { listed, one: listedAt(listed, index - from, from) };
  };
  const { result, reports } = await takeFirst(candidates, async (candidate) => {
    const driverFiles = await prepareDriver(candidate.source);
    const wanted = await chosen(candidate, driverFiles);
    const own = wanted?.one ? [...flags, `adapter=${wanted.one.name}`] : flags;
    const { gpu, adapter: requested, forget } = requestFromInstance(dawn, own, driverFiles);
    try {
      const adapter = await requested;
      if (!adapter) {
        forget();
        throw new UnsupportedError(`Dawn found no usable adapter (${noAdapterReason(candidate)})`);
      }
      const kind = adapterKind(adapter.info);
      if (!candidate.accepts.includes(kind)) {
        throw new UnsupportedError(`the adapter found is ${describeAdapter(adapter).name}, of kind '${kind}'`);
      }
      const acquired = await deviceFromAdapter(gpu, adapter, options);
      void acquired.device.lost.then(({ reason }) => reason !== 'destroyed' && forget());
      const reason = `${kind}: ${acquired.adapter.driver || acquired.adapter.name}`;
      return { result: { gpu, ...acquired, listed: reportOf(wanted) }, reason };
    } finally {
      await settleInstance(gpu);
    }
  }).catch((error: unknown) => {
    throw index !== undefined && seen.length > 0 && index >= seen.length ? noSuchAdapter(index, seen) : error;
  });
  const { listed, ...acquired } = result;
  const adapterReport = { choice, backend: backendName(), adapter: acquired.adapter, candidates: reports };
  return { ...acquired, adapterReport: listed ? { ...adapterReport, listed } : adapterReport };
}

/** What Dawn lists of a driver. @throws what it refuses for another reason */
async function namesOf(dawn: Dawn, flags: readonly string[], driverFiles: string | undefined): Promise<string[]> {
  const { gpu, adapter } = requestFromInstance(dawn, [...flags, LISTING], driverFiles);
  const names = await adapter.then(
    () => [],
    (error: Error) => listedNames(error.message) ?? Promise.reject(error),
  );
  await settleInstance(gpu);
  return names;
}

const reportOf = (wanted: { listed: readonly Listed[]; one: Listed | undefined } | undefined) =>
  wanted?.one && { taken: wanted.one.name, names: wanted.listed.map(({ name }) => name) };

function noSuchAdapter(index: number, seen: readonly string[]): ConfigError {
  const all = seen.map((name, i) => `${i} '${name}'`).join(', ');
  const count = seen.length === 1 ? 'is one' : `are ${seen.length}`;
  return new ConfigError(`there is no adapter ${index}: there ${count}, ${all}`, {
    hint: 'numbers count what is left after the kind that --adapter or ODELT_ADAPTER asks for',
  });
}

/** Makes a candidate's driver ready; returns what VK_DRIVER_FILES must be, undefined to leave it as it is. */
async function prepareDriver(source: DriverSource): Promise<string | undefined> {
  switch (source.from) {
    case 'nowhere':
      throw new UnsupportedError(source.reason);
    case 'system':
    case 'icd':
      if (process.platform === 'linux' && !hasVulkanLoader()) {
        throw new UnsupportedError('there is no Vulkan loader (libvulkan.so.1) on this machine');
      }
      return source.from === 'icd' ? source.file : undefined;
    case 'directory':
    case 'archive': {
      const directory = source.from === 'directory' ? source.directory : await unpackSwiftshader(source.file);
      const icd = swiftshaderIcd(directory);
      if (!icd) throw new UnsupportedError(`${directory} holds no SwiftShader`);
      if (!hasVulkanLoader()) preloadVulkanLoader(dirname(icd));
      return icd;
    }
    default:
      return source satisfies never;
  }
}

function noAdapterReason({ source }: Candidate): string {
  return source.from === 'system'
    ? 'no driver, no device, or one without what WebGPU requires'
    : 'the driver is too old, lacks what WebGPU requires, or cannot be loaded';
}

function backendName(): string {
  const names: Partial<Record<NodeJS.Platform, string>> = { linux: 'vulkan', darwin: 'metal', win32: 'd3d12' };
  return names[process.platform] ?? 'unknown';
}
