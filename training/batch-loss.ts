/**
 * The loss of a batch, as it is recorded for training and for validation alike: noise, the objective's points and targets, length
 * targets, and the network's prediction.
 */
import type { Context } from '../engine/context.ts';
import { type Scalar, type ScalarValues, scalarInput } from '../engine/scalar.ts';
import type { Tensor } from '../engine/tensor.ts';
import { flowInterpolate } from '../kernels/flow-training.ts';
import { gatherRows } from '../kernels/gather.ts';
import { randomNormal } from '../kernels/random/random.ts';
import { scatterRows } from '../kernels/scatter.ts';
import type { ModelConfig } from '../model/config.ts';
import { type Depth, groupsOf, type Model, type TrainingMode, velocity } from '../model/dit.ts';
import type { Weights } from '../model/weights/weights.ts';
import type { Batch } from './batch.ts';
import type { TrainConfig } from './config.ts';
import type { Deal } from './deal.ts';
import { objectiveOf } from './objectives/registry.ts';
import type { StepInputs } from './step-inputs.ts';

/** The networks that a batch's targets come from. */
export interface Networks {
  /** The weights as they are, and their moving average. */
  readonly raw: Model;
  readonly average: Model;
  /** Whichever of the two `targetsFromEma` names. */
  readonly chosen: Model;
  readonly teacher: Model | null;
}

/** The networks of a state. */
export function networksOf(
  config: ModelConfig,
  train: TrainConfig,
  { params, ema, teacher }: { readonly params: Weights; readonly ema: Weights; readonly teacher?: Weights },
  { positions }: Pick<StepInputs, 'positions'>,
): Networks {
  const model = (weights: Weights): Model => ({ config, weights, positions });
  return {
    raw: model(params),
    average: model(ema),
    chosen: model(train.targetsFromEma ? ema : params),
    teacher: teacher ? model(teacher) : null,
  };
}

/** The program's scalar inputs for a batch: `index` counts the noise that is drawn, `update` is the number of the update, from 0. */
export function batchScalars(train: TrainConfig, batch: Batch, index: number, update: number): ScalarValues {
  const rows = Object.fromEntries(batch.main.rows.map((n, g) => [`rows${g}`, n]));
  const targetRows = Object.fromEntries(batch.length.rows.map((n, g) => [`targetRows${g}`, n]));
  const own = objectiveOf(train.objective).scalars?.(train, update);
  return { index, ...rows, ...(batch.length.targets.length > 0 ? targetRows : {}), ...own };
}

/** Group 0 runs for every sample; how many run the others is known only at replay. */
const symbolicRows = (config: ModelConfig, name: string, batch: number): Scalar[] =>
  groupsOf(config).map((_, g) => (g === 0 ? batch : scalarInput(`${name}${g}`, batch)));

/**
 * Points and targets [B, H, W, C] of the batch in `inputs`. Noise is drawn from `noise`, at the scalar `index`; null: it is given.
 * No gradients.
 */
export function recordTargets(
  ctx: Context,
  { train, shares }: Pick<Deal, 'train' | 'shares'>,
  networks: Networks,
  inputs: StepInputs,
  drawn: { readonly seed: number; readonly stream: number; readonly indices?: Tensor } | null,
): { xt: Tensor; target: Tensor } {
  const { chosen } = networks;
  const { config } = chosen;
  const { main, own, length, images } = inputs;
  const noise = drawn ? randomNormal(ctx, images.shape, { ...drawn, step: scalarInput('index') }) : inputs.noise;
  const { xt, target } = objectiveOf(train.objective).record(ctx, {
    ...networks,
    train,
    shares,
    main,
    own,
    noise: (source) => gatherRows(ctx, noise, source),
    path: (source, t, sigma) =>
      flowInterpolate(ctx, gatherRows(ctx, noise, source), gatherRows(ctx, images, source), t, sigma),
  });
  if (length) {
    ctx.scope('length', () => {
      const depth: Depth = {
        lengths: length.lengths,
        rows: symbolicRows(config, 'targetRows', length.targets.shape[0] as number),
      };
      const x = gatherRows(ctx, xt, length.targets);
      const v = velocity(ctx, chosen, { x, t: length.t, step: length.step, labels: length.labels }, depth);
      scatterRows(ctx, target, v, length.targets);
    });
  }
  return { xt, target };
}

/** What `student` predicts at the points of the batch: [B, H, W, C]. `training`: how it is when it learns. */
export function recordPrediction(
  ctx: Context,
  train: TrainConfig,
  student: Model,
  { main }: StepInputs,
  xt: Tensor,
  training?: TrainingMode,
): Tensor {
  const { config } = student;
  const depth = config.lengths ? { lengths: main.lengths, rows: symbolicRows(config, 'rows', train.batch) } : undefined;
  return velocity(ctx, student, { x: xt, t: main.t, step: main.step, labels: main.labels }, depth, training);
}
