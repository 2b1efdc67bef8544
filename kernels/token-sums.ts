/** The ways to sum over the tokens of each (sample, channel): teams of invocations (token-sums.wgsl), and which suits an adapter's kind. */
import type { Constants } from '../engine/wgsl.ts';
import type { Candidates, Family, Variant } from './family.ts';

/** What the choice of a sum over tokens depends on. */
export type TokenSumShape = {
  /** Channels are a multiple of four, and so is what else counts columns. */
  readonly vec: boolean;
  readonly width: number;
  /** Of a sample; 0 where the rows of all samples are summed, as in a bias's gradient. */
  readonly tokens: number;
};

/** A team of invocations for the tokens of a channel, or of four channels where they go by vectors. */
export interface TokenSumVariant extends Variant {
  readonly constants: Constants;
  /** Channels of one workgroup, and the invocations that share one. */
  readonly channels: number;
  readonly team: number;
}

const shared = (columns: number, team: number, vec: boolean): TokenSumVariant => ({
  id: `${vec ? 'vec-' : ''}${columns}x${team}`,
  constants: { COLUMNS: columns, TEAM: team, VEC: vec },
  channels: columns * (vec ? 4 : 1),
  team,
});

/** An invocation for a channel: where there are few rows to sum. */
export const alone = (vec: boolean): TokenSumVariant => shared(vec ? 16 : 64, 1, vec);

/** Sums over tokens for each channel: the gradients of modulations, of each sample, and of biases, of all. */
export const tokenSums: Family<TokenSumShape, TokenSumVariant> = {
  name: 'token-sum',
  // One invocation per channel leaves most of a GPU idle: a sample of DiT-B has 768 channels. All samples' rows are more.
  reviewed(engine, { vec, tokens }) {
    if (engine.adapterClass !== 'gpu') return alone(vec);
    return tokens === 0 ? shared(16, 16, false) : shared(32, 8, false);
  },
};

/** All of them, for tuning to choose among. */
export const tokenSumCandidates: Candidates<TokenSumShape, TokenSumVariant> = {
  family: tokenSums,
  candidates: (_engine, { vec }) => [
    ...[shared(64, 1, false), shared(32, 8, false), shared(16, 16, false)],
    ...(vec ? [shared(16, 1, true), shared(16, 16, true)] : []),
  ],
};
