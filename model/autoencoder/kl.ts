/** AutoencoderKL (Rombach et al. 2022, as diffusers has it): its configuration, from diffusers' config.json or tensors, and its layers. */
import * as v from 'valibot';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import type { Layer } from './layers.ts';
import type { AutoencoderNetwork } from './network.ts';

/** The numbers that an AutoencoderKL is made of. */
export interface KlConfig {
  readonly pictureChannels: number;
  readonly latentChannels: number;
  /** Channels of each level, the picture's first. Each level but the last halves the picture. */
  readonly levels: readonly number[];
  /** Residual blocks of a level in the encoder; the decoder has one more. */
  readonly layers: number;
  /** Groups of each group norm. */
  readonly groups: number;
  /** Whether there is attention in the middle, and a 1 x 1 convolution on each side of the latents. */
  readonly attention: boolean;
  readonly quant: boolean;
  readonly postQuant: boolean;
  readonly scaling: { readonly factor: number; readonly shift: number };
}

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const types = (name: string) => v.optional(v.array(v.literal(name, `only ${name} is supported`)));

/** diffusers' config.json; what it leaves out has diffusers' default. */
const schema = v.looseObject({
  in_channels: v.optional(count, 3),
  out_channels: v.optional(count, 3),
  down_block_types: types('DownEncoderBlock2D'),
  up_block_types: types('UpDecoderBlock2D'),
  block_out_channels: v.optional(v.pipe(v.array(count), v.minLength(1)), [64]),
  layers_per_block: v.optional(count, 1),
  act_fn: v.optional(v.literal('silu', 'only silu is supported'), 'silu'),
  latent_channels: v.optional(count, 4),
  norm_num_groups: v.optional(count, 32),
  scaling_factor: v.optional(v.pipe(v.number(), v.minValue(1e-6)), 0.18215),
  shift_factor: v.nullish(v.number()),
  latents_mean: v.optional(v.null('per-channel means of latents are not supported'), null),
  latents_std: v.optional(v.null('per-channel deviations of latents are not supported'), null),
  use_quant_conv: v.optional(v.boolean(), true),
  use_post_quant_conv: v.optional(v.boolean(), true),
  mid_block_add_attention: v.optional(v.boolean(), true),
});

/** Whether a configuration without a name is of an autoencoder: other models' have none of these fields. */
export const isUnnamedKl = (config: object): boolean =>
  ['block_out_channels', 'latent_channels', 'scaling_factor'].some((field) => field in config);

/** @throws ConfigError for a config.json of diffusers that describes no AutoencoderKL that is supported. */
export function parseKlConfig(raw: unknown): KlConfig {
  const parsed = v.safeParse(schema, raw);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new ConfigError(
      `the autoencoder's configuration: ${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`,
    );
  }
  const c = parsed.output;
  if (c.in_channels !== c.out_channels) {
    throw new ConfigError(`an autoencoder from ${c.in_channels} channels to ${c.out_channels} is not supported`);
  }
  const odd = c.block_out_channels.find((channels) => channels % c.norm_num_groups !== 0);
  if (odd !== undefined) {
    throw new ConfigError(`${odd} channels of the autoencoder are no ${c.norm_num_groups} whole groups`, {
      hint: 'block_out_channels are multiples of norm_num_groups',
    });
  }
  return {
    ...{ pictureChannels: c.in_channels, latentChannels: c.latent_channels, levels: c.block_out_channels },
    ...{ layers: c.layers_per_block, groups: c.norm_num_groups, attention: c.mid_block_add_attention },
    ...{ quant: c.use_quant_conv, postQuant: c.use_post_quant_conv },
    scaling: { factor: c.scaling_factor, shift: c.shift_factor ?? 0 },
  };
}

/** Stable Diffusion's, whose files of weights do not say groups and scale. */
const STABLE_DIFFUSION = { groups: 32, factor: 0.18215, latentChannels: 4 };

/** What `klConfigOf` takes for granted: others have the same shapes. */
export const ASSUMED_SCALE = `without a config.json its latents are assumed to be scaled by ${STABLE_DIFFUSION.factor}, as Stable Diffusion's (SDXL's by 0.13025)`;

/**
 * The configuration by the tensors' shapes, under diffusers' names, for a file without a config.json: Stable Diffusion's groups and scale.
 * @throws CheckpointError where the shapes give none; ConfigError where they are not those of Stable Diffusion's latents.
 */
