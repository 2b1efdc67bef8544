/** A model's weights under the names of PyTorch's DiT, to be loaded there with learn_sigma=False: what dit.ts does, backwards. */
import { ConfigError } from '../../../engine/errors.ts';
import type { TensorToWrite } from '../../../formats/safetensors.ts';
import type { ModelConfig } from '../../config.ts';
import { type ParamSet, paramsByName } from '../../params.ts';
import { positionEmbedding } from '../../position.ts';
import { attentionLayers, denseLayers, queryFactor, transposed } from './dit.ts';

/** Where the step embedder ends up: DiT has none, but for a step of 0 it is a constant, which the time embedder's bias takes. */
function constantStep(params: ReadonlyMap<string, Float32Array>, width: number): Float64Array {
  const of = (name: string) => params.get(`TimestepEmbedder_1/${name}`)!;
  const [kernel0, bias0, kernel1, bias1] = ['Dense_0/kernel', 'Dense_0/bias', 'Dense_1/kernel', 'Dense_1/bias'].map(of);
  // The features of 0: 128 cosines that are 1, then sines that are 0.
  const hidden = Float64Array.from(bias0!);
  for (let f = 0; f < 128; f++) for (let i = 0; i < width; i++) hidden[i]! += kernel0![f * width + i]!;
  const out = Float64Array.from(bias1!);
  for (let i = 0; i < width; i++) {
    const active = hidden[i]! / (1 + Math.exp(-hidden[i]!));
    for (let o = 0; o < width; o++) out[o]! += active * kernel1![i * width + o]!;
  }
  return out;
}

/**
 * The tensors of a state_dict of DiT, `pos_embed` included, for a final layer without variances (learn_sigma=False).
 * @throws ConfigError for a model that DiT has no place for: one that chooses its number of blocks, knows step sizes or predicts data.
 */
export function ditTensors(config: ModelConfig, set: ParamSet, dtype: 'F32' | 'F16'): TensorToWrite[] {
  const { width, depth, patch, channels, classes, imageSize } = config;
  if (config.lengths !== null) {
    throw new ConfigError('DiT always runs all its blocks; this model chooses how many', {
      hint: 'write it with its own names: leave --names out',
    });
  }
  if (!config.ignoreDt) {
    throw new ConfigError('DiT knows no step sizes; this model does', {
      hint: 'write it with its own names: leave --names out',
    });
  }
  if (config.predicts === 'data') {
    throw new ConfigError("DiT's output is the noise or, as SiT, the velocity; this model's is the picture", {
      hint: 'write it with its own names: leave --names out',
    });
  }
  const params = paramsByName(set);
  const of = (name: string) => params.get(name)!;
  const tensors: TensorToWrite[] = [];
  const add = (name: string, shape: readonly number[], values: Float32Array) =>
    void tensors.push({ name, shape, dtype, values });
  const area = patch ** 2;
  add('pos_embed', [1, (imageSize / patch) ** 2, width], positionEmbedding(imageSize / patch, width));
  const patches = new Float32Array(width * channels * area);
  const kernel = of('PatchEmbed_0/Conv_0/kernel');
  for (let w = 0, at = 0; w < width; w++) {
    for (let c = 0; c < channels; c++) {
      for (let pixel = 0; pixel < area; pixel++) patches[at++] = kernel[(pixel * channels + c) * width + w]!;
    }
  }
  add('x_embedder.proj.weight', [width, channels, patch, patch], patches);
  add('x_embedder.proj.bias', [width], of('PatchEmbed_0/Conv_0/bias'));
  add('y_embedder.embedding_table.weight', [classes + 1, width], of('LabelEmbedder_0/Embed_0/embedding'));
  const constant = constantStep(params, width);
  for (const [theirs, ours, inputs, outputs] of denseLayers(config)) {
    add(`${theirs}.weight`, [outputs, inputs], transposed(of(`${ours}/kernel`), inputs, outputs));
    const bias = of(`${ours}/bias`);
    add(`${theirs}.bias`, [outputs], theirs === 't_embedder.mlp.2' ? bias.map((b, i) => b + constant[i]!) : bias);
  }
  for (let i = 0; i < depth; i++) {
    const weight = new Float32Array(3 * width * width);
    const bias = new Float32Array(3 * width);
    attentionLayers(i).forEach((ours, part) => {
      const factor = part === 0 ? 1 / queryFactor(config) : 1;
      weight.set(transposed(of(`${ours}/kernel`), width, width, factor), part * width * width);
      bias.set(
        of(`${ours}/bias`).map((value) => factor * value),
        part * width,
      );
    });
    add(`blocks.${i}.attn.qkv.weight`, [3 * width, width], weight);
    add(`blocks.${i}.attn.qkv.bias`, [3 * width], bias);
  }
  const size = area * channels;
  add('final_layer.linear.weight', [size, width], transposed(of('FinalLayer_0/Dense_1/kernel'), width, size));
  add('final_layer.linear.bias', [size], of('FinalLayer_0/Dense_1/bias'));
  return tensors;
}
