/** What sampling takes of GPU memory, for every number of blocks and every way to hold the weights: estimated, and measured. */
import type { Engine } from '../engine/engine.ts';
import { ConfigError } from '../engine/errors.ts';
import type { MemoryReport } from '../engine/memory/accountant.ts';
import { allowedLengths, type ModelConfig } from '../model/config.ts';
import { paramLayout } from '../model/params.ts';
import { ResidentModel } from '../model/weights/residency.ts';
import type { GroupSource } from '../model/weights/source.ts';
import type { MemoryBar } from '../pictures/memory-plot.ts';
import { estimateSampling, type Settings } from '../sampling/budget.ts';
import { usualLabels } from '../sampling/classes.ts';
import { Sampler } from '../sampling/sampler.ts';
import { formulaFill } from '../verify/formula-params.ts';

/** A way to hold the weights. */
export interface MemoryOption extends Pick<Settings, 'precision' | 'activations' | 'ahead' | 'residentBlocks'> {
  readonly name: string;
}

/** `ahead`: modulations computed before the loop, which streaming implies. */
export const MEMORY_OPTIONS: readonly MemoryOption[] = [
  { name: 'f32', precision: 'f32', ahead: false },
  { name: 'f32 + ahead', precision: 'f32', ahead: true },
  { name: 'f16 + ahead', precision: 'f16', ahead: true },
  { name: 'int8 + ahead', precision: 'int8', ahead: true },
  { name: 'f16 + ahead, f16 activations', precision: 'f16', activations: 'f16', ahead: true },
  { name: 'f16 + 2 resident', precision: 'f16', ahead: true, residentBlocks: 2 },
];

/** One number of blocks with one option; `settingName` is how commands name it. */
export interface MemorySetting {
  readonly blocks: number;
  readonly option: MemoryOption;
}

export const settingName = ({ blocks, option }: MemorySetting): string => `L=${blocks} ${option.name}`;

export interface MemoryRequest {
  readonly batch: number;
  readonly steps: number;
}

/** What one sampling really took. */
export interface Measured {
  /** Most bytes of GPU buffers alive at once, and those alive after the request. */
  readonly peak: number;
  readonly live: number;
  /** Of the request: weights made and uploaded, programs compiled, all steps. */
  readonly seconds: number;
  /** Bytes that the process holds in RAM after the request, and before it; on software adapters GPU buffers are part of that. */
  readonly resident?: number;
  readonly residentBefore?: number;
  /** Bytes that the driver says the process holds on the GPU, where it can be asked. */
  readonly driver?: number;
}

/** All sizes in bytes. */
export interface MemoryRow extends MemoryBar {
  /** Activations of one time step as planned, and the most of them alive at any one dispatch. */
  readonly planned: number;
  readonly lowerBound: number;
  readonly measured?: Measured;
}

/** Every setting of a model; with `only`, the one of that name, or those whose names contain it. @throws ConfigError for none. */
export function memorySettings(config: ModelConfig, only?: string): MemorySetting[] {
  const all = allowedLengths(config).flatMap((blocks) => MEMORY_OPTIONS.map((option) => ({ blocks, option })));
  if (only === undefined) return all;
  const exact = all.filter((setting) => settingName(setting) === only);
  const chosen = exact.length > 0 ? exact : all.filter((setting) => settingName(setting).includes(only));
  if (chosen.length === 0) {
    throw new ConfigError(`no setting is named '${only}'`, { hint: `there are ${all.map(settingName).join('; ')}` });
  }
  return chosen;
}

const requested = (config: ModelConfig, { batch, steps }: MemoryRequest) => ({
  labels: usualLabels(config, batch),
  steps,
});

