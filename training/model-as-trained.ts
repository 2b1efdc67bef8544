/** What of a model's description follows from how it is trained, because sampling must know it. */
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import type { TrainConfig } from './config.ts';

/**
 * The description of a model that this training makes: `unconditional` where it gives every sample "no class" (`guidance` null), and the
 * `finest` grid of steps where the network is told their size; whatever the weights that it starts from have learned. `runTraining`, checkpoints and `trainedModel` write it; give it to a `Sampler` of weights that a
 * `createTrainer` of yours has trained. @throws ConfigError for what is no model
 */
export const modelAsTrained = (
  model: ModelConfig,
  { guidance, finest }: Pick<TrainConfig, 'guidance' | 'finest'>,
): ModelConfig =>
  parseModelConfig({ ...model, unconditional: guidance === null, finest: model.ignoreDt ? undefined : finest });

/** The description without what follows from training: what settings say of a model. */
export function modelAsAsked({ unconditional: _, finest: __, ...asked }: ModelConfig): ModelConfig {
  return asked;
}
