/** Weights with the names of the Flax reference, as ODE_t(ODE_l) and shortcut-models save them: our own names. */
import { ConfigError } from '../../../engine/errors.ts';
import { type LengthConfig, type ModelConfig, parseModelConfig } from '../../config.ts';
import { allSpecs, type ParamSet, paramLayout } from '../../params.ts';
import {
  ask,
  blockCount,
  checkStrangers,
  type ForeignWeights,
  filled,
  floats,
  headsOf,
  likePreset,
  type Maker,
  type ModelHints,
  tensorOf,
} from './foreign.ts';

const PATCHES = 'PatchEmbed_0/Conv_0/kernel';
const LENGTHS = 'BlockEmbedder_0/Embed_0/embedding';
/** Nothing reads it, and some writers leave it out. */
const LOG_VARIANCES = 'Embed_0/embedding';

/** Whether the names are those of the Flax reference. */
export const isFlax = (names: ReadonlyMap<string, unknown>): boolean => names.has(PATCHES);

function lengthsOf(weights: ForeignWeights, depth: number, width: number, hints: ModelHints): LengthConfig | null {
  if (!weights.tensors.has(LENGTHS)) {
    if (hints.lengths) {
      throw new ConfigError(`${weights.file} is a conventional model: it always runs all its blocks`, {
        hint: 'leave --lengths out',
      });
    }
    return null;
  }
  const like = likePreset({ width, depth }, (name, { lengths }) =>
    lengths ? `${name}, of the same sizes, has ${lengths.min},${lengths.group}` : `${name} has none`,
  );
  return (
    hints.lengths ??
    ask(
      weights.file,
      'which numbers of blocks it was trained for',
      `give --lengths MIN,GROUP${like}: --depth_min and --depth_group of its training`,
    )
  );
}

/**
 * The model behind weights with Flax names: sizes by their shapes, the rest by `hints`.
 * @throws CheckpointError for another kind of model; ConfigError for what must be given.
 */
export function flaxConfig(weights: ForeignWeights, hints: ModelHints): ModelConfig {
  const [patch, , channels, width] = tensorOf(weights, PATCHES, 4).shape as [number, number, number, number];
  const depth = blockCount(weights, /^DiTBlock_(\d+)\//);
  const [rows] = tensorOf(weights, 'LabelEmbedder_0/Embed_0/embedding', 2).shape as [number, number];
  const [, hidden] = tensorOf(weights, 'DiTBlock_0/MlpBlock_0/Dense_0/kernel', 2).shape as [number, number];
  const heads = headsOf(weights.file, { width, depth }, hints);
  const imageSize =
    hints.imageSize ??
    ask(
      weights.file,
      'how large its pictures are',
      'give --image-size N, in pixels: 32 for latents of 256x256 pictures',
    );
  return parseModelConfig({
    ...{ imageSize, channels, patch, width, heads, depth, mlpRatio: hidden / width, classes: rows - 1 },
    ...{ lengths: lengthsOf(weights, depth, width, hints), ignoreDt: hints.ignoreDt ?? false },
    ...{ unconditional: hints.unconditional, finest: hints.finest },
  });
}

/** The parameters, as they are. @throws CheckpointError for one that is missing or misshapen, and for tensors of another network. */
export async function flaxParams(weights: ForeignWeights, config: ModelConfig): Promise<ParamSet> {
  const makers = new Map<string, Maker>();
  for (const { name, shape } of allSpecs(paramLayout(config))) {
    if (name === LOG_VARIANCES && !weights.tensors.has(name)) continue;
    makers.set(name, floats(weights, name, shape));
  }
  checkStrangers(weights, new Set(makers.keys()));
  return filled(weights, config, makers);
}
