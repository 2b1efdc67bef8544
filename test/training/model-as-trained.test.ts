/** What training writes into a model's description: in every file that holds one, whatever was there, and for earlier runs, too. */
import { expect, it } from 'vitest';
import { parseSafetensors } from '../../formats/safetensors.ts';
import { parseYaml } from '../../formats/yaml.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import { parseModelFile } from '../../model/weights/model-file.ts';
import { checkpointBytes, parseCheckpoint, trainedModel } from '../../training/checkpoint.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { modelAsTrained } from '../../training/model-as-trained.ts';
import { changesOnResume } from '../../training/resume.ts';
import { settingsOf, settingsText } from '../../training/settings.ts';
import { checkTeacherModel } from '../../training/start.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { tinyModel, tinyTrain } from '../support/tiny.ts';

const without = parseModelConfig({ ...tinyModel, unconditional: true });
const train = parseTrainConfig({ ...tinyTrain, guidance: null });

it('says whether labels were learnt, whatever was said before', () => {
  for (const model of [tinyModel, without]) {
    expect(modelAsTrained(model, train)).toEqual(without);
    expect(modelAsTrained(model, tinyTrain)).toEqual(tinyModel);
  }
});

it('is in checkpoints and in the model that they give, also where who saved it did not say so', async () => {
  const params = (seed: number) => formulaParams(tinyModel, seed);
  const sets = { params: params(1), ema: params(2), m: params(3), v: params(4) };
  const bytes = await checkpointBytes({ step: 5, model: tinyModel, train, sets });
  const described = (file: Uint8Array) => JSON.parse(parseSafetensors(file).header.metadata.get('odelt.model')!);
  expect(described(bytes)).toEqual(without);
  // As earlier versions wrote it: the same length, as offsets are counted.
  const text = new TextDecoder('latin1').decode(bytes);
  const [now, before] = [',\\"unconditional\\":true', ' '.repeat(',\\"unconditional\\":true'.length)];
  expect(text.split(now)).toHaveLength(2);
  const earlier = Uint8Array.from(text.replace(now, before), (c) => c.charCodeAt(0));
  expect(described(earlier)).toEqual(tinyModel);
  const state = await parseCheckpoint(earlier);
  expect(state.model).toEqual(without);
  for (const given of [state, { ...state, model: tinyModel }])
    expect((await parseModelFile(await trainedModel(given), 'm')).config).toEqual(without);
});

it("follows from the training's options: a run's own file and a run that goes on say no more than those", () => {
  const text = settingsText({ model: without, train, data: 'x' });
  const { value } = parseYaml(text, 'config.yaml');
  expect(value).toMatchObject({ train: { guidance: null } });
  expect(value).not.toHaveProperty('model.unconditional');
  const { model } = settingsOf([value as object]);
  expect(modelAsTrained(model as ModelConfig, train)).toEqual(without);
  const run = (model: ModelConfig, train: typeof tinyTrain) => ({ model, train, data: 'a' });
  expect(changesOnResume(run(tinyModel, train), run(without, train))).toEqual({});
  expect(() => changesOnResume(run(without, train), run(tinyModel, tinyTrain))).toThrow(
    'the run has training.guidance null; it cannot go on with training.guidance {"weight":1.5,"distill":false}',
  );
});

it('lets a teacher with classes teach a student without, and not the other way round', () => {
  expect(() => checkTeacherModel(tinyModel, without, 't')).not.toThrow();
  expect(() => checkTeacherModel(without, without, 't')).not.toThrow();
  expect(() => checkTeacherModel(without, tinyModel, 't')).toThrow(
    'the teacher t has unconditional true; the model has unconditional false',
  );
});
