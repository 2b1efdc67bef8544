/** What `odelt sample` is asked for, from its flags and the model: labels, solver, blocks; and the same in words. */
import { ConfigError } from '../engine/errors.ts';
import type { Budget } from '../evaluation/afford.ts';
import { allowedLengths, type ModelConfig, usualSteps } from '../model/config.ts';
import { ACTIVATIONS, type Activations, checkActivations } from '../model/dit.ts';
import { PRECISIONS, type Precision } from '../model/weights/quantize.ts';
import { checkPictureSize, gridSize } from '../pictures/picture.ts';
import { type Blocks, LOADING, type Loading, parseBlocks, type Refresh } from '../sampling/blocks.ts';
import type { Wanted } from '../sampling/budget.ts';
import { checkClasses, usualGuidance, usualLabels } from '../sampling/classes.ts';
import type { DecoderPrecision } from '../sampling/decoding.ts';
import { jaxLabels } from '../sampling/jax-draws.ts';
import { describeLabel, parseLabels } from '../sampling/labels.ts';
import {
  ADAPTIVE_DEFAULTS,
  checkBlocks,
  checkGuidance,
  checkOneOf,
  checkRefresh,
  checkSolver,
  isAdaptive,
  RNGS,
  type Rng,
  type SampleRequest,
  SOLVERS,
  type Solver,
} from '../sampling/request.ts';
import { type Shard, shardRange } from '../sampling/shards.ts';
import type { Controller } from '../sampling/solvers/controller.ts';
import type { WhichWeights } from './models.node.ts';
import { isArray } from './sample-output.ts';

export interface SampleFlags {
  model: string;
  weights: WhichWeights;
  count?: number;
  labels?: string;
  steps?: number;
  solver?: Solver;
  tolerance?: number;
  controller?: Controller;
  firstStep?: number | 'auto';
  maxSteps?: number;
  level?: number;
  guidanceInterval?: [number, number];
  blocks?: string;
  loadBlocks?: Loading;
  refresh?: Refresh;
  precision?: Precision;
  activations?: Activations;
  residentBlocks?: number;
  maxMemory?: number;
  decode?: string;
  decodePrecision?: DecoderPrecision;
  budget?: Budget;
  guidance?: number;
  seed: number;
  rng: Rng;
  batch: number;
  out: string;
  shard?: Shard;
  scale: number;
  adapter?: string;
  adapterIndex?: number;
  tuning?: string;
  json?: boolean;
}

/** Time steps, and the weight of guidance of a model that knows classes, where nothing is asked. */
export const STEPS = 16;
export const GUIDANCE = 2;

/** Pictures in a row: as many as there are of a class. */
export const columnsFor = (count: number, labels: readonly (number | null)[]): number =>
  Math.ceil(count / new Set(labels).size);

/**
 * Labels of pictures: `count` of them, the asked ones in equal runs; eight each, of all that there are, where nothing is asked.
 * @throws ConfigError; LimitError where they make too large a sheet.
 */
function chooseLabels(
  { labels: text, count, scale, seed, rng, shard, out, batch }: SampleFlags,
  config: ModelConfig,
  imageSize: number,
  names?: readonly string[],
) {
  const { classes, unconditional } = config;
  const asked: (number | null)[] =
    text === undefined
      ? usualLabels(config, unconditional ? 1 : classes)
      : parseLabels(text, classes, names, '--labels');
  const total = count ?? 8 * asked.length;
  const columns = columnsFor(total, asked.slice(0, total));
  const side = { width: imageSize, height: imageSize };
  const [from, to] = shard ? shardRange(shard, total, Math.min(batch, total)) : [0, total];
  if (!isArray(out)) {
    const { width, height } = gridSize(to - from, side, { columns, scale });
    checkPictureSize(`a sheet of ${to - from} pictures`, width, height);
  }
  if (rng === 'jax' && text === undefined && !unconditional) return jaxLabels(seed, 0, total, classes);
  return Array.from({ length: total }, (_, i) => asked[Math.floor((i * asked.length) / total)]!);
}

/** The first ten different labels, by number and name. */
export function labelsText(labels: readonly (number | null)[], names?: readonly string[]): string {
  const different = [...new Set(labels)];
  const shown = different.slice(0, 10).map((label) => (label === null ? 'none' : describeLabel(label, names)));
  return shown.join(', ') + (different.length > 10 ? ` and ${different.length - 10} more` : '');
}

/** What is to be sampled, and all that the flags say of how. @throws ConfigError for what the model or the flags do not allow. */
export function requestOf(
  flags: SampleFlags,
  config: ModelConfig,
  shown: Pick<ModelConfig, 'imageSize'>,
  names?: readonly string[],
): { request: SampleRequest; wanted: Wanted } {
  const { precision, activations, residentBlocks, solver = 'euler', guidanceInterval } = flags;
  const { guidance = usualGuidance(config, GUIDANCE) } = flags;
  checkOneOf('--solver', solver, SOLVERS);
  const { tolerance, controller, firstStep, maxSteps, level } = flags;
  const steps = flags.steps ?? (isAdaptive(solver) ? undefined : usualSteps(config, [STEPS])[0]);
  const how = { solver, steps, tolerance, controller, firstStep, maxSteps, level };
  checkSolver(how, config);
  checkGuidance(guidance, guidanceInterval);
  checkOneOf('--precision', precision, PRECISIONS);
  checkOneOf('--activations', activations, ACTIVATIONS);
  checkOneOf('--rng', flags.rng, RNGS);
  checkOneOf('--load-blocks', flags.loadBlocks, LOADING);
  checkActivations(config, activations ?? 'f32');
  const labels = chooseLabels(flags, config, shown.imageSize, names);
  checkClasses(config, { labels, guidance });
  const batch = Math.min(flags.batch, labels.length);
  const wanted = { blocks: chooseBlocks(flags, config), precision, activations, residentBlocks, batch };
  const { loadBlocks, refresh } = flags;
  if (refresh && wanted.blocks === 'auto') throw new ConfigError('--refresh needs a number of --blocks, not auto');
  const request = { labels, shard: flags.shard, guidance, guidanceInterval, loadBlocks, refresh, ...how };
  if (wanted.blocks !== 'auto') checkRefresh({ ...request, blocks: wanted.blocks }, config);
  return { request, wanted };
}

function chooseBlocks({ blocks, maxMemory }: SampleFlags, config: ModelConfig): Blocks | 'auto' {
  if (blocks === undefined) return Math.max(...allowedLengths(config));
  if (blocks === 'auto') {
    if (maxMemory === undefined) throw new ConfigError('--blocks auto needs --max-memory');
    return 'auto';
  }
  const parsed = parseBlocks(blocks, '--blocks');
  checkBlocks(parsed, config);
  return parsed;
}

export function describeSolver({
  solver = 'euler',
  steps,
  tolerance = ADAPTIVE_DEFAULTS.tolerance,
  level,
}: SampleRequest): string {
  const told = level === undefined ? '' : `, level ${level}`;
  if (isAdaptive(solver)) return `${solver} at ${tolerance}${told}`;
  return `${solver === 'euler' ? '' : `${solver}, `}T=${steps}${told}`;
}
