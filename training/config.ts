/** What a training run is: objective, batch, optimiser, schedule. Defaults are the reference's. */
import { ConfigError } from '../engine/errors.ts';
import {
  choice,
  defaultsOf,
  integer,
  type Option,
  type OptionSet,
  parseOptions,
  real,
  toggle,
  type ValuesOf,
} from '../formats/options.ts';
import type { ModelConfig } from '../model/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from './objectives/facts.ts';
import { longestWarmup } from './schedule.ts';

/** What training may also teach beside the velocity for a label; null: no labels. */
export type Guidance = { readonly weight: number; readonly distill: boolean } | null;

const isGuidance = (x: unknown): boolean => {
  if (x === null) return true;
  if (typeof x !== 'object') return false;
  const { weight, distill = false, ...rest } = x as Partial<NonNullable<Guidance>>;
  return Number.isFinite(weight) && typeof distill === 'boolean' && Object.keys(rest).length === 0;
};

/** Every option of training, declared once: type, default, rule, help and flag. */
export const TRAIN_OPTIONS = {
  /** What is learned: a key of OBJECTIVES; training/objectives has a file for each. */
  objective: choice('shortcut', Object.keys(OBJECTIVES) as ObjectiveName[], {
    value: 'name',
    help: 'what is learned; docs/concepts.md explains each',
  }),
  /** fm: what is left of the noise at time 1; icfm: deviation of the noise around the path. */
  sigma: real(0.01, { min: 0, below: 1, rule: 'in [0, 1)', help: 'fm, icfm: noise of the path' }),
  /** Times of flow rows: on the finest grid, or anywhere. */
  timeSampling: choice('discrete', ['discrete', 'continuous'], {
    value: 'how',
    help: 'times on the finest grid, or anywhere',
  }),
  /** shortcut: half of the time rows have one of the two lowest levels, as in shortcut-models; false: all levels evenly. */
  dtBias: toggle(false, 'shortcut: half of the time rows learn the two largest steps'),
  /** Number of blocks of length targets: drawn like any other, as in the reference, or always all. */
  lengthTarget: choice('drawn', ['drawn', 'full'], { help: 'number of blocks that length targets have' }),
  /** Samples per batch. */
  batch: integer(64, { min: 1, rule: 'a positive integer', help: 'samples per update' }),
  /** Batches, each with draws of its own, whose gradients are averaged for one update. Above 1 costs a second set of gradients. */
  accumulate: integer(1, {
    min: 1,
    rule: 'a positive integer',
    help: 'batches whose gradients are averaged for one update',
  }),
  /** 'blocks': the backward pass runs each block again instead of keeping its activations. The gradients stay the same. */
  recompute: choice('none', ['none', 'blocks'], {
    value: 'what',
    help: 'blocks: less memory, as each block runs again in the backward pass',
  }),
  /**
   * Whether several processes divide the optimizer's state: each updates its share of the parameters, and keeps the moments of that share
   * alone. Numbers stay the same; one process by itself keeps all.
   */
  shardState: toggle(false, "several processes: each keeps its share of the optimizer's state only, for less memory"),
  /** Optimiser updates in the whole run; the learning rate's last tenth follows from it. */
  steps: integer(2000, { min: 1, rule: 'a positive integer', help: 'updates in all' }),
  /** Peak learning rate. */
  lr: real(1e-3, { above: 0, rule: 'positive', value: 'rate', help: 'peak learning rate' }),
  /** Updates until the peak is reached. */
  warmup: integer(100, { min: 0, rule: 'an integer, 0 or more', help: 'updates of linear warm-up' }),
  /** AdamW's memory of the gradient and of its square. */
  beta1: real(0.9, { min: 0, below: 1, rule: 'in [0, 1)', help: "AdamW's memory of the gradient" }),
  beta2: real(0.999, { min: 0, below: 1, rule: 'in [0, 1)', help: "AdamW's memory of the gradient's square" }),
  /** Largest Euclidean norm of an update's gradient, of all parameters together; a longer one is scaled to it. 0: any. */
  clip: real(0, { min: 0, rule: '0 or positive', value: 'norm', help: 'largest norm of the gradient; 0: any' }),
  weightDecay: real(0.1, { min: 0, below: 1, rule: 'in [0, 1)', help: 'decoupled weight decay of every parameter' }),
  emaDecay: real(0.999, {
    min: 0,
    below: 1,
    rule: 'in [0, 1)',
    help: 'moving average that consistency targets come from; the reference has 0.999 for 100,000 updates, too slow for a few thousand',
  }),
  /** Whether the average starts with a short memory: update n keeps min(emaDecay, (1 + n) / (10 + n)) of it. */
  emaWarmup: toggle(
    false,
    'let the moving average start with a short memory: (1 + n) / (10 + n) of it stays in update n',
  ),
  /** Time steps of the finest grid, a power of two (M in the paper). */
  finest: integer(128, {
    min: 2,
    also: (x) => Number.isInteger(Math.log2(x)),
    rule: 'a power of two, 2 or more',
    help: 'time steps of the finest grid, a power of two',
  }),
  /** 1 / share of the batch that learns time consistency; 0: none. */
  timeEvery: integer(8, {
    min: 0,
    rule: '0 or a positive integer',
    help: 'one sample in n learns time consistency; 0: none',
  }),
  /** 1 / share of the batch that learns length consistency; 0: none. */
  lengthEvery: integer(8, {
    min: 0,
    rule: '0 or a positive integer',
    help: 'one sample in n learns length consistency; 0: none',
  }),
  /** Whether consistency targets come from the moving average of the weights. */
  targetsFromEma: toggle(true, 'consistency targets come from the moving average of the weights'),
  /**
   * null: unconditional, every label becomes "no class". Otherwise labels are kept, and with `distill` the time targets also
   * teach the guided velocity at this weight.
   */
  guidance: {
    default: { weight: 1.5, distill: false },
    rule: 'null or { weight, distill }',
    accepts: isGuidance,
    text: { kind: 'fields' },
    help: 'null: without labels; else time targets also teach the guided velocity at `weight` where `distill` is true',
    flag: false,
  } as Option<Guidance>,
  /** Probability that a flow sample loses its label. */
  classDropout: real(0.1, { min: 0, max: 1, rule: 'in [0, 1]', value: 'p', help: 'probability of dropping a label' }),
  /** Mirrors pictures left to right with probability one half. */
  flip: toggle(false, 'mirror half of the pictures'),
  /** What becomes of a picture that cannot be read while training reads them from disk: the run ends, or another takes its place (batches.ts). */
  badPictures: choice('stop', ['stop', 'skip'], {
    help: 'a picture that cannot be read from disk during training ends it (stop), or the next one of the data takes its place',
  }),
  /** Pictures that are trained on, drawn by the seed; 0: all. A model that cannot learn a few by heart has a fault. */
  overfit: integer(0, {
    min: 0,
    rule: '0 or a positive integer',
    help: 'train on n pictures only, to see that they are learnt by heart; 0: all',
  }),
  seed: integer(1, { min: 0, max: 2 ** 32 - 1, rule: 'an integer in [0, 2^32)', help: 'seed of everything random' }),
} as const satisfies OptionSet;

