/**
 * The operations that a network samples with have their backward in a file of its own (NAME.backward.ts), which pages that never train do
 * not load. Here they come together: a tape made here knows all of them.
 */
import { type Derivatives, Tape } from '../engine/tape.ts';
import { addGradients } from './add.ts';
import { attentionBackward } from './attention/attention.backward.ts';
import { wideAttentionBackward } from './attention/wide.backward.ts';
import { chunkBackward } from './chunk.backward.ts';
import { convolutionBackward } from './conv/convolution.backward.ts';
import { siluDerivative } from './elementwise.backward.ts';
import { velocityTowardBackward } from './flow-training.ts';
import { gatherBackward } from './gather.backward.ts';
import { gatedLinearBackward, linearBackward } from './matmul/linear.backward.ts';
import { gatedMlpBackward } from './matmul/mlp.backward.ts';
import { groupnormBackward } from './norm/groupnorm.backward.ts';
import { layernormBackward } from './norm/layernorm.backward.ts';

/** By the names that the operations give the tape. */
const derivatives: Derivatives = {
  attention: attentionBackward,
  chunk: chunkBackward,
  convolution: convolutionBackward,
  gatedLinear: gatedLinearBackward,
  gatedMlp: gatedMlpBackward,
  gather: gatherBackward,
  groupnorm: groupnormBackward,
  layernorm: layernormBackward,
  linear: linearBackward,
  silu: siluDerivative,
  velocityToward: velocityTowardBackward,
  wideAttention: wideAttentionBackward,
};

/** A tape that can go back through every operation of odelt that has a gradient, and through those that state their own. */
export const createTape = (): Tape => new Tape(addGradients, derivatives);