/** What a setting will take, found on a device that only counts, with the limits of `engine`. */
export async function estimateMemory(
  engine: Engine,
  config: ModelConfig,
  { blocks, option }: MemorySetting,
  request: MemoryRequest,
): Promise<MemoryRow> {
  const { name, ...options } = option;
  const settings: Settings = { blocks, batch: request.batch, ...options };
  const estimate = await estimateSampling(engine, config, settings, requested(config, request));
  const { live, peak, byKind, planned, lowerBound } = estimate;
  const { weights, activations } = sumKinds(byKind);
  const other = live - weights - activations;
  return { blocks, option: name, weights, activations, other, total: live, peak, planned, lowerBound };
}

const sumKinds = ({ weights = 0, activations = 0 }: MemoryReport['byKind']) => ({ weights, activations });

/** Samples once on an engine that holds nothing else; weights are random. The buffers stay until the engine is disposed. */
export async function measureMemory(
  engine: Engine,
  config: ModelConfig,
  { blocks, option }: MemorySetting,
  request: MemoryRequest,
  signal?: AbortSignal,
): Promise<Measured> {
  const { precision, activations, ahead, residentBlocks } = option;
  engine.memory.resetPeak();
  const started = performance.now();
  const model = new ResidentModel(engine, config, randomSource(config), { precision, activations });
  const sampler = new Sampler(engine, model, { batch: request.batch, ahead, residentBlocks });
  await sampler.sample({ ...requested(config, request), blocks, signal });
  const { peak, live } = engine.memory.report();
  return { peak, live, seconds: (performance.now() - started) / 1000 };
}

/** Weights with a standard deviation of 0.02, always the same, made when they are asked for and not kept. */
export function randomSource(config: ModelConfig): GroupSource {
  const layout = paramLayout(config);
  return {
    layout,
    bytesOf: (group) => 4 * layout.groups[group]!.length,
    read: async (group) => {
      const { length, specs } = layout.groups[group]!;
      const values = new Float32Array(length);
      for (const [i, { offset, size }] of specs.entries()) {
        formulaFill(values.subarray(offset, offset + size), 64 * group + i, 1, 0.02 * Math.sqrt(3));
      }
      return values;
    },
  };
}

/** The table as data. */
export interface MemoryBench {
  readonly model: string;
  readonly config: ModelConfig;
  readonly batch: number;
  readonly steps: number;
  /** Adapter, driver and date, in words. */
  readonly machine: string;
  readonly rows: readonly MemoryRow[];
}

const MB = (bytes: number | undefined): string => (bytes === undefined ? '' : (bytes / 1e6).toFixed(2));

/** The table as Markdown, in MB of 10^6 bytes. */
export function formatMemory({ model, batch, steps, machine, rows }: MemoryBench): string {
  const run = rows.some(({ measured }) => measured);
  const driver = rows.some(({ measured }) => measured?.driver !== undefined);
  const head = ['L', 'weights held as', 'weights', 'activations', 'other', 'total', 'peak', 'planned / lower bound'];
  if (run) head.push('allocated', 'process before', 'process after', 's');
  if (driver) head.push('driver');
  const lines = rows.map((row) => {
    const { blocks, option, weights, activations, other, total, peak, planned, lowerBound, measured } = row;
    const cells = [String(blocks), option, MB(weights), MB(activations), MB(other), MB(total), MB(peak)];
    cells.push(`${MB(planned)} / ${MB(lowerBound)}`);
    if (run) {
      cells.push(MB(measured?.peak), MB(measured?.residentBefore), MB(measured?.resident));
      cells.push(measured?.seconds.toFixed(1) ?? '');
    }
    if (driver) cells.push(MB(measured?.driver));
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `${model}, batch ${batch}, ${steps} ${steps === 1 ? 'step' : 'steps'}, random weights; MB of 10^6 bytes. ${machine}`,
    '',
    `| ${head.join(' | ')} |`,
    `|${head.map((_, i) => (i === 1 ? '---' : '--:')).join('|')}|`,
    ...lines,
  ].join('\n');
}

/** The table as a document of its own. */
export const memoryDocument = (report: MemoryBench): string => `# GPU memory of sampling\n\n${formatMemory(report)}\n`;