/** What a training run is, apart from the model and the data. Plain data, for JSON. */
export type TrainConfig = ValuesOf<typeof TRAIN_OPTIONS>;

/** Values of the fields that a configuration leaves out. */
export const TRAIN_DEFAULTS: TrainConfig = defaultsOf(TRAIN_OPTIONS);

/** Rows of a batch by what they learn. */
export interface BatchShares {
  /** Consistency targets that are drawn; with distilled guidance each may fill two rows. */
  readonly timePairs: number;
  /** The first rows, whose target a network makes, and the others, whose target is the path's velocity. */
  readonly timeRows: number;
  readonly flowRows: number;
  /** The last rows, whose target is the velocity at another length. */
  readonly lengthRows: number;
}

/** How a batch is divided (Algorithm 1). */
export function batchShares(train: TrainConfig, model: ModelConfig): BatchShares {
  const { consistency, paired } = factsOf(train.objective);
  const share = train.timeEvery > 0 ? Math.floor(train.batch / train.timeEvery) : 0;
  const timeRows = { none: 0, share, all: train.batch }[consistency];
  const lengthRows = model.lengths && train.lengthEvery > 0 ? Math.floor(train.batch / train.lengthEvery) : 0;
  const timePairs = paired && train.guidance?.distill ? timeRows / 2 : timeRows;
  return { timePairs, timeRows, flowRows: train.batch - timeRows, lengthRows };
}

/** Fills in defaults and checks. @throws ConfigError naming the field, its value and the remedy. */
export function parseTrainConfig(given: Partial<TrainConfig>): TrainConfig {
  const parsed = parseOptions(TRAIN_OPTIONS, given, { section: 'training', noun: 'training' });
  const most = longestWarmup(parsed.steps);
  // A short run that says nothing of its warm-up has one that fits.
  const config = given.warmup === undefined ? { ...parsed, warmup: Math.min(parsed.warmup, most) } : parsed;
  checkWarmup(config, most);
  checkGuided(config);
  checkShares(config);
  return config;
}

function checkGuided({ objective, guidance }: TrainConfig): void {
  if (!guidance?.distill || factsOf(objective).guided !== 'never') return;
  const able = Object.keys(OBJECTIVES).filter((name) => factsOf(name as ObjectiveName).guided !== 'never');
  throw new ConfigError(`training.guidance is to be distilled; training.objective ${objective} has no guided targets`, {
    hint: `leave that out, or take one of ${able.join(', ')}`,
  });
}

function checkWarmup({ warmup, steps }: TrainConfig, most: number): void {
  if (warmup <= most) return;
  throw new ConfigError(
    `training.warmup is ${warmup}; a run of ${steps} updates has room for ${most}, as the rate falls in its last tenth`,
    { hint: 'give a smaller training.warmup, or more training.steps' },
  );
}

/** @throws ConfigError for a batch that has no room for one of the samples that are to learn `what` consistency. */
export function checkShare({ batch }: TrainConfig, every: number, what: 'time' | 'length'): void {
  if (every <= batch) return;
  throw new ConfigError(
    `training.batch is ${batch}; it must be at least ${every}, as one sample in ${every} learns ${what} consistency`,
    { hint: `give a larger training.batch, or a smaller training.${what}Every, or 0 for none of it` },
  );
}

/** Throws ConfigError where a batch is too small, or of a wrong size, for the samples that it is to teach time consistency. */
function checkShares(train: TrainConfig): void {
  const { objective, batch, timeEvery, guidance } = train;
  if (factsOf(objective).consistency === 'share') checkShare(train, timeEvery, 'time');
  if (!factsOf(objective).paired || !guidance?.distill || timeEvery === 0) return;
  const rows = Math.floor(batch / timeEvery);
  if (rows % 2 === 0) return;
  throw new ConfigError(
    `training.batch is ${batch}; one sample in ${timeEvery} learns time consistency, in pairs where guidance is distilled (training.guidance), and that makes ${rows}`,
    { hint: `give a training.batch that is a multiple of ${2 * timeEvery}` },
  );
}
