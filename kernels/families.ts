/** Every family of kernels with variants, and what its variants are checked and timed with: what tuning iterates over. */
import type { ShapeClass } from '../engine/tuning.ts';
import { attentionContract } from './attention/attention.contract.ts';
import { attentionCandidates } from './attention/candidates.ts';
import type { AttentionShape } from './attention/variants.ts';
import type { Contract } from './contract.ts';
import { convolutionCandidates } from './conv/candidates.ts';
import { convolutionContract } from './conv/convolution.ts';
import { convolutionHalfContract } from './conv/half-kernel.contract.ts';
import type { ConvolutionShape } from './conv/variants.ts';
import type { Candidates, Variant } from './family.ts';
import { attentionHalfContract, layernormHalfContract } from './half-activations.contracts.ts';
import { productCandidates } from './matmul/candidates.ts';
import { gatedResidualContract } from './matmul/linear.contract.ts';
import { productContract } from './matmul/product.contract.ts';
import { storedLinear } from './matmul/stored-linear.contracts.ts';
import type { ProductShape } from './matmul/variants.ts';
import { normCandidates } from './norm/candidates.ts';
import { layernormContract } from './norm/layernorm.contract.ts';
import type { NormShape } from './norm/variants.ts';
import { columnSumContract } from './reduce.contract.ts';
import { type TokenSumShape, tokenSumCandidates } from './token-sums.ts';

/** A case of a contract. */
export interface Trial {
  readonly contract: Contract;
  readonly case: object;
}

/** A family, what it may choose among, and cases that exercise its shape classes. */
export interface TunedFamily<S extends ShapeClass = ShapeClass, V extends Variant = Variant> extends Candidates<S, V> {
  /** What exercises the shape, for so many samples of so many tokens: every kernel that the choice is about, and little else. */
  trial(shape: S, size: { readonly samples: number; readonly tokens: number }): Trial;
}

/** Keeps each family's own types while the list holds them all. */
const tuned = <S extends ShapeClass, V extends Variant>(f: TunedFamily<S, V>): TunedFamily =>
  f as unknown as TunedFamily;

/** Forward alone: gradients of convolutions are made by other shapes of them, which are problems of their own. */
const convolutionForward: Contract = { ...convolutionContract, differentiable: [] };

/** All families of kernels that have variants. */
export const families: readonly TunedFamily[] = [
  tuned<ProductShape, Variant>({
    ...productCandidates,
    trial({ layout, weights, activations, rows, n, k }, { samples, tokens }) {
      const contract = storedLinear[weights][activations];
      if (contract)
        return { contract, case: { rows: samples, tokens: rows === 'one' ? 1 : tokens, input: k, output: n } };
      const all = rows === 'one' ? samples : samples * tokens;
      const size = layout === 'TN' ? { m: k, k: all } : { m: all, k };
      return { contract: productContract, case: { layout, samples, n, ...size } };
    },
  }),
  tuned<NormShape, Variant>({
    ...normCandidates,
    trial: ({ width, activations }, { samples, tokens }) => ({
      contract: activations === 'f16' ? layernormHalfContract : layernormContract,
      case: { batch: samples, tokens, width },
    }),
  }),
  tuned<TokenSumShape, Variant>({
    ...tokenSumCandidates,
    trial: ({ width, tokens }, size) =>
      tokens === 0
        ? { contract: columnSumContract, case: { rows: size.samples * size.tokens, width } }
        : { contract: gatedResidualContract, case: { batch: size.samples, tokens, width } },
  }),
  tuned<AttentionShape, Variant>({
    ...attentionCandidates,
    trial({ tokens, heads, head, activations }, { samples }) {
      const contract = activations === 'f16' ? attentionHalfContract : attentionContract;
      return { contract, case: { batch: samples, tokens, heads, head, scale: 'sqrt' } };
    },
  }),
  tuned<ConvolutionShape, Variant>({
    ...convolutionCandidates,
    trial({ channels, columns, side, weights }, { samples, tokens }) {
      const contract = weights === 'f16' ? convolutionHalfContract : convolutionForward;
      // A picture of so many pixels, square where it can be.
      const root = Math.sqrt(tokens);
      const height = Number.isInteger(root) ? root : 1;
      const picture = { batch: samples, height, width: tokens / height };
      return { contract, case: { ...picture, input: channels, output: columns, side } };
    },
  }),
];