export function klConfigOf(shapes: ReadonlyMap<string, readonly number[]>, file: string): KlConfig {
  const outputs = (name: string): number | undefined => shapes.get(name)?.[0];
  const encoder = outputs('encoder.conv_in.weight') !== undefined;
  const levels: number[] = [];
  for (;;) {
    const level = `${encoder ? 'encoder.down_blocks' : 'decoder.up_blocks'}.${levels.length}.resnets.0.conv1.weight`;
    const channels = outputs(level);
    if (channels === undefined) break;
    levels.push(channels);
  }
  if (!encoder) levels.reverse();
  const first = `${encoder ? 'encoder.down_blocks' : 'decoder.up_blocks'}.0.resnets`;
  let layers = 0;
  while (shapes.has(`${first}.${layers}.conv1.weight`)) layers++;
  if (!encoder) layers--;
  const latentChannels = encoder
    ? (outputs('encoder.conv_out.weight') ?? 0) / 2
    : shapes.get('decoder.conv_in.weight')?.[1];
  const pictureChannels = encoder ? shapes.get('encoder.conv_in.weight')?.[1] : outputs('decoder.conv_out.weight');
  const { groups, factor } = STABLE_DIFFUSION;
  const [quant, postQuant] = [shapes.has('quant_conv.weight'), shapes.has('post_quant_conv.weight')];
  const odd = levels.find((channels) => channels % groups !== 0);
  if (levels.length === 0 || layers < 1 || !latentChannels || !pictureChannels || !Number.isInteger(latentChannels)) {
    throw new CheckpointError(`${file}: its tensors are those of no whole AutoencoderKL`);
  }
  if (odd !== undefined) {
    throw new ConfigError(`${file} does not say how many groups its norms have, and ${odd} channels are no ${groups}`, {
      hint: 'give the config.json that lies beside the weights',
    });
  }
  if (latentChannels !== STABLE_DIFFUSION.latentChannels || !(quant || postQuant)) {
    const found = `${latentChannels} channels${quant || postQuant ? '' : ' and no quant_conv'}`;
    throw new ConfigError(
      `${file} does not say how its latents are scaled, and with ${found} it is not Stable Diffusion's`,
      {
        hint: 'give the config.json that lies beside the weights',
      },
    );
  }
  return {
    ...{ pictureChannels, latentChannels, levels, layers, groups, scaling: { factor, shift: 0 } },
    attention: [...shapes.keys()].some((name) => name.includes('mid_block.attentions.')),
    ...{ quant, postQuant },
  };
}

const point = (name: string, channels: number): Layer => ({
  ...{ kind: 'convolution', name, input: channels, output: channels, side: 1 },
});

/** Residual, attention, residual. */
function middle(half: string, channels: number, { groups, attention }: KlConfig): Layer[] {
  const residual = (i: number): Layer => ({
    ...{ kind: 'residual', name: `${half}.mid_block.resnets.${i}`, input: channels, output: channels, groups },
  });
  const name = `${half}.mid_block.attentions.0`;
  return [residual(0), ...(attention ? [{ kind: 'attention', name, channels, groups } as const] : []), residual(1)];
}

/** Residual blocks of one level, of which the first changes the channels. */
const residuals = (name: string, count: number, input: number, output: number, groups: number): Layer[] =>
  Array.from({ length: count }, (_, i) => ({
    ...{ kind: 'residual', name: `${name}.resnets.${i}`, input: i === 0 ? input : output, output, groups },
  }));

function encoderLayers(c: KlConfig): Layer[] {
  const { levels, layers, groups, latentChannels } = c;
  const deepest = levels.at(-1)!;
  const down = levels.flatMap((channels, i): Layer[] => {
    const name = `encoder.down_blocks.${i}`;
    const blocks = residuals(name, layers, levels[Math.max(0, i - 1)]!, channels, groups);
    if (i === levels.length - 1) return blocks;
    const halved: Layer = {
      ...{ kind: 'convolution', name: `${name}.downsamplers.0.conv`, input: channels, output: channels, side: 3 },
      ...{ stride: 2, padding: 'end' },
    };
    return [...blocks, halved];
  });
  return [
    { kind: 'convolution', name: 'encoder.conv_in', input: c.pictureChannels, output: levels[0]!, side: 3 },
    ...down,
    ...middle('encoder', deepest, c),
    { kind: 'norm', name: 'encoder.conv_norm_out', channels: deepest, groups },
    { kind: 'convolution', name: 'encoder.conv_out', input: deepest, output: 2 * latentChannels, side: 3 },
    ...(c.quant ? [point('quant_conv', 2 * latentChannels)] : []),
  ];
}

function decoderLayers(c: KlConfig): Layer[] {
  const { layers, groups, latentChannels } = c;
  const levels = [...c.levels].reverse();
  const up = levels.flatMap((channels, i): Layer[] => {
    const name = `decoder.up_blocks.${i}`;
    const blocks = residuals(name, layers + 1, levels[Math.max(0, i - 1)]!, channels, groups);
    if (i === levels.length - 1) return blocks;
    const doubled: Layer = {
      ...{ kind: 'convolution', name: `${name}.upsamplers.0.conv`, input: channels, output: channels, side: 3 },
      upsample: true,
    };
    return [...blocks, doubled];
  });
  return [
    ...(c.postQuant ? [point('post_quant_conv', latentChannels)] : []),
    { kind: 'convolution', name: 'decoder.conv_in', input: latentChannels, output: levels[0]!, side: 3 },
    ...middle('decoder', levels[0]!, c),
    ...up,
    { kind: 'norm', name: 'decoder.conv_norm_out', channels: levels.at(-1)!, groups },
    { kind: 'convolution', name: 'decoder.conv_out', input: levels.at(-1)!, output: c.pictureChannels, side: 3 },
  ];
}

/** The network; `halves`: which of them there are. The encoder gives means and log variances. */
export function klNetwork(c: KlConfig, halves: { encoder: boolean; decoder: boolean }): AutoencoderNetwork {
  return {
    family: 'kl',
    encoder: halves.encoder ? encoderLayers(c) : null,
    decoder: halves.decoder ? decoderLayers(c) : null,
    ...{ pictureChannels: c.pictureChannels, latentChannels: c.latentChannels, scaling: c.scaling },
    factor: 2 ** (c.levels.length - 1),
  };
}
