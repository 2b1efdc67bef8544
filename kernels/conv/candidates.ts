/** All ways to compute a convolution on a device, for tuning to choose among. */
import { type Candidates, lanesOf } from '../family.ts';
import {
  type ConvolutionShape,
  type ConvolutionVariant,
  convolutions,
  NARROW,
  REGISTER,
  SUBGROUPS,
  TILES,
} from './variants.ts';

/** Of convolutions. */
export const convolutionCandidates: Candidates<ConvolutionShape, ConvolutionVariant> = {
  family: convolutions,
  candidates(engine) {
    const lanes = lanesOf(engine);
    return [REGISTER, NARROW, ...(lanes === null ? [] : SUBGROUPS[lanes]), ...TILES];
  },
};
