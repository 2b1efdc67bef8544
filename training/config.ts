/** What a training run is: objective, batch, optimiser, schedule. Defaults are the reference's. */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';

/** What a training run is, apart from the model and the data. Plain data, for JSON. */
export interface TrainConfig {
  readonly batch: number;
  /** Batches, each with draws of its own, whose gradients are averaged for one update. Above 1 costs a second set of gradients. */
  readonly accumulate: number;
  /** 'blocks': the backward pass runs each block again instead of keeping its activations. The gradients stay the same. */
  readonly recompute: 'none' | 'blocks';
  /** Optimiser updates in the whole run; the learning rate's last tenth follows from it. */
  readonly steps: number;
  /** Peak learning rate, and updates until it is reached. */
  readonly lr: number;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly emaDecay: number;
  /** Time steps of the finest grid, a power of two (M in the paper). */
  readonly finest: number;
  /** 1 / share of the batch that learns time consistency, and of the batch that learns length consistency; 0: none. */
  readonly timeEvery: number;
  readonly lengthEvery: number;
  /** Whether consistency targets come from the moving average of the weights. */
  readonly targetsFromEma: boolean;
  /**
   * null: unconditional, every label becomes "no class". Otherwise labels are kept, and with `distill` the time targets also
   * teach the guided velocity at this weight.
   */
  readonly guidance: { readonly weight: number; readonly distill: boolean } | null;
  /** Probability that a flow sample loses its label. */
  readonly classDropout: number;
  /** Mirrors pictures left to right with probability one half. */
  readonly flip: boolean;
  readonly seed: number;
}

/** Values of the fields that a configuration leaves out. */
export const TRAIN_DEFAULTS: TrainConfig = {
  batch: 64,
  accumulate: 1,
  recompute: 'none',
  steps: 2000,
  lr: 1e-3,
  warmup: 100,
  weightDecay: 0.1,
  emaDecay: 0.999,
  finest: 128,
  timeEvery: 8,
  lengthEvery: 8,
  targetsFromEma: true,
  guidance: { weight: 1.5, distill: false },
  classDropout: 0.1,
  flip: false,
  seed: 1,
};

/** Rows of a batch by what they learn. */
export interface BatchShares {
  /** Drawn pairs for time consistency; with distilled guidance each fills two rows. */
  readonly timePairs: number;
  readonly timeRows: number;
  readonly flowRows: number;
  /** The last rows, whose target is the velocity at another length. */
  readonly lengthRows: number;
}

/** How a batch is divided (Algorithm 1). */
export function batchShares(train: TrainConfig, model: ModelConfig): BatchShares {
  const timeRows = train.timeEvery > 0 ? Math.floor(train.batch / train.timeEvery) : 0;
  const lengthRows = model.lengths && train.lengthEvery > 0 ? Math.floor(train.batch / train.lengthEvery) : 0;
  const timePairs = train.guidance?.distill ? timeRows / 2 : timeRows;
  return { timePairs, timeRows, flowRows: train.batch - timeRows, lengthRows };
}

/** Fills in defaults and checks. @throws ConfigError naming the field, its value and the remedy. */
export function parseTrainConfig(given: Partial<TrainConfig>): TrainConfig {
  const unknown = Object.keys(given).filter((key) => !Object.hasOwn(TRAIN_DEFAULTS, key));
  if (unknown.length > 0) {
    throw new ConfigError(`unknown training option '${unknown[0]}'`, {
      hint: `known: ${Object.keys(TRAIN_DEFAULTS).join(', ')}`,
    });
  }
  const c: TrainConfig = { ...TRAIN_DEFAULTS, ...given };
  const need = (ok: boolean, field: keyof TrainConfig, rule: string) => {
    if (!ok) throw new ConfigError(`training.${field} is ${JSON.stringify(c[field])}; it must be ${rule}`);
  };
  const natural = (x: number) => Number.isInteger(x) && x >= 1;
  need(natural(c.batch), 'batch', 'a positive integer');
  need(natural(c.accumulate), 'accumulate', 'a positive integer');
  need(c.recompute === 'none' || c.recompute === 'blocks', 'recompute', "'none' or 'blocks'");
  need(natural(c.steps), 'steps', 'a positive integer');
  need(Number.isFinite(c.lr) && c.lr > 0, 'lr', 'positive');
  need(Number.isInteger(c.warmup) && c.warmup >= 0, 'warmup', 'an integer, 0 or more');
  const number = (x: unknown) => typeof x === 'number';
  need(number(c.weightDecay) && c.weightDecay >= 0 && c.weightDecay < 1, 'weightDecay', 'in [0, 1)');
  need(number(c.emaDecay) && c.emaDecay >= 0 && c.emaDecay < 1, 'emaDecay', 'in [0, 1)');
  need(
    natural(c.finest) && Number.isInteger(Math.log2(c.finest)) && c.finest >= 2,
    'finest',
    'a power of two, 2 or more',
  );
  need(Number.isInteger(c.timeEvery) && c.timeEvery >= 0, 'timeEvery', '0 or a positive integer');
  need(Number.isInteger(c.lengthEvery) && c.lengthEvery >= 0, 'lengthEvery', '0 or a positive integer');
  need(c.guidance === null || Number.isFinite(c.guidance.weight), 'guidance', 'null or { weight, distill }');
  need(number(c.classDropout) && c.classDropout >= 0 && c.classDropout <= 1, 'classDropout', 'in [0, 1]');
  need(typeof c.targetsFromEma === 'boolean', 'targetsFromEma', 'true or false');
  need(typeof c.flip === 'boolean', 'flip', 'true or false');
  need(Number.isInteger(c.seed) && c.seed >= 0 && c.seed < 2 ** 32, 'seed', 'an integer in [0, 2^32)');
  checkShares(c);
  return c;
}

/** Throws ConfigError where a batch is too small, or of a wrong size, for the samples that it is to teach consistency. */
function checkShares({ batch, timeEvery, lengthEvery, guidance }: TrainConfig): void {
  for (const [every, what] of [[timeEvery, 'time'] as const, [lengthEvery, 'length'] as const]) {
    if (every <= batch) continue;
    throw new ConfigError(
      `training.batch is ${batch}; it must be at least ${every}, as one sample in ${every} learns ${what} consistency`,
    );
  }
  if (!guidance?.distill || timeEvery === 0) return;
  const rows = Math.floor(batch / timeEvery);
  if (rows % 2 === 0) return;
  throw new ConfigError(
    `training.batch is ${batch}; one sample in ${timeEvery} learns time consistency, in pairs where guidance is distilled (training.guidance), and that makes ${rows}`,
    { hint: `give a training.batch that is a multiple of ${2 * timeEvery}` },
  );
}
