/** Every kernel contract, listed by hand: what tests and benchmarks iterate over. */
import { adamwContract } from './adamw.ts';
import { addContract, addEachContract } from './add.ts';
import { attentionContract } from './attention.ts';
import { chunkContract } from './chunk.ts';
import type { Contract } from './contract.ts';
import { dropoutContract } from './dropout.ts';
import { siluContract } from './elementwise.ts';
import { eulerContract, flowInterpolateContract, guideContract } from './flow.ts';
import { gatherContract } from './gather.ts';
import { halfContracts } from './half.ts';
import { layernormContract } from './layernorm.ts';
import { gatedLinearContract, gatedResidualContract, linearContract } from './linear.ts';
import { mseContract } from './mse.ts';
import { linearHalfContract, linearInt8Contract } from './packed.ts';
import { patchifyContract, unpatchifyContract } from './patches.ts';
import { randomNormalContract, randomUniformContract } from './random.ts';
import { columnSumContract, countNonFiniteContract, globalNormContract } from './reduce.ts';
import { sinusoidContract } from './sinusoid.ts';

export const contracts: readonly Contract[] = [
  linearContract,
  linearHalfContract,
  linearInt8Contract,
  gatedLinearContract,
  gatedResidualContract,
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
  mseContract,
  dropoutContract,
  randomUniformContract,
  randomNormalContract,
  columnSumContract,
  globalNormContract,
  countNonFiniteContract,
  adamwContract,
  ...halfContracts,
];
