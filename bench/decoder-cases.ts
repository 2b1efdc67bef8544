/**
 * What decoders of latents run for a picture of 256 pixels, as cases of kernels' contracts, and how often: Stable Diffusion's AutoencoderKL and
 * TAEF2. Sums, changes of range and clamps are left out.
 */
import type { ConvolutionCase } from '../kernels/conv/convolution.ts';
import type { GroupNormCase } from '../kernels/norm/groupnorm.ts';
import { klNetwork, parseKlConfig } from '../model/autoencoder/kl.ts';
import type { Layer } from '../model/autoencoder/layers.ts';

const STABLE_DIFFUSION = {
  ...{ block_out_channels: [128, 256, 512, 512], layers_per_block: 2, norm_num_groups: 32, latent_channels: 4 },
};

/** Rows and columns of the latents. */
const SIDE = 32;

function stableDiffusion(): readonly Layer[] {
  return klNetwork(parseKlConfig(STABLE_DIFFUSION), { encoder: false, decoder: true }).decoder!;
}

/** 32 latent channels; 256 channels of pooling where the picture is smallest. */
function taef2(): readonly Layer[] {
  const blocks = (count: number, pool: number): Layer[] =>
    Array.from({ length: count }, () => ({ kind: 'block', name: '', channels: 64, pool }));
  const convolution = (input: number, output: number, more: object): Layer => ({
    ...{ kind: 'convolution', name: '', input, output, side: 3 },
    ...more,
  });
  const doubled = convolution(64, 64, { bias: false, upsample: true });
  return [
    ...[convolution(32, 64, { activation: 'relu' }), ...blocks(3, 256), doubled],
    ...[...blocks(3, 0), doubled, ...blocks(3, 0), doubled],
    ...[...blocks(1, 0), convolution(64, 3, {})],
  ];
}

/** Cases by the names of contracts. */
interface Cases {
  readonly convolution: ConvolutionCase[];
  readonly groupnorm: GroupNormCase[];
  readonly linear: { rows: number; tokens: number; input: number; output: number }[];
  readonly wideAttention: { tokens: number; width: number }[];
}

/** Decoders whose layers are timed. */
const DECODERS: Readonly<Record<DecoderUse['decoder'], () => readonly Layer[]>> = {
  'Stable Diffusion': stableDiffusion,
  TAEF2: taef2,
};

/** Which decoder of latents runs a case, and how often for one picture. */
export interface DecoderUse {
  readonly decoder: 'Stable Diffusion' | 'TAEF2';
  readonly times: number;
}

/** Adds what a layer runs on a picture of side x side pixels. */
function addCases({ convolution, groupnorm, linear, wideAttention }: Cases, layer: Layer, side: number): void {
  const picture = { batch: 1, height: side, width: side };
  const convolve = (input: number, output: number, taps: 1 | 3, more: Partial<ConvolutionCase> = {}) =>
    convolution.push({ ...picture, input, output, side: taps, ...more });
  const norm = (channels: number, groups: number, activation: GroupNormCase['activation']) =>
    groupnorm.push({ ...picture, channels, groups, activation });
  switch (layer.kind) {
    case 'convolution': {
      const { input, output, side: taps, upsample, activation } = layer;
      convolve(input, output, taps, {
        ...(upsample && { upsample }),
        ...(activation === 'relu' && { fused: 'bias, relu' }),
      });
      return;
    }
    case 'residual': {
      const { input, output, groups } = layer;
      norm(input, groups, 'silu');
      convolve(input, output, 3);
      norm(output, groups, 'silu');
      if (input !== output) convolve(input, output, 1);
      convolve(output, output, 3, { fused: 'bias, residual' });
      return;
    }
    case 'attention': {
      const { channels, groups } = layer;
      const tokens = side ** 2;
      norm(channels, groups, 'none');
      for (let i = 0; i < 4; i++) linear.push({ rows: 1, tokens, input: channels, output: channels });
      wideAttention.push({ tokens, width: channels });
      return;
    }
    case 'norm':
      norm(layer.channels, layer.groups, 'silu');
      return;
    case 'block': {
      const { channels, pool } = layer;
      if (pool > 0) {
        convolve(channels, pool, 1);
        norm(pool, 4, 'relu');
        convolve(pool, channels, 1, { fused: 'bias, residual' });
      }
      for (let i = 0; i < 2; i++) convolve(channels, channels, 3, { fused: 'bias, relu' });
      convolve(channels, channels, 3, { fused: 'bias, residual, relu' });
      return;
    }
    case 'range':
    case 'clamp':
  }
}

/** The cases of a decoder, of each contract in the order in which it runs them. */
function casesOf(layers: readonly Layer[]): Cases {
  const cases: Cases = { convolution: [], groupnorm: [], linear: [], wideAttention: [] };
  let side = SIDE;
  for (const layer of layers) {
    addCases(cases, layer, side);
    if (layer.kind === 'convolution' && layer.upsample) side *= 2;
  }
  return cases;
}

const named = (cases: Cases, contract: string): readonly object[] =>
  Object.hasOwn(cases, contract) ? cases[contract as keyof Cases] : [];

/** Cases of the contract of this name, in the order in which the decoders run them; some several times. */
export const decoderCases = (contract: string): readonly object[] =>
  Object.values(DECODERS).flatMap((layers) => named(casesOf(layers()), contract));

/** Which decoder runs a case, and how often; null for what none does. No case is of both. */
export function decoderUse(contract: string, k: object): DecoderUse | null {
  const text = JSON.stringify(k);
  for (const decoder of Object.keys(DECODERS) as DecoderUse['decoder'][]) {
    const times = named(casesOf(DECODERS[decoder]()), contract).filter((own) => JSON.stringify(own) === text).length;
    if (times > 0) return { decoder, times };
  }
  return null;
}

/** How many kernels that can be timed a decoder runs. */
export const decoderLayers = (decoder: DecoderUse['decoder']): number =>
  Object.values(casesOf(DECODERS[decoder]())).reduce((sum: number, { length }) => sum + length, 0);
