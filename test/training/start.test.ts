/** What a run needs to begin: a model that can be trained, and a teacher whose velocities are the student's to learn. */
import { describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { factsOf } from '../../training/objectives/facts.ts';
import { changesOnResume } from '../../training/resume.ts';
import { checkObjective, checkStart, checkTeacherModel } from '../../training/start.ts';
import { tinyModel, tinyTrain } from '../support/tiny.ts';

const data = parseModelConfig({ ...tinyModel, predicts: 'data' });

it('a model of velocities or data begins, one of noise does not', () => {
  for (const model of [tinyModel, data]) expect(() => checkStart(model, tinyTrain, {})).not.toThrow();
  const start = () => checkStart({ ...tinyModel, predicts: 'noise' }, parseTrainConfig({ steps: 10 }), {});
  expect(start).toThrow(ConfigError);
  expect(start).toThrow(
    'model.predicts is "noise", as of a diffusion with discrete steps; training teaches velocities',
  );
});

it('a teacher that predicts something else, or takes the time otherwise, is refused in both directions', () => {
  expect(() => checkTeacherModel(data, { ...data, dropout: 0.5 }, 't')).not.toThrow();
  expect(() => checkTeacherModel(data, tinyModel, 't')).toThrow(CheckpointError);
  expect(() => checkTeacherModel(data, tinyModel, 't')).toThrow(
    'the teacher t has predicts "data"; the model has predicts "velocity"',
  );
  expect(() => checkTeacherModel(tinyModel, data, 't')).toThrow(
    'the teacher t has predicts "velocity"; the model has predicts "data"',
  );
  expect(() => checkTeacherModel({ ...tinyModel, timeScale: 1000 }, tinyModel, 't')).toThrow(
    'the teacher t has timeScale 1000; the model has timeScale 1',
  );
});

it('a run keeps what its model predicts', () => {
  const run = (model: typeof tinyModel) => ({ model, train: tinyTrain, data: 'a' });
  expect(changesOnResume(run(data), run(data))).toEqual({});
  expect(() => changesOnResume(run(tinyModel), run(data))).toThrow(
    'the run has model.predicts "velocity"; it cannot go on with model.predicts "data"',
  );
  expect(() => changesOnResume(run(data), run(tinyModel))).toThrow(
    'the run has model.predicts "data"; it cannot go on with model.predicts "velocity"',
  );
});

describe('a batch', () => {
  const fails = (change: Partial<TrainConfig>, model = tinyModel) => {
    const train = parseTrainConfig({ batch: 8, ...change });
    return () => checkObjective({ ...model, ignoreDt: !factsOf(train.objective).stepLevel }, train);
  };

  it.each<[Partial<TrainConfig>, string]>([
    [
      { timeEvery: 2, lengthEvery: 2 },
      '4 learn time consistency (training.timeEvery 2), 4 learn length consistency (training.lengthEvery 2)',
    ],
    [{ timeEvery: 1, lengthEvery: 0 }, '8 learn time consistency (training.timeEvery 1)'],
    [{ timeEvery: 0, lengthEvery: 1 }, '8 learn length consistency (training.lengthEvery 1)'],
    [{ objective: 'naive', lengthEvery: 1 }, '8 learn length consistency (training.lengthEvery 1)'],
  ])('of which no sample learns from pictures is refused: %j', (change, parts) => {
    expect(fails(change)).toThrow(`no sample learns from pictures: of training.batch 8, ${parts}`);
  });

  it('of which one does is not, nor one of a model or an objective that has no such shares', () => {
    expect(fails({ timeEvery: 2, lengthEvery: 3 })).not.toThrow();
    expect(fails({ timeEvery: 2, lengthEvery: 2 }, { ...tinyModel, lengths: null })).not.toThrow();
    expect(fails({ objective: 'consistency', timeEvery: 1, lengthEvery: 2 })).not.toThrow();
  });
});
