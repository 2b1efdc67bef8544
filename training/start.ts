/** What an objective asks of a run before its first update: a model that fits it, a teacher, and weights to start from; when the teacher changes. */
import { CheckpointError, ConfigError } from '../engine/errors.ts';
import { firstNonFinite } from '../formats/finite.ts';
import { type ModelConfig, spelledOut } from '../model/config.ts';
import { initParamsInTurns, type ParamSet, paramEntries, paramLayout } from '../model/params.ts';
import type { Weights } from '../model/weights/weights.ts';
import { batchShares, checkShare, type TrainConfig } from './config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from './objectives/facts.ts';
import { progressiveLevel } from './objectives/progressive.ts';
import type { TrainSets } from './state.ts';

/**
 * @throws ConfigError for a model that has no velocity to train, or is told step levels which the objective does not teach, and for
 * batches of which every row's target is the network's own, or none is of what all are to learn some of.
 */
export function checkObjective(model: ModelConfig, train: TrainConfig): void {
  const { objective } = train;
  checkRows(model, train);
  if (model.predicts === 'noise') {
    throw new ConfigError(
      'model.predicts is "noise", as of a diffusion with discrete steps; training teaches velocities',
      { hint: 'train a model that predicts velocities or data; it may start from the weights of this one (--init)' },
    );
  }
  if (factsOf(objective).stepLevel || model.ignoreDt) return;
  throw new ConfigError(`training.objective ${objective} teaches no step level, and model.ignoreDt is false`, {
    hint: 'set model.ignoreDt to true, so that sampling tells the network none',
  });
}

/** A network that only has to agree with itself learns to say 0, with a loss of 0. */
function checkRows(model: ModelConfig, train: TrainConfig): void {
  const { batch, timeEvery, lengthEvery } = train;
  if (model.lengths) checkShare(train, lengthEvery, 'length');
  const { timeRows, lengthRows } = batchShares(train, model);
  const shared = factsOf(train.objective).consistency === 'share' ? timeRows : 0;
  if (shared + lengthRows < batch) return;
  const parts = [
    shared > 0 ? `${shared} learn time consistency (training.timeEvery ${timeEvery})` : '',
    lengthRows > 0 ? `${lengthRows} learn length consistency (training.lengthEvery ${lengthEvery})` : '',
  ];
  throw new ConfigError(
    `no sample learns from pictures: of training.batch ${batch}, ${parts.filter(Boolean).join(', ')}`,
    { hint: 'give a larger training.timeEvery or training.lengthEvery, which are 8 by default, or 0 for none of it' },
  );
}

/** The objectives that a teacher can be given for, in words. */
const taught = (Object.keys(OBJECTIVES) as ObjectiveName[]).filter((name) => factsOf(name).teacher).join(' and ');

/** @throws ConfigError for a teacher that is missing, or that the objective has no use for. `given`: whether there is one. */
export function checkTeacher({ objective }: TrainConfig, given: boolean): void {
  const { teacher } = factsOf(objective);
  if (teacher && !given) {
    throw new ConfigError(`training.objective ${objective} needs a teacher, and none was given`, {
      hint: 'give trained weights of the same model (teacher, --teacher FILE)',
    });
  }
  if (!teacher && given) {
    throw new ConfigError(`a teacher was given, and training.objective ${objective} has no use for one`, {
      hint: `leave it out, or train with ${taught}`,
    });
  }
}

/**
 * @throws CheckpointError for a teacher whose description is not the student's, but for dropout: its velocities would be others. One that
 * knows classes may teach a student without: it has learned "no class", too.
 */
export function checkTeacherModel(teacher: ModelConfig, student: ModelConfig, label: string): void {
  const [theirs, ours] = [spelledOut(teacher), spelledOut(student)];
  const fields = (Object.keys(ours) as (keyof ModelConfig)[]).filter(
    (field) =>
      field !== 'dropout' &&
      !(field === 'unconditional' && ours.unconditional) &&
      JSON.stringify(theirs[field]) !== JSON.stringify(ours[field]),
  );
  if (fields.length === 0) return;
  const list = (of: ModelConfig) => fields.map((field) => `${field} ${JSON.stringify(of[field])}`).join(', ');
  throw new CheckpointError(`the teacher ${label} has ${list(theirs)}; the model has ${list(ours)}`, {
    hint: fields.includes('ignoreDt')
      ? 'take a teacher that was trained without step levels: --objective naive, fm, icfm or rfm'
      : fields.includes('unconditional')
        ? 'take a teacher that was trained with labels, or train the student without, too: --unconditional'
        : 'train the student as its teacher was, with its sizes and what it predicts',
  });
}

