/**
 * Weights with the names of PyTorch's DiT (facebookresearch/DiT) and SiT: conventional transformers without step sizes. Ours
 * divides logits by the head size, theirs by its root, so that queries are multiplied by the root.
 */
import { fromBfloat16, fromHalf, toBfloat16, toHalf } from '../../../formats/half.ts';
import { type ModelConfig, parseModelConfig, patchSize } from '../../config.ts';
import type { ParamSet } from '../../params.ts';
import { positionEmbedding } from '../../position.ts';
import {
  ask,
  blockCount,
  checkStrangers,
  type ForeignWeights,
  filled,
  floats,
  headsOf,
  type Maker,
  type ModelHints,
  refuse,
  tensorOf,
} from './foreign.ts';

/** Steps of the diffusion that DiT is trained for. */
const STEPS = 1000;
/** The table of positions is computed, in other arithmetic: what differs more, but for `positionError`, was learned. */
const POSITION_ERROR = 1e-5;
const FREQUENCIES = 256;

/** Whether the names are those of DiT. */
export const isDit = (names: ReadonlyMap<string, unknown>): boolean => names.has('x_embedder.proj.weight');

/**
 * The model behind weights with DiT's names: sizes by their shapes, the rest by `hints`. A DiT is given its step as t * 1000 and
 * predicts the noise; a SiT is given t, and its output is the velocity.
 * @throws CheckpointError for another kind of model; ConfigError for what must be given.
 */
export function ditConfig(weights: ForeignWeights, hints: ModelHints): ModelConfig {
  const { file } = weights;
  const [width, channels, patch] = tensorOf(weights, 'x_embedder.proj.weight', 4).shape as [number, number, number];
  const depth = blockCount(weights, /^blocks\.(\d+)\./);
  const [, tokens] = tensorOf(weights, 'pos_embed', 3).shape as [number, number];
  const [rows] = tensorOf(weights, 'y_embedder.embedding_table.weight', 2).shape as [number, number];
  const [hidden] = tensorOf(weights, 'blocks.0.mlp.fc1.weight', 2).shape as [number, number];
  const heads = headsOf(file, { width, depth }, hints);
  const program =
    hints.program ??
    ask(
      file,
      'whether it is of DiT (which predicts noise) or of SiT (velocities); both use the same names',
      'give --from dit or --from sit',
    );
  const imageSize = Math.sqrt(tokens) * patch;
  if (!Number.isInteger(Math.sqrt(tokens))) refuse(file, `pos_embed has ${tokens} positions, which make no square`);
  if (hints.imageSize !== undefined && hints.imageSize !== imageSize) {
    refuse(
      file,
      `pos_embed is of pictures of ${imageSize} pixels a side; ${hints.imageSize} were asked for`,
      'leave --image-size out',
    );
  }
  return parseModelConfig({
    ...{ imageSize, channels, patch, width, heads, depth, mlpRatio: hidden / width, classes: rows - 1 },
    ...{ lengths: null, ignoreDt: true, unconditional: hints.unconditional },
    ...(program === 'dit' ? { timeScale: STEPS, predicts: 'noise' } : {}),
  });
}

/** [rows, columns] to [columns, rows], each value times `factor`. */
export function transposed(values: Float32Array, rows: number, columns: number, factor = 1): Float32Array {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = factor * values[r * columns + c]!;
  }
  return out;
}

/** What the queries of a DiT are multiplied by to be ours. */
export const queryFactor = ({ width, heads }: ModelConfig): number => Math.sqrt(width / heads);

/** Dense layers that only change their name and orientation: DiT's, ours, inputs and outputs. */
export function denseLayers({ width, depth, mlpRatio }: ModelConfig): [string, string, number, number][] {
  const hidden = mlpRatio * width;
  const blocks = Array.from({ length: depth }, (_, i): [string, string, number, number][] => [
    [`blocks.${i}.adaLN_modulation.1`, `DiTBlock_${i}/Dense_0`, width, 6 * width],
    [`blocks.${i}.attn.proj`, `DiTBlock_${i}/Dense_4`, width, width],
    [`blocks.${i}.mlp.fc1`, `DiTBlock_${i}/MlpBlock_0/Dense_0`, width, hidden],
    [`blocks.${i}.mlp.fc2`, `DiTBlock_${i}/MlpBlock_0/Dense_1`, hidden, width],
  ]);
  return [
    ['t_embedder.mlp.0', 'TimestepEmbedder_0/Dense_0', FREQUENCIES, width],
    ['t_embedder.mlp.2', 'TimestepEmbedder_0/Dense_1', width, width],
    ['final_layer.adaLN_modulation.1', 'FinalLayer_0/Dense_0', width, 2 * width],
    ...blocks.flat(),
  ];
}

