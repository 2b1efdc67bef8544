/** What a run needs to begin: a model that can be trained, and a teacher whose velocities are the student's to learn. */
import { expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { changesOnResume } from '../../training/resume.ts';
import { checkStart, checkTeacherModel } from '../../training/start.ts';
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
