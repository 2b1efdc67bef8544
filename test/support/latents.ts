/** A small model of latents, and files of it and of its autoencoders as users have them. */
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { type LatentsOrigin, originMetadata } from '../../model/autoencoder/origin.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import type { ParamSet } from '../../model/params.ts';
import type { ForeignWeights } from '../../model/weights/imports/foreign.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { dict, tensor, torchFile } from './pickle.ts';

/** Latents of 4 channels, 12 x 12, which `smallTaesd` and `smallKl` decode to 24 x 24. */
export const latentModel: ModelConfig = parseModelConfig({
  ...{ imageSize: 12, channels: 4, patch: 4, width: 16, heads: 2, depth: 4, mlpRatio: 2, classes: 3 },
  lengths: { min: 2, group: 2 },
});

export const latentParams = (): ParamSet => formulaParams(latentModel, 3, { strong: true });

/** The model's file; `origin`: the autoencoder that it remembers. */
export async function latentModelFile(
  origin?: LatentsOrigin,
  params = latentParams(),
): Promise<Uint8Array<ArrayBuffer>> {
  const { tensors, metadata } = await modelContents(latentModel, params, { extra: originMetadata(origin) });
  return serializeSafetensors(tensors, metadata);
}

const loaded = ({ tensors }: ForeignWeights) =>
  Promise.all(
    [...tensors].map(async ([name, { shape, strides, load }]) => ({ name, shape, strides, data: await load() })),
  );

/** An autoencoder's weights as safetensors. */
export async function safetensorsOf(weights: ForeignWeights): Promise<Uint8Array<ArrayBuffer>> {
  const tensors = (await loaded(weights)).map(({ name, shape, data }) => {
    return { name, shape, dtype: 'F32' as const, values: new Float32Array(data.slice().buffer) };
  });
  return serializeSafetensors(tensors, {});
}

/** An autoencoder's weights as a file of torch.save. */
export async function torchOf(weights: ForeignWeights): Promise<Uint8Array<ArrayBuffer>> {
  const tensors = await loaded(weights);
  const entries = tensors.map(({ name, shape, strides, data }, key) => {
    return [name, tensor({ key: `${key}`, count: data.length / 4 }, shape, strides)] as const;
  });
  const data = Object.fromEntries(tensors.map(({ data }, key) => [`${key}`, data]));
  return torchFile(dict(Object.fromEntries(entries)), data);
}
