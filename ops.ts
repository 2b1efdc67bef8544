/**
 * Operations on tensors, each with its backward: what networks and training steps are made of. Every one takes the context that
 * it runs in (`record`, `eager`) and tensors of 32-bit floats, unless it says more.
 * @module odelt/ops
 */
export { type AddGradients, type Derivative, type Derivatives, Tape } from './engine/tape.ts';
export { type AdamWOptions, type AdamWTensors, adamw, adamwApplied } from './kernels/adamw.ts';
export { add, addEach, addGradients, copyInto } from './kernels/add.ts';
export { affine, softClamp } from './kernels/affine.ts';
export { type AttentionOptions, attention } from './kernels/attention/attention.ts';
export { wideAttention } from './kernels/attention/wide.ts';
export { chunk } from './kernels/chunk.ts';
export {
  type ConvolutionBand,
  type ConvolutionOptions,
  type ConvolutionWeights,
  convolution,
} from './kernels/conv/convolution.ts';
export { checkLabels, crossEntropy, type RowTeam } from './kernels/cross-entropy.ts';
export { createTape } from './kernels/derivatives.ts';
export { silu } from './kernels/elementwise.ts';
export { euler, eulerEach, guide, mean2, velocityToward } from './kernels/flow.ts';
export { eulerWithin, flowInterpolate, mixEach } from './kernels/flow-training.ts';
export { gatherRows } from './kernels/gather.ts';
export { HISTOGRAM_BINS, histogram, histogramEdges } from './kernels/histogram.ts';
export { gatedResidual } from './kernels/matmul/gate.ts';
export { gatedLinear, type LinearWeights, linear } from './kernels/matmul/linear.ts';
export { gatedMlp } from './kernels/matmul/mlp.ts';
export { mse, mseSeed } from './kernels/mse.ts';
export { mul } from './kernels/mul.ts';
export { type GroupNormOptions, type GroupNormWeights, groupnorm } from './kernels/norm/groupnorm.ts';
export { layernorm } from './kernels/norm/layernorm.ts';
export { patchify, unpatchify } from './kernels/patches.ts';
export { dropout } from './kernels/random/dropout.ts';
export {
  type DeviceRandomSource,
  type RowRandomSource,
  randomNormal,
  randomUniform,
} from './kernels/random/random.ts';
export { columnSum, countNonFinite, globalNorm, sumSquares } from './kernels/reduce.ts';
export { scatterRows } from './kernels/scatter.ts';
export { SINUSOID_WIDTH, sinusoid } from './kernels/sinusoid.ts';
export { softmax } from './kernels/softmax.ts';
