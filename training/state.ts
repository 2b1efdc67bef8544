/** Everything that training changes: on the GPU, and in host memory as checkpoints hold it; whole, or this process' share of it. */
import { alone, type Communicator } from '../cluster/communicator.ts';
import type { Engine } from '../engine/engine.ts';
import type { ModelConfig } from '../model/config.ts';
import { type ParamSet, zeroParams } from '../model/params.ts';
import { Weights } from '../model/weights/weights.ts';
import { batchShares, type TrainConfig } from './config.ts';
import { factsOf } from './objectives/facts.ts';
import { type Division, shareLayout, shareOf, wholeOf } from './share.ts';

/** On the GPU. Where the state is divided (share.ts), moments and maybe the average have a group for each buffer of the parameters. */
export interface TrainState {
  readonly params: Weights;
  readonly ema: Weights;
  /** Adam's first and second moments. */
  readonly m: Weights;
  readonly v: Weights;
  /** The network that targets come from, where the objective has one. Training changes it only between updates. */
  readonly teacher?: Weights;
}

/** The same in host memory: what a checkpoint holds. */
export interface TrainSets {
  readonly params: ParamSet;
  readonly ema: ParamSet;
  readonly m: ParamSet;
  readonly v: ParamSet;
  /** Of an objective that has a teacher. */
  readonly teacher?: ParamSet;
}

export const STATE_PARTS = ['params', 'ema', 'm', 'v'] as const;

/**
 * Uploads a state, or of what is divided this process' share; moments start at zero and the average at the parameters where they are not
 * given. @throws as Weights, with nothing allocated.
 */
export function createState(
  engine: Engine,
  sets: { params: ParamSet; ema?: ParamSet; m?: ParamSet; v?: ParamSet; teacher?: ParamSet },
  division: Division | null = null,
): TrainState {
  const { layout } = sets.params;
  const make = (part: string, values: ParamSet, kind: 'weights' | 'optimizer') =>
    new Weights(engine, layout, part, { kind, values });
  const optimizer = (part: 'ema' | 'm' | 'v', start?: ParamSet) => {
    const values = sets[part] ?? start;
    if (!isDivided(division, part)) return make(part, values ?? zeroParams(layout), 'optimizer');
    const own = values && shareOf(values, division);
    return new Weights(engine, shareLayout(division), part, { kind: 'optimizer', values: own });
  };
  return engine.memory.allOrNothing(() => ({
    params: make('params', sets.params, 'weights'),
    ema: optimizer('ema', sets.params),
    m: optimizer('m'),
    v: optimizer('v'),
    ...(sets.teacher ? { teacher: make('teacher', sets.teacher, 'weights') } : {}),
  }));
}

const isDivided = (division: Division | null, part: 'ema' | 'm' | 'v'): division is Division =>
  division !== null && (part !== 'ema' || division.average);

/**
 * Reads everything back that a checkpoint holds; null but on the first process where the state is divided: all must call it then.
 * @throws ClusterError.
 */
export async function readState(
  state: TrainState,
  division: Division | null,
  communicator: Communicator = alone,
): Promise<TrainSets | null> {
  const { layout } = state.params;
  const first = !division || division.rank === 0;
  const read = async (part: 'ema' | 'm' | 'v') => {
    if (isDivided(division, part)) return wholeOf(await state[part].read(), layout, division, communicator);
    return first ? state[part].read() : null;
  };
  const [ema, m, v] = [await read('ema'), await read('m'), await read('v')];
  if (!ema || !m || !v) return null;
  const teacher = state.teacher && (await state.teacher.read());
  return { params: await state.params.read(), ema, m, v, ...(teacher ? { teacher } : {}) };
}

/**
 * Whether targets come from the moving average, which every process then needs whole: in an update, or between updates where a teacher
 * becomes what it is. The same on all processes, whatever rows they have.
 */
export function averageTeaches(train: TrainConfig, model: ModelConfig): boolean {
  const { average } = factsOf(train.objective);
  const { timeRows, lengthRows } = batchShares(train, model);
  if (average === 'always') return true;
  return train.targetsFromEma && (lengthRows > 0 || (average === 'chosen' && timeRows > 0));
}