/** Weights that a run is given, as in TrainerOptions. */
interface Given {
  readonly from?: { readonly sets: TrainSets };
  readonly teacher?: ParamSet;
  readonly params?: ParamSet;
}

/** @throws ConfigError, CheckpointError for weights that are missing, not wanted, of another model or not finite. */
export function checkStart(model: ModelConfig, train: TrainConfig, { from, teacher, params }: Given): void {
  checkObjective(model, train);
  if (from) {
    if (teacher ?? params) {
      throw new ConfigError(`${teacher ? 'a teacher was' : 'weights were'} given for a run that goes on`, {
        hint: 'leave that out: the run keeps what it began with',
      });
    }
    if (factsOf(train.objective).teacher && !from.sets.teacher) {
      throw new CheckpointError(
        `the state to go on from has no teacher; training.objective ${train.objective} needs it`,
        {
          hint: 'go on from a checkpoint of a run with this objective: it holds teacher.safetensors',
        },
      );
    }
    return;
  }
  checkTeacher(train, teacher !== undefined);
  if (teacher) checkWeights(model, teacher, "the teacher's weights");
  if (params) checkWeights(model, params, 'the weights to start from');
}

/** The state to go on from, or the weights of a new run: the student's and, where the objective has one, the teacher's. @throws as checkStart. */
export async function startingWeights(
  model: ModelConfig,
  train: TrainConfig,
  given: Given,
): Promise<{ params: ParamSet; ema?: ParamSet; m?: ParamSet; v?: ParamSet; teacher?: ParamSet }> {
  checkStart(model, train, given);
  const { from, teacher, params } = given;
  if (from) return from.sets;
  return { params: params ?? teacher ?? (await initParamsInTurns(model, train.seed)), ...(teacher ? { teacher } : {}) };
}

/** @throws CheckpointError for weights of another model, or that are not finite. */
function checkWeights(model: ModelConfig, given: ParamSet, what: string): void {
  const found = new Map(Array.from(paramEntries(given), (entry) => [entry.spec.name, entry]));
  const hint = 'give weights of the same sizes, from a run with the same model';
  for (const { specs } of paramLayout(model).groups) {
    for (const { name, shape } of specs) {
      const there = found.get(name);
      if (!there) throw new CheckpointError(`${what} have no ${name}; the model needs it, [${shape}]`, { hint });
      if (there.spec.shape.join() !== shape.join()) {
        const message = `${what}: ${name} has shape [${there.spec.shape}], the model needs [${shape}]`;
        throw new CheckpointError(message, { hint });
      }
      const at = firstNonFinite(there.values);
      if (at < 0) continue;
      throw new CheckpointError(`${what}: ${name} holds ${there.values[at]} at element ${at}`, {
        hint: 'the run that made them diverged: take an earlier checkpoint of it',
      });
    }
  }
  const count = paramLayout(model).groups.reduce((sum, { specs }) => sum + specs.length, 0);
  if (found.size === count) return;
  const known = new Set(paramLayout(model).groups.flatMap(({ specs }) => specs.map(({ name }) => name)));
  const stranger = [...found.keys()].find((name) => !known.has(name));
  throw new CheckpointError(`${what} have a ${stranger}; the model has none`, { hint });
}

/** Whether the teacher becomes what the student is after `done` updates: where the next one has another level. */
export const teacherChanges = (train: TrainConfig, done: number): boolean =>
  factsOf(train.objective).teacher === 'replaced' &&
  progressiveLevel(train, done) !== progressiveLevel(train, done - 1);

/** Copies one set of weights over another of the same layout. */
export async function replaceTeacher(teacher: Weights, by: Weights): Promise<void> {
  const { groups } = await by.read();
  for (const [g, values] of groups.entries()) teacher.place(g, values);
}