/** Our names of the layers that make query, key and value, in the order of DiT's fused one. */
export const attentionLayers = (block: number): string[] =>
  ['Dense_2', 'Dense_1', 'Dense_3'].map((name) => `DiTBlock_${block}/${name}`);

/**
 * How far a stored table of sines and cosines may be off: files keep it in short numbers, or have once done so, which its values show. Half
 * the distance of such numbers below 1 comes on top.
 */
function positionError(values: Float32Array): number {
  const are = (rounded: Float32Array) => values.every((value, i) => value === rounded[i]);
  if (are(fromBfloat16(toBfloat16(values)))) return POSITION_ERROR + 2 ** -9;
  return are(fromHalf(toHalf(values))) ? POSITION_ERROR + 2 ** -12 : POSITION_ERROR;
}

/**
 * The parameters: `qkv` split, kernels transposed, queries scaled, of a final layer that also gives variances (learn_sigma) the
 * first half of the channels. The step embedder is zero.
 * @throws CheckpointError for a tensor that is missing, misshapen or of another network, and for learned positions.
 */
export async function ditParams(weights: ForeignWeights, config: ModelConfig): Promise<ParamSet> {
  const { width, depth, patch, channels, classes, imageSize } = config;
  const { file } = weights;
  const makers = new Map<string, Maker>();
  const used = new Set<string>(['pos_embed']);
  const read = (name: string, shape: readonly number[]) => {
    used.add(name);
    return floats(weights, name, shape);
  };
  for (const [theirs, ours, inputs, outputs] of denseLayers(config)) {
    const kernel = read(`${theirs}.weight`, [outputs, inputs]);
    makers.set(`${ours}/kernel`, async () => transposed(await kernel(), outputs, inputs));
    makers.set(`${ours}/bias`, read(`${theirs}.bias`, [outputs]));
  }
  for (let i = 0; i < depth; i++) {
    const kernel = read(`blocks.${i}.attn.qkv.weight`, [3 * width, width]);
    const bias = read(`blocks.${i}.attn.qkv.bias`, [3 * width]);
    attentionLayers(i).forEach((ours, part) => {
      const factor = part === 0 ? queryFactor(config) : 1;
      const size = width * width;
      makers.set(`${ours}/kernel`, async () =>
        transposed((await kernel()).subarray(part * size, (part + 1) * size), width, width, factor),
      );
      makers.set(`${ours}/bias`, async () =>
        (await bias()).subarray(part * width, (part + 1) * width).map((value) => factor * value),
      );
    });
  }
  const area = patch ** 2;
  const patches = read('x_embedder.proj.weight', [width, channels, patch, patch]);
  makers.set('PatchEmbed_0/Conv_0/kernel', async () => {
    // [width, channels, pixels] to [pixels, channels, width].
    const [from, out] = [await patches(), new Float32Array(width * channels * area)];
    for (let w = 0, at = 0; w < width; w++) {
      for (let c = 0; c < channels; c++) {
        for (let pixel = 0; pixel < area; pixel++) out[(pixel * channels + c) * width + w] = from[at++]!;
      }
    }
    return out;
  });
  makers.set('PatchEmbed_0/Conv_0/bias', read('x_embedder.proj.bias', [width]));
  makers.set('LabelEmbedder_0/Embed_0/embedding', read('y_embedder.embedding_table.weight', [classes + 1, width]));

  const [outputs] = tensorOf(weights, 'final_layer.linear.weight', 2).shape as [number, number];
  const given = outputs / area;
  if (given !== channels && given !== 2 * channels) {
    refuse(file, `final_layer.linear gives ${given} channels; the pictures have ${channels}`);
  }
  /** The rows of the channels that are kept. */
  const kept = (values: Float32Array, columns: number) => {
    const out = new Float32Array(patchSize(config) * columns);
    for (let pixel = 0; pixel < area; pixel++) {
      const from = pixel * given * columns;
      out.set(values.subarray(from, from + channels * columns), pixel * channels * columns);
    }
    return out;
  };
  const head = read('final_layer.linear.weight', [outputs, width]);
  const headBias = read('final_layer.linear.bias', [outputs]);
  makers.set('FinalLayer_0/Dense_1/kernel', async () =>
    transposed(kept(await head(), width), patchSize(config), width),
  );
  makers.set('FinalLayer_0/Dense_1/bias', async () => kept(await headBias(), 1));
  checkStrangers(weights, used);

  const side = imageSize / patch;
  const positions = await floats(weights, 'pos_embed', [1, side ** 2, width])();
  const computed = positionEmbedding(side, width);
  const error = positionError(positions);
  const learned = positions.findIndex((value, i) => !(Math.abs(value - computed[i]!) <= error));
  if (learned >= 0) {
    refuse(
      file,
      `pos_embed is not the table of sines and cosines (value ${learned} is ${positions[learned]}, not ${computed[learned]})`,
      'models with learned positions cannot be imported',
    );
  }
  return filled(weights, config, makers);
}
