/** What may differ when a run goes on, and what may not: the updates to come must fit those that are done. */
import { ConfigError } from '../engine/errors.ts';
import type { TuningChoice } from '../engine/tuning.ts';
import { type ModelConfig, spelledOut } from '../model/config.ts';
import type { TrainConfig } from './config.ts';
import { modelAsTrained } from './model-as-trained.ts';
import { factsOf } from './objectives/facts.ts';

/**
 * The schedule may change, how long a gradient and how long a memory an update has, what becomes of pictures that cannot be read, and what
 * costs memory but changes no number.
 */
const MAY_CHANGE: readonly string[] = [
  'training.steps',
  'training.lr',
  'training.warmup',
  'training.clip',
  'training.emaDecay',
  'training.badPictures',
  'training.recompute',
  'training.shardState',
];

/** A change that a run took when it went on. */
export interface ConfigChange {
  /** Updates that were done before. */
  readonly step: number;
  /** ISO 8601. */
  readonly time: string;
  /** By field, such as `training.lr`. */
  readonly changed: Readonly<Record<string, { readonly from: unknown; readonly to: unknown }>>;
}

interface Configured {
  readonly model: ModelConfig;
  readonly train: TrainConfig;
  readonly data: string;
  readonly tuning?: readonly TuningChoice[];
}

type Changed = Record<string, { from: unknown; to: unknown }>;

function differences(part: string, before: object, now: object): Changed {
  const [a, b] = [before, now] as [Record<string, unknown>, Record<string, unknown>];
  const fields = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  const differ = fields.filter((field) => JSON.stringify(a[field]) !== JSON.stringify(b[field]));
  return Object.fromEntries(differ.map((field) => [`${part}.${field}`, { from: a[field], to: b[field] }]));
}

/**
 * What changes when a run that began with `before` goes on with `now`.
 * @throws ConfigError naming every field that a run must keep; for another tuning, unless `otherTuning` allows it.
 */
export function changesOnResume(
  before: Configured,
  now: Configured,
  { otherTuning = false }: { otherTuning?: boolean } = {},
): ConfigChange['changed'] {
  const train = differences('training', before.train, now.train);
  // What follows from the training's options is compared there.
  const spelled = ({ model }: Configured) => spelledOut(modelAsTrained(model, before.train));
  const all = { ...differences('model', spelled(before), spelled(now)), ...train };
  const { scheduled } = factsOf(before.train.objective);
  const may = MAY_CHANGE.filter((field) => !(scheduled && field === 'training.steps'));
  const fixed = Object.entries(all).filter(([field]) => !may.includes(field));
  if (fixed.length > 0) {
    const list = (side: 'from' | 'to') => fixed.map(([field, c]) => `${field} ${JSON.stringify(c[side])}`).join(', ');
    throw new ConfigError(`the run has ${list('from')}; it cannot go on with ${list('to')}`, {
      hint: `leave that out, or start another run in another --out; only ${may.join(', ')} may change`,
    });
  }
  const data: Changed = before.data === now.data ? {} : { data: { from: before.data, to: now.data } };
  const tuning = differences('engine', { tuning: before.tuning }, { tuning: now.tuning });
  if (!otherTuning && Object.keys(tuning).length > 0) {
    const text = (choices: Configured['tuning']) => (choices ? `a tuning of ${choices.length} choices` : 'no tuning');
    const which = before.tuning && now.tuning ? 'another' : text(now.tuning);
    throw new ConfigError(`the run has ${text(before.tuning)}; this engine has ${which}`, {
      hint: 'go on with the tuning in config.json (tuningOf of odelt/bench), or allow another (otherTuning, --tuning): the last bits will differ',
    });
  }
  return { ...train, ...data, ...tuning };
}
