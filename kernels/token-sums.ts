/** The ways to sum over the tokens of each (sample, channel): teams of invocations (token-sums.wgsl), and which suits an adapter's kind. */
import type { Constants } from '../engine/wgsl.ts';
import type { Family, Variant } from './family.ts';

/** What the choice of a sum over tokens depends on. */
export type TokenSumShape = {
  /** Channels are a multiple of four, and so is what else counts columns. */
  readonly vec: boolean;
  readonly width: number;
  readonly tokens: number;
};

/** A team of invocations for the tokens of a channel, or of four channels where they go by vectors. */
export interface TokenSumVariant extends Variant {
  readonly constants: Constants;
  /** Channels of one workgroup. */
  readonly channels: number;
}

const team = (columns: number, size: number, vec: boolean): TokenSumVariant => ({
  id: `${vec ? 'vec-' : ''}${columns}x${size}`,
  constants: { COLUMNS: columns, TEAM: size, VEC: vec },
  channels: columns * (vec ? 4 : 1),
});

/** Sums over tokens for each channel of a sample: the gradients of modulations. */
export const tokenSums: Family<TokenSumShape, TokenSumVariant> = {
  name: 'token-sum',
  candidates: (_engine, { vec }) => [
    ...[team(64, 1, false), team(32, 8, false), team(16, 16, false)],
    ...(vec ? [team(16, 1, true), team(16, 16, true)] : []),
  ],
  // One invocation per channel leaves most of a GPU idle: a sample of DiT-B has 768 channels.
  reviewed: (engine, { vec }) => (engine.adapterClass === 'gpu' ? team(32, 8, false) : team(vec ? 16 : 64, 1, vec)),
};
