/** The names that files of autoencoders have, turned into diffusers' present ones: its old attention names, the original ones, TAESD's. */
import { CheckpointError } from '../../engine/errors.ts';
import type { StoredTensor } from '../../formats/stored-tensor.ts';
import type { ForeignWeights } from '../weights/imports/foreign.ts';

/** The tensors of autoencoders of one family by diffusers' names. */
export interface NamedWeights {
  readonly family: 'kl' | 'tiny';
  /** Each with what it is called in the file. */
  readonly tensors: ReadonlyMap<string, { readonly tensor: StoredTensor; readonly given: string }>;
}

/** Where a whole model of latents has its autoencoder. */
const WITHIN = 'first_stage_model.';

const OLD_ATTENTION = { query: 'to_q', key: 'to_k', value: 'to_v', proj_attn: 'to_out.0' } as const;

const oldAttention = (name: string): string =>
  name.replace(
    /(\.attentions\.\d+\.)(query|key|value|proj_attn)\./,
    (_, before: string, part: keyof typeof OLD_ATTENTION) => `${before}${OLD_ATTENTION[part]}.`,
  );

/** The original names; `levels`: of the decoder, which counts from the other end. */
function fromOriginal(name: string, levels: number): string {
  return name
    .replace(/^encoder\.down\.(\d+)\.block\./, 'encoder.down_blocks.$1.resnets.')
    .replace(/^encoder\.down\.(\d+)\.downsample\.conv\./, 'encoder.down_blocks.$1.downsamplers.0.conv.')
    .replace(/^decoder\.up\.(\d+)\.block\./, (_, i: string) => `decoder.up_blocks.${levels - 1 - Number(i)}.resnets.`)
    .replace(
      /^decoder\.up\.(\d+)\.upsample\.conv\./,
      (_, i: string) => `decoder.up_blocks.${levels - 1 - Number(i)}.upsamplers.0.conv.`,
    )
    .replace(/\.mid\.block_([12])\./, (_, i: string) => `.mid_block.resnets.${Number(i) - 1}.`)
    .replace('.mid.attn_1.norm.', '.mid_block.attentions.0.group_norm.')
    .replace(/\.mid\.attn_1\.([qkv])\./, '.mid_block.attentions.0.to_$1.')
    .replace('.mid.attn_1.proj_out.', '.mid_block.attentions.0.to_out.0.')
    .replace('.nin_shortcut.', '.conv_shortcut.')
    .replace('.norm_out.', '.conv_norm_out.');
}

/** TAESD's decoder begins with a module for the clamp, which diffusers' has not. */
function fromTaesd(name: string, decoder: boolean): string {
  const dot = name.indexOf('.');
  return decoder ? `decoder.layers.${Number(name.slice(0, dot)) - 1}${name.slice(dot)}` : `encoder.layers.${name}`;
}

const isKl = (name: string): boolean => /^(encoder|decoder|quant_conv|post_quant_conv)\./.test(name);

/**
 * The tensors of one file.
 * @throws CheckpointError for names that no autoencoder has.
 */
export function namedWeights({ tensors, file }: ForeignWeights): NamedWeights {
  const given = [...tensors.keys()];
  const within = given.some((name) => name.startsWith(WITHIN));
  const names = within
    ? given.filter((name) => name.startsWith(WITHIN))
    : given.filter((name) => !/^(loss|model_ema)\./.test(name)); // of its training
  const bare = (name: string) => (within ? name.slice(WITHIN.length) : name);
  const renamed = (family: NamedWeights['family'], rename: (name: string) => string): NamedWeights => ({
    family,
    tensors: new Map(names.map((name) => [rename(bare(name)), { tensor: tensors.get(name)!, given: name }])),
  });
  const some = (pattern: RegExp) => names.some((name) => pattern.test(bare(name)));
  if (some(/^(encoder|decoder)\.layers\.\d+\./)) return renamed('tiny', (name) => name);
  if (names.length > 0 && names.every((name) => /^\d+\./.test(bare(name))) && some(/\.conv\.0\.weight$/)) {
    const decoder = !some(/^0\./);
    return renamed('tiny', (name) => fromTaesd(name, decoder));
  }
  if (some(/^encoder\.down\.\d+\.|^decoder\.up\.\d+\./)) {
    const levels = new Set(names.map((name) => /^decoder\.up\.(\d+)\./.exec(bare(name))?.[1])).size;
    const other = names.some((name) => !/^decoder\.up\./.test(bare(name))) ? 1 : 0;
    return renamed('kl', (name) => fromOriginal(name, levels - other));
  }
  if (some(/^(encoder\.down_blocks|decoder\.up_blocks)\./)) return renamed('kl', oldAttention);
  const shown = given.slice(0, 3).join(', ') || 'none at all';
  throw new CheckpointError(`${file}: its tensors have names of no autoencoder that is known: ${shown}`, {
    hint: isKl(given[0] ?? '')
      ? 'the file is of an autoencoder of another family; AutoencoderKL and the TAESD family are supported'
      : 'give the weights of an AutoencoderKL (vae/diffusion_pytorch_model.safetensors) or of the TAESD family',
  });
}
