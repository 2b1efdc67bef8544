/** Autoencoders of latents without a GPU: names, configurations and sizes of files, what is refused, and the Gaussian. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError, UsageError } from '../../engine/errors.ts';
import { matchDecoder } from '../../model/autoencoder/decoder.ts';
import { gaussianDivergence, gaussianOf, gaussianSample } from '../../model/autoencoder/gaussian.ts';
import { importAutoencoder } from '../../model/autoencoder/import.ts';
import { klConfigOf, klNetwork, parseKlConfig } from '../../model/autoencoder/kl.ts';
import { type AutoencoderNetwork, autoencoderLayout } from '../../model/autoencoder/network.ts';
import { openAutoencoder } from '../../model/autoencoder/open.node.ts';
import { originOf } from '../../model/autoencoder/origin.ts';
import { tinyNetwork } from '../../model/autoencoder/tiny.ts';
import type { ForeignWeights } from '../../model/weights/imports/foreign.ts';
import { foreignWeights, SMALL_KL, smallKl } from '../support/autoencoder.ts';
import { safetensorsOf, torchOf } from '../support/latents.ts';

const shapesOf = ({ tensors }: ForeignWeights) => new Map([...tensors].map(([name, { shape }]) => [name, shape]));

describe('names', () => {
  it("diffusers' old attention names, and the original ones in a whole model, give the same parameters", async () => {
    const wanted = await importAutoencoder([foreignWeights(smallKl())], SMALL_KL);
    const old = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
    const renamed = foreignWeights(smallKl(), (name) =>
      Object.entries(old).reduce((n, [now, then]) => n.replace(`attentions.0.${now}.`, `attentions.0.${then}.`), name),
    );
    expect([...renamed.tensors.keys()].filter((name) => name.includes('proj_attn'))).toHaveLength(4);
    expect((await importAutoencoder([renamed], SMALL_KL)).params.groups).toEqual(wanted.params.groups);
    const original = foreignWeights(smallKl(), (name) => {
      const within = name
        .replace(/encoder\.down_blocks\.(\d)\.resnets\./, 'encoder.down.$1.block.')
        .replace(/down_blocks\.(\d)\.downsamplers\.0\./, 'down.$1.downsample.')
        .replace(/up_blocks\.(\d)\.resnets\./, (_, i: string) => `up.${1 - Number(i)}.block.`)
        .replace(/up_blocks\.(\d)\.upsamplers\.0\./, (_, i: string) => `up.${1 - Number(i)}.upsample.`)
        .replace(/mid_block\.resnets\.(\d)/, (_, i: string) => `mid.block_${Number(i) + 1}`)
        .replace('mid_block.attentions.0.group_norm', 'mid.attn_1.norm')
        .replace(/mid_block\.attentions\.0\.to_([qkv])/, 'mid.attn_1.$1')
        .replace('mid_block.attentions.0.to_out.0', 'mid.attn_1.proj_out')
        .replace('conv_shortcut', 'nin_shortcut')
        .replace('conv_norm_out', 'norm_out');
      return `first_stage_model.${within}`;
    });
    const [name, tensor] = [...original.tensors].find(([n]) => n.endsWith('mid.attn_1.q.weight'))!;
    // Attention as 1 x 1 convolutions, and what else such a file holds.
    const tensors = new Map(original.tensors).set(name, {
      ...tensor,
      shape: [...tensor.shape, 1, 1],
      strides: [12, 1, 1, 1],
    });
    tensors.set('model.diffusion_model.out.2.bias', tensor);
    const imported = await importAutoencoder([{ ...original, tensors, bytes: 1e9 }], SMALL_KL);
    expect(imported.params.groups).toEqual(wanted.params.groups);
    expect(imported.network).toMatchObject({ factor: 2, scaling: { factor: 0.5, shift: 0.25 } });
  });

  it('TAESD counts the modules of its decoder from a clamp, in two files', async () => {
    const block = (name: string): [string, number[]][] =>
      [0, 2, 4].flatMap((i) => [
        [`${name}.conv.${i}.weight`, [4, 4, 3, 3]] as [string, number[]],
        [`${name}.conv.${i}.bias`, [4]] as [string, number[]],
      ]);
    const shapes = new Map<string, number[]>([
      ...([
        ['encoder.layers.0.weight', [4, 3, 3, 3]],
        ['encoder.layers.0.bias', [4]],
      ] as [string, number[]][]),
      ...block('encoder.layers.1'),
      ['encoder.layers.2.weight', [4, 4, 3, 3]],
      ...([
        ['encoder.layers.3.weight', [6, 4, 3, 3]],
        ['encoder.layers.3.bias', [6]],
      ] as [string, number[]][]),
      ...([
        ['decoder.layers.0.weight', [4, 6, 3, 3]],
        ['decoder.layers.0.bias', [4]],
      ] as [string, number[]][]),
      ...block('decoder.layers.2'),
      ['decoder.layers.4.weight', [4, 4, 3, 3]],
      ...([
        ['decoder.layers.5.weight', [3, 4, 3, 3]],
        ['decoder.layers.5.bias', [3]],
      ] as [string, number[]][]),
    ]);
    const network = tinyNetwork(shapes, 'tiny');
    expect(network).toMatchObject({ family: 'tiny', pictureChannels: 3, latentChannels: 6, factor: 2 });
    const wanted = await importAutoencoder([foreignWeights(network)]);
    const half = (own: string, shift: number) => {
      const weights = foreignWeights(network, (name) => {
        const match = /^(\w+)\.layers\.(\d+)(.*)$/.exec(name)!;
        return match[1] === own ? `${Number(match[2]) + shift}${match[3]}` : null;
      });
      return { ...weights, file: `${own}.pth` };
    };
    const [encoder, decoder] = [half('encoder', 0), half('decoder', 1)];
    expect((await importAutoencoder([encoder, decoder])).params.groups).toEqual(wanted.params.groups);
    const alone = await importAutoencoder([decoder]);
    expect(alone.network.encoder).toBeNull();
    expect(alone.params.groups).toEqual([wanted.params.groups[1]]);
    await expect(importAutoencoder([decoder, decoder])).rejects.toThrow(
      'decoder.pth and decoder.pth hold the same half of an autoencoder twice',
    );
    const narrow = new Map(shapes).set('decoder.layers.0.weight', [4, 5, 3, 3]);
    expect(() => tinyNetwork(narrow, 'tiny')).toThrow(
      'tiny: the encoder has 3 channels, 6 of latents and 1 halvings, the decoder 3 channels, 5 of latents and 1 halvings',
    );
  });
});

describe('configurations', () => {
  it("Stable Diffusion's has the tensors of its released weights", () => {
    const config = { block_out_channels: [128, 256, 512, 512], layers_per_block: 2 };
    const network = klNetwork(parseKlConfig(config), { encoder: true, decoder: true });
    const layout = autoencoderLayout(network);
    expect(layout.count).toBe(83_653_863);
    expect(layout.groups.reduce((sum, { specs }) => sum + specs.length, 0)).toBe(248);
    expect(network).toMatchObject({ factor: 8, latentChannels: 4, scaling: { factor: 0.18215, shift: 0 } });
  });

  it('follows from the tensors where there is none, with 32 groups', () => {
    const config = { block_out_channels: [32, 64, 64], layers_per_block: 2 };
    const network = klNetwork(parseKlConfig(config), { encoder: true, decoder: true });
    const shapes = shapesOf(foreignWeights(network));
    expect(klNetwork(klConfigOf(shapes, 'f'), { encoder: true, decoder: true })).toEqual(network);
    const decoder = new Map([...shapes].filter(([name]) => !/^(encoder|quant_conv)\./.test(name)));
    expect(klNetwork(klConfigOf(decoder, 'f'), { encoder: false, decoder: true }).decoder).toEqual(network.decoder);
    expect(() => klConfigOf(shapesOf(foreignWeights(smallKl())), 'f')).toThrow(
      'f does not say how many groups its norms have, and 8 channels are no 32',
    );
  });

  it.each([
    [{ latent_channels: 16 }, 'with 16 channels it is not'],
    [
      { latent_channels: 16, use_quant_conv: false, use_post_quant_conv: false },
      'with 16 channels and no quant_conv it',
    ],
    [{ use_quant_conv: false, use_post_quant_conv: false }, 'with 4 channels and no quant_conv it is not'],
  ])('must be there for latents of another shape: %j', async (more, message) => {
    const config = { block_out_channels: [32], scaling_factor: 0.3611, shift_factor: 0.1159, ...more };
    const weights = foreignWeights(klNetwork(parseKlConfig(config), { encoder: true, decoder: true }));
    const refused = importAutoencoder([weights]);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toThrow(`vae.safetensors does not say how its latents are scaled, and ${message}`);
    const { network, assumed } = await importAutoencoder([weights], config);
    expect([network.scaling, assumed]).toEqual([{ factor: 0.3611, shift: 0.1159 }, undefined]);
  });

  it('that are not there leave the scale assumed, which is said where nothing confirms it', async () => {
    const config = { block_out_channels: [32] };
    const weights = foreignWeights(klNetwork(parseKlConfig(config), { encoder: true, decoder: true }));
    const imported = await importAutoencoder([weights]);
    const assumed = expect.stringMatching(/^without a config\.json its latents are assumed to be scaled by 0\.18215/);
    expect(imported).toMatchObject({ network: { scaling: { factor: 0.18215, shift: 0 } }, assumed });
    const model = { imageSize: 8, channels: 4 };
    expect((await matchDecoder(model, imported, undefined)).warning).toEqual(assumed);
    expect((await matchDecoder(model, imported, await originOf(imported))).warning).toBeUndefined();
    const sdxl = await importAutoencoder([weights], { ...config, scaling_factor: 0.13025 });
    const { warning } = await matchDecoder(model, imported, await originOf(sdxl));
    expect(warning).toMatch(/^the latents were scaled by 0\.13025 .* as scaled by 0\.18215 .*; without a config\.json/);
    expect((await matchDecoder(model, sdxl, undefined)).warning).toBeUndefined();
  });

  it('beside the weights count without a name, too; those of other models are left out, which is said', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'odelt-vae-'));
    try {
      const { _class_name, ...unnamed } = { ...SMALL_KL, norm_num_groups: 2 };
      const network = klNetwork(parseKlConfig({ block_out_channels: [32] }), { encoder: false, decoder: true });
      const path = join(folder, 'vae.safetensors');
      const write = async (from: AutoencoderNetwork, config: unknown) => {
        writeFileSync(path, await safetensorsOf(foreignWeights(from)));
        writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
        return openAutoencoder(path);
      };
      const small = await write(smallKl(), unnamed);
      expect([small.network.scaling, small.assumed]).toEqual([{ factor: 0.5, shift: 0.25 }, undefined]);
      const norm = small.network.encoder!.find((layer) => layer.kind === 'norm');
      expect(norm).toMatchObject({ groups: 2 });
      const others = { _class_name: 'UNet2DConditionModel', scaling_factor: 0.5 };
      const other = await write(network, others);
      expect(other.network.scaling.factor).toBe(0.18215);
      expect(other.assumed).toMatch(/config\.json is of 'UNet2DConditionModel' and is left out; without a config/);
      expect((await write(network, { model_type: 'clip' })).assumed).toMatch(/is of something else and is left out/);
      await expect(write(network, { ...unnamed })).rejects.toThrow(CheckpointError);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([
    [{ block_out_channels: [10] }, '10 channels of the autoencoder are no 32 whole groups'],
    [{ block_out_channels: [] }, 'block_out_channels'],
    [{ act_fn: 'gelu' }, 'act_fn: only silu is supported'],
    [{ down_block_types: ['AttnDownEncoderBlock2D'] }, 'only DownEncoderBlock2D is supported'],
    [{ in_channels: 1 }, 'an autoencoder from 1 channels to 3 is not supported'],
    [{ latents_mean: [0] }, 'per-channel means of latents are not supported'],
    [null, 'the document'],
  ])('%j is refused', (raw, message) => {
    expect(() => parseKlConfig(raw)).toThrow(ConfigError);
    expect(() => parseKlConfig(raw)).toThrow(message);
  });
});

describe("diffusers' folder", () => {
  it('may hold its weights in halves, of torch.save, or in several files; the plain file comes first', async () => {
    const weights = foreignWeights(smallKl());
    const plain = await safetensorsOf(weights);
    const { params } = await importAutoencoder([weights], SMALL_KL);
    const own = [...weights.tensors.keys()];
    const parts = await Promise.all(
      [own.slice(0, 9), own.slice(9)].map((names) =>
        safetensorsOf({ ...weights, tensors: new Map(names.map((name) => [name, weights.tensors.get(name)!])) }),
      ),
    );
    const weight_map = Object.fromEntries(own.map((name, i) => [name, `part-${i < 9 ? 0 : 1}.safetensors`]));
    const cases: Record<string, Uint8Array | string>[] = [
      { 'diffusion_pytorch_model.fp16.safetensors': plain },
      { 'diffusion_pytorch_model.bin': await torchOf(weights) },
      {
        'diffusion_pytorch_model.safetensors.index.json': JSON.stringify({ weight_map }),
        'part-0.safetensors': parts[0]!,
        'part-1.safetensors': parts[1]!,
      },
      { 'diffusion_pytorch_model.safetensors': plain, 'diffusion_pytorch_model.bin': 'not looked at' },
    ];
    for (const files of cases) {
      const folder = mkdtempSync(join(tmpdir(), 'odelt-vae-'));
      try {
        await expect(openAutoencoder(folder)).rejects.toThrow('holds no diffusion_pytorch_model.safetensors');
        for (const [name, bytes] of Object.entries({ ...files, 'config.json': JSON.stringify(SMALL_KL) }))
          writeFileSync(join(folder, name), bytes);
        const found = await openAutoencoder(folder);
        expect(found.params.groups).toEqual(params.groups);
        expect(found.network.scaling).toEqual({ factor: 0.5, shift: 0.25 });
      } finally {
        rmSync(folder, { recursive: true });
      }
    }
  });
});

describe('files that do not fit are refused', () => {
  const own = foreignWeights(smallKl());
  const refused = async (weights: ForeignWeights, config: unknown, message: string, type = CheckpointError) => {
    const promise = importAutoencoder([weights], config);
    await expect(promise).rejects.toThrow(type);
    await expect(promise).rejects.toThrow(message);
  };
  const changed = (
    change: (tensors: Map<string, ForeignWeights['tensors'] extends ReadonlyMap<string, infer T> ? T : never>) => void,
  ) => {
    const tensors = new Map(own.tensors);
    change(tensors);
    return { ...own, tensors };
  };

  it('of other latents, with the tensor and its shape', async () => {
    const message = 'vae.safetensors: encoder.conv_out.weight has shape [8,12,3,3], the autoencoder needs [32,12,3,3]';
    await refused(own, { ...SMALL_KL, latent_channels: 16 }, message);
  });

  it('of another depth, a missing tensor, one too many', async () => {
    const deeper = { ...SMALL_KL, layers_per_block: 2 };
    await refused(own, deeper, 'there is no tensor for encoder.down_blocks.0.resnets.1.norm1.weight');
    await refused(
      changed((tensors) => tensors.delete('decoder.conv_out.bias')),
      SMALL_KL,
      'there is no tensor for decoder.conv_out.bias',
    );
    const more = changed((tensors) => tensors.set('decoder.time.weight', tensors.get('decoder.conv_in.bias')!));
    await refused({ ...more, bytes: 1e9 }, SMALL_KL, 'nothing here has a use for decoder.time.weight');
    await refused({ ...own, bytes: 100 }, SMALL_KL, 'bytes, the file has 100');
  });

  it('holding what is no number, with the tensor and its place', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const damaged = changed((tensors) => {
        const tensor = tensors.get('decoder.conv_in.weight')!;
        const load = async () => {
          const bytes = (await tensor.load()).slice();
          new Float32Array(bytes.buffer)[5] = bad;
          return bytes;
        };
        tensors.set('decoder.conv_in.weight', { ...tensor, load });
      });
      await refused(damaged, SMALL_KL, `vae.safetensors: decoder.conv_in.weight holds ${bad}, its value 5`);
    }
  });

  it('of another kind of model, with some of its names', async () => {
    const message = 'its tensors have names of no autoencoder that is known: blocks.0.attn.qkv.weight';
    await refused(
      { ...own, tensors: new Map([['blocks.0.attn.qkv.weight', [...own.tensors.values()][0]!]]) },
      undefined,
      message,
    );
    await refused({ ...own, tensors: new Map() }, undefined, 'known: none at all');
    const tiny = { _class_name: 'AutoencoderTiny' };
    await refused(own, tiny, "holds an AutoencoderKL; the configuration is of 'AutoencoderTiny'", ConfigError);
    await expect(importAutoencoder([])).rejects.toThrow('no file of an autoencoder is given');
  });
});

describe('the Gaussian', () => {
  it('keeps log variances within bounds after the split, draws and diverges as it should', () => {
    // Two pixels of one channel.
    const gaussian = gaussianOf(Float32Array.of(1, 30, -2, -40), 1);
    expect([...gaussian.mean, ...gaussian.logvar]).toEqual([1, -2, 20, -30]);
    const [first, second] = gaussianSample(gaussian, Float32Array.of(2, 2));
    expect(first).toBeCloseTo(1 + 2 * Math.exp(10), 0);
    expect(second).toBeCloseTo(-2 + 2 * Math.exp(-15), 6);
    const standard = gaussianOf(Float32Array.of(3, 0), 1);
    expect(gaussianDivergence(standard)).toBe(4.5);
    expect(() => gaussianOf(new Float32Array(3), 1)).toThrow(UsageError);
    expect(() => gaussianSample(standard, new Float32Array(2))).toThrow('2 normals for 1 latents');
  });
});
