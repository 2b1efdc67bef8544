/** Memory before it is spent: what a request will allocate, and the best settings that fit a limit. */
import { throwIfAborted } from '../engine/abort.ts';
import { dryEngine } from '../engine/dry-device.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, LimitError } from '../engine/errors.ts';
import type { MemoryReport } from '../engine/memory/accountant.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { ACTIVATIONS, type Activations, unfitForHalves } from '../model/dit.ts';
import { paramLayout } from '../model/params.ts';
import { PRECISIONS, type Precision } from '../model/weights/quantize.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import { type Blocks, describeBlocks, mostBlocks } from './blocks.ts';
import { checkObject, checkOneOf, checkRequest, type Requested } from './request.ts';
import { Sampler } from './sampler.ts';
import { scheduleOf } from './schedule.ts';

/** What decides the memory of a request, apart from the model. */
export interface Settings {
  /** As in a request: one number, or a list by time. */
  readonly blocks: Blocks;
  readonly precision: Precision;
  /** Default f32. */
  readonly activations?: Activations;
  /** Absent: all blocks that run are resident. */
  readonly residentBlocks?: number;
  readonly ahead?: boolean;
  readonly batch: number;
}

/** GPU memory that a request will take, in bytes. */
export interface Estimate {
  /** Most bytes of GPU buffers alive at once, and those alive after the request. */
  readonly peak: number;
  readonly live: number;
  /** The live ones, by what they are for. */
  readonly byKind: MemoryReport['byKind'];
  /** Activations of one evaluation: bytes as planned, and the most alive at any one dispatch, which no plan can do without. */
  readonly planned: number;
  readonly lowerBound: number;
}

/** 300MB, 1.5GB, 64000000: powers of ten. `option` is what the user calls it. @throws ConfigError for what is no such size. */
export function parseBytes(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(B|kB|MB|GB)?$/i.exec(text.trim());
  if (!match) throw new ConfigError(`${option} is '${text}'; write it like 300MB or 1.5GB`);
  return Number(match[1]) * { b: 1, kb: 1e3, mb: 1e6, gb: 1e9 }[(match[2] ?? 'B').toLowerCase() as 'b']!;
}

/** What settings and wishes share; numbers of blocks apart. */
function checkCommon({ batch, precision, activations, residentBlocks }: Omit<Wanted, 'blocks'>): void {
  for (const [name, n] of Object.entries({ batch, residentBlocks: residentBlocks ?? 1 })) {
    if (!Number.isInteger(n) || n < 1) throw new ConfigError(`${name} is ${n}; it must be a positive integer`);
  }
  checkOneOf('precision', precision, PRECISIONS);
  checkOneOf('activations', activations, ACTIVATIONS);
}

/**
 * Bytes that a fresh sampler will allocate for a request: found by running it on a device that only counts.
 * @throws UsageError, ConfigError and LimitError for a request or settings that a sampler would not take.
 */
export async function estimateSampling(
  engine: Engine,
  config: ModelConfig,
  settings: Settings,
  request: Requested,
): Promise<Estimate> {
  checkObject('the settings', settings);
  checkCommon(settings);
  checkObject('the request', request);
  checkRequest({ ...request, blocks: settings.blocks }, config);
  const dry = dryEngine(engine);
  const { batch, blocks, precision, activations, residentBlocks, ahead } = settings;
  const layout = paramLayout(config);
  // A dry model reads nothing: only sizes count.
  const source = { layout, bytesOf: () => 0, read: async () => new Float32Array(0) };
  const model = new ResidentModel(dry, config, source, { precision, activations, dry: true });
  const sampler = new Sampler(dry, model, { batch, residentBlocks, ahead });
  // Errors are zero here, so that steps need no limit.
  await sampler.sample({ ...request, blocks, maxSteps: undefined });
  const { peak, live, byKind } = dry.memory.report();
  const plans = scheduleOf({ ...request, blocks }, config).variants.flatMap(({ blocks: length, guided, late }) =>
    sampler.plans(length, guided, late?.how),
  );
  const planned = Math.max(...plans.map((plan) => plan.bytes));
  const lowerBound = Math.max(...plans.map((plan) => plan.lowerBound));
  return { peak, live, byKind, planned, lowerBound };
}

/** Settings that fit a budget, and what they will take. */
export interface Choice extends Estimate {
  readonly settings: Settings;
  /** One sentence for the user. */
  readonly why: string;
}

