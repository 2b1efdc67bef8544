/** Memory before it is spent: what a request will allocate, and the best settings that fit a limit. */
import { dryEngine } from '../engine/dry.ts';
import type { Engine } from '../engine/engine.ts';
import { ConfigError, LimitError } from '../engine/errors.ts';
import type { MemoryReport } from '../engine/memory.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { ResidentModel } from '../model/model.ts';
import { paramLayout } from '../model/params.ts';
import type { Precision } from '../model/quantize.ts';
import { isGuided, type SampleRequest, Sampler } from './sampler.ts';

/** What decides the memory of a request, apart from the model. */
export interface Settings {
  readonly blocks: number;
  readonly precision: Precision;
  /** Absent: all blocks that run are resident. */
  readonly residentBlocks?: number;
  readonly ahead?: boolean;
  readonly batch: number;
}

export interface Estimate {
  /** Most bytes of GPU buffers alive at once, and those alive after the request. */
  readonly peak: number;
  readonly live: number;
  /** The live ones, by what they are for. */
  readonly byKind: MemoryReport['byKind'];
  /** Activations of one time step: bytes as planned, and the most alive at any one dispatch, which no plan can do without. */
  readonly planned: number;
  readonly lowerBound: number;
}

type Requested = Pick<SampleRequest, 'labels' | 'steps' | 'guidance'>;

/** Bytes that a fresh sampler will allocate for a request: found by running it on a device that only counts. */
export async function estimateSampling(
  engine: Engine,
  config: ModelConfig,
  settings: Settings,
  request: Requested,
): Promise<Estimate> {
  const dry = dryEngine(engine.device, engine.adapterClass);
  const { batch, blocks, precision, residentBlocks, ahead } = settings;
  const layout = paramLayout(config);
  // A dry model reads nothing: only sizes count.
  const source = { layout, bytesOf: () => 0, read: async () => new Float32Array(0) };
  const model = new ResidentModel(dry, config, source, { precision, dry: true });
  const sampler = new Sampler(dry, model, { batch, residentBlocks, ahead });
  await sampler.sample({ ...request, blocks });
  const { peak, live, byKind } = dry.memory.report();
  const plans = sampler.plans(blocks, isGuided(request.guidance));
  const planned = Math.max(...plans.map((plan) => plan.bytes));
  const lowerBound = Math.max(...plans.map((plan) => plan.lowerBound));
  return { peak, live, byKind, planned, lowerBound };
}

export interface Choice extends Estimate {
  readonly settings: Settings;
  /** One sentence for the user. */
  readonly why: string;
}

/**
 * The settings that keep a request within `limit` bytes and cost least: f32 before f16, all blocks resident before streaming, and, only
 * if `blocks` is 'auto', many blocks before few. Pictures change with the number of blocks, hardly with f16, not with streaming.
 * @throws LimitError naming the smallest limit that would do.
 */
export async function chooseSettings(
  engine: Engine,
  config: ModelConfig,
  wanted: { blocks: number | 'auto'; precision?: Precision; batch: number },
  request: Requested,
  limit: number,
): Promise<Choice> {
  if (!(limit > 0)) throw new ConfigError(`the memory limit is ${limit} bytes; it must be positive`);
  const lengths = wanted.blocks === 'auto' ? [...allowedLengths(config)].reverse() : [wanted.blocks];
  const precisions: readonly Precision[] = wanted.precision ? [wanted.precision] : ['f32', 'f16'];
  const resident = (blocks: number) => precisions.map((precision) => ({ blocks, precision, batch: wanted.batch }));
  const streamed = (blocks: number) =>
    [8, 4, 2, 1]
      .filter((k) => k < blocks)
      .map((residentBlocks) => ({ blocks, residentBlocks, precision: precisions.at(-1)!, batch: wanted.batch }));
  const candidates: Settings[] = [...lengths.flatMap(resident), ...lengths.flatMap(streamed)];
  let smallest = Number.POSITIVE_INFINITY;
  for (const settings of candidates) {
    const estimate = await estimateSampling(engine, config, settings, request);
    smallest = Math.min(smallest, estimate.peak);
    if (estimate.peak <= limit)
      return { ...estimate, settings, why: explain(settings, candidates[0]!, estimate, limit) };
  }
  throw new LimitError(
    `sampling within ${limit} bytes is not possible: the smallest setting needs ${smallest}`,
    { asked: smallest, available: limit },
    {
      hint: `allow at least ${Math.ceil(smallest / 1e6)} MB, ${wanted.blocks === 'auto' ? '' : 'let --blocks auto choose fewer blocks, '}or use a smaller batch`,
    },
  );
}

function explain(chosen: Settings, first: Settings, { peak }: Estimate, limit: number): string {
  const parts = [
    `${chosen.precision} weights`,
    chosen.residentBlocks ? `${chosen.residentBlocks} blocks resident at a time` : 'all blocks resident',
    `L=${chosen.blocks}`,
  ];
  const reason =
    chosen === first ? 'it fits as it is' : 'what comes before it (f32, all blocks resident, more blocks) does not fit';
  return `${parts.join(', ')}: ${(peak / 1e6).toFixed(1)} of ${(limit / 1e6).toFixed(1)} MB; ${reason}`;
}
