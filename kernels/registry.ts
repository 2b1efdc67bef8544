/** Every kernel contract, listed by hand: what tests and benchmarks iterate over. */
import { adamwAppliedContract, adamwContract } from './adamw.ts';
import { addContract, addEachContract } from './add.ts';
import { affineContract } from './affine.ts';
import { attentionContract } from './attention/attention.contract.ts';
import { wideAttentionContract } from './attention/wide.ts';
import { chunkContract } from './chunk.ts';
import type { Contract } from './contract.ts';
import { convolutionContract, convolutionResidualContract } from './conv/convolution.ts';
import { convolutionHalfContract } from './conv/half-kernel.contract.ts';
import { copyRowsContract } from './conv/rows.ts';
import { crossEntropyContract } from './cross-entropy.ts';
import { siluContract } from './elementwise.ts';
import { eulerContract, guideContract, velocityTowardContract } from './flow.ts';
import { flowEachContract, flowInterpolateContract } from './flow-training.ts';
import { gatherContract } from './gather.ts';
import { halfContracts } from './half-activations.contracts.ts';
import { histogramContract } from './histogram.ts';
import { gatedLinearContract, gatedResidualContract, linearContract } from './matmul/linear.contract.ts';
import { gatedMlpContract } from './matmul/mlp.contract.ts';
import { productContract } from './matmul/product.contract.ts';
import { storedLinear } from './matmul/stored-linear.contracts.ts';
import { mseContract } from './mse.ts';
import { groupnormContract } from './norm/groupnorm.ts';
import { layernormContract } from './norm/layernorm.contract.ts';
import { patchifyContract, unpatchifyContract } from './patches.ts';
import { dropoutContract } from './random/dropout.ts';
import { randomNormalContract, randomUniformContract } from './random/random.ts';
import { columnSumContract, countNonFiniteContract, globalNormContract } from './reduce.contract.ts';
import { sinusoidContract } from './sinusoid.ts';
import { softmaxContract } from './softmax.ts';
import { stagesContract } from './stages.ts';

/** The contracts of all kernels that come with odelt. */
export const contracts: readonly Contract[] = [
  productContract,
  linearContract,
  ...Object.values(storedLinear).flatMap((byActivations) => Object.values(byActivations)),
  gatedLinearContract,
  gatedResidualContract,
  gatedMlpContract,
  attentionContract,
  layernormContract,
  chunkContract,
  siluContract,
  addContract,
  addEachContract,
  patchifyContract,
  unpatchifyContract,
  sinusoidContract,
  gatherContract,
  flowInterpolateContract,
  guideContract,
  eulerContract,
  stagesContract,
  flowEachContract,
  velocityTowardContract,
  mseContract,
  crossEntropyContract,
  dropoutContract,
  randomUniformContract,
  randomNormalContract,
  columnSumContract,
  globalNormContract,
  countNonFiniteContract,
  adamwContract,
  convolutionContract,
  convolutionResidualContract,
  convolutionHalfContract,
  groupnormContract,
  softmaxContract,
  wideAttentionContract,
  affineContract,
  copyRowsContract,
  adamwAppliedContract,
  histogramContract,
  ...halfContracts,
];