/** What a budget is to choose from: whatever is given here is kept. */
export interface Wanted {
  readonly blocks: Blocks | 'auto';
  readonly precision?: Precision;
  readonly activations?: Activations;
  readonly residentBlocks?: number;
  /** Most samples computed at once; fewer cost time only. */
  readonly batch: number;
}

/** Settings in the order of what they cost: numbers stored shorter, fewer samples at once, blocks streamed, and last fewer blocks. */
function candidates(config: ModelConfig, wanted: Wanted, { refresh }: Requested): Settings[] {
  const { activations, residentBlocks } = wanted;
  const precisions: readonly Precision[] = wanted.precision ? [wanted.precision] : ['f32', 'f16'];
  const stored: Pick<Settings, 'precision' | 'activations'>[] = precisions.map((precision) =>
    activations ? { precision, activations } : { precision },
  );
  const shortest = stored.at(-1)!;
  if (!activations && !unfitForHalves(config)) stored.push({ ...shortest, activations: 'f16' });
  const least = stored.at(-1)!;
  const batches: number[] = [];
  for (let batch = wanted.batch; batch >= 1; batch = Math.floor(batch / 2)) batches.push(batch);
  const lengths: readonly Blocks[] = wanted.blocks === 'auto' ? [...allowedLengths(config)].reverse() : [wanted.blocks];
  return lengths.flatMap((blocks): Settings[] => {
    const most = { blocks, batch: wanted.batch, ...(residentBlocks ? { residentBlocks } : {}) };
    const resident = [
      ...stored.map((how) => ({ ...most, ...how })),
      ...batches.slice(1).map((batch) => ({ ...most, ...least, batch })),
    ];
    // Streaming is given already, or does not go with it.
    if (residentBlocks || refresh) return resident;
    const few = [8, 4, 2, 1].filter((k) => k < mostBlocks(blocks));
    return [
      ...resident,
      ...batches.flatMap((batch) => few.map((k) => ({ blocks, batch, ...least, residentBlocks: k }))),
    ];
  });
}

/**
 * The settings that keep a request within `limit` bytes and cost least: f32 before f16, all samples at once before fewer, all blocks resident
 * before streaming, and, only if `blocks` is 'auto', many blocks before few. Pictures change with the number of blocks, hardly
 * with f16, not with the others.
 * @throws LimitError naming the smallest limit that would do; UsageError and ConfigError for what makes no sense; InterruptedError.
 */
export async function chooseSettings(
  engine: Engine,
  config: ModelConfig,
  wanted: Wanted,
  request: Requested,
  limit: number,
  { signal, onTry }: { signal?: AbortSignal; onTry?: (settings: Settings) => void } = {},
): Promise<Choice> {
  if (!(limit > 0)) throw new ConfigError(`the memory limit is ${limit} bytes; it must be positive`);
  checkObject('what is wanted', wanted);
  checkCommon(wanted);
  checkObject('the request', request);
  checkRequest(wanted.blocks === 'auto' ? request : { ...request, blocks: wanted.blocks }, config);
  const all = candidates(config, wanted, request);
  let smallest = Number.POSITIVE_INFINITY;
  for (const settings of all) {
    throwIfAborted(signal, 'choosing settings was interrupted');
    onTry?.(settings);
    const estimate = await estimateSampling(engine, config, settings, request);
    smallest = Math.min(smallest, estimate.peak);
    if (estimate.peak <= limit) return { ...estimate, settings, why: explain(settings, all[0]!, estimate, limit) };
  }
  throw new LimitError(
    `sampling within ${limit} bytes is not possible: the smallest setting needs ${smallest}`,
    { asked: smallest, available: limit },
    {
      hint: `allow at least ${Math.ceil(smallest / 1e4) / 100} MB${wanted.blocks === 'auto' ? '' : ', or let --blocks auto choose fewer blocks'}`,
    },
  );
}

/** How settings hold the weights, in words. */
export const describeSettings = ({ precision, activations = 'f32', residentBlocks, blocks, batch }: Settings): string =>
  [
    `${precision} weights${activations === 'f16' ? ' and f16 activations' : ''}`,
    residentBlocks ? `${residentBlocks} blocks resident at a time` : 'all blocks resident',
    `L=${describeBlocks(blocks)}`,
    `${batch} at once`,
  ].join(', ');

function explain(chosen: Settings, first: Settings, { peak }: Estimate, limit: number): string {
  const reason =
    chosen === first
      ? 'it fits as it is'
      : 'what comes before it (f32, more samples at once, all blocks resident, more blocks) does not fit';
  return `${describeSettings(chosen)}: ${(peak / 1e6).toFixed(1)} of ${(limit / 1e6).toFixed(1)} MB; ${reason}`;
}
