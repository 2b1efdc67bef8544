/** Settings in layers and in YAML: which layer wins, what hostile documents get, recipes end to end, and a run's own file. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { yamlText } from '../../formats/yaml.ts';
import { PRESETS } from '../../model/config.ts';
import { parseTrainConfig, TRAIN_DEFAULTS, TRAIN_OPTIONS } from '../../training/config.ts';
import { modelForData } from '../../training/model-for-data.ts';
import { RECIPES, recipe } from '../../training/recipes.ts';
import { layerOfSetting, layerOfYaml, SECTIONS, seconds, settingsOf, settingsText } from '../../training/settings.ts';

const errorOf = (body: () => unknown): ConfigError => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('nothing was thrown');
};
const yaml = (text: string) => layerOfYaml(text, 'run.yaml');

describe('layers', () => {
  it('win over those before them, objects by their fields', () => {
    const file = yaml('train:\n  lr: 2e-4\n  steps: 300\n  guidance: {weight: 3}\nout:\n  keep: 5\n').layer;
    const set = layerOfSetting('train.steps=400').layer;
    const flags = { train: { steps: 500 }, out: { maxTime: '2h' } };
    const { train, out } = settingsOf([{ train: { lr: 1, seed: 9, batch: 32 } }, file, set, flags]);
    expect(train).toEqual({ lr: 2e-4, seed: 9, batch: 32, steps: 500, guidance: { weight: 3, distill: false } });
    expect(out).toMatchObject({ folder: undefined, saveEvery: 250, keep: 5, maxTime: '2h' });
    expect(settingsOf([file, layerOfSetting('train.guidance.distill=true').layer]).train.guidance).toEqual({
      weight: 3,
      distill: true,
    });
    expect(settingsOf([file, layerOfSetting('train.guidance=null').layer]).train.guidance).toBeNull();
  });

  it('with a preset take the place of the model before; lengths keep what they are not told', () => {
    const first = yaml('model:\n  preset: dit-s/2\n  width: 96\n  heads: 3\n').layer;
    expect(settingsOf([first]).model).toEqual({ width: 96, heads: 3 });
    const second = settingsOf([first, { model: { preset: 'dit-b/4', depth: 8 } }]);
    expect([second.preset, second.model]).toEqual(['dit-b/4', { depth: 8 }]);
    const third = settingsOf([first, layerOfSetting('model.lengths.min=8').layer]);
    expect(third.model.lengths).toEqual({ min: 8, group: 4 });
  });

  it('reach every option by --set, with its own default', () => {
    for (const [section, options] of Object.entries(SECTIONS)) {
      for (const [name, option] of Object.entries(options)) {
        const value = option.default ?? null;
        const { layer, path } = layerOfSetting(`${section}.${name}=${JSON.stringify(value)}`);
        expect([path, layer]).toEqual([`${section}.${name}`, { [section]: { [name]: value } }]);
      }
    }
    expect(Object.keys(TRAIN_OPTIONS).length).toBeGreaterThan(18);
  });
});

it('what the network predicts is a field of the model, by file, --set and in the run that is written', () => {
  const shape = { name: 'x', height: 28, width: 28, channels: 1, classes: 10 };
  for (const layer of [yaml('model:\n  predicts: data\n').layer, layerOfSetting('model.predicts=data').layer]) {
    const { model: given } = settingsOf([layer]);
    const model = modelForData('tiny', shape, given);
    expect(model).toEqual({ ...PRESETS.tiny, predicts: 'data' });
    const written = yaml(settingsText({ model, train: TRAIN_DEFAULTS, data: 'a' })).layer;
    expect(modelForData('tiny', shape, settingsOf([written]).model)).toEqual(model);
  }
  const velocity = settingsOf([layerOfSetting('model.predicts=velocity').layer]).model;
  expect(modelForData('tiny', shape, velocity)).toEqual(PRESETS.tiny);
  expect(errorOf(() => settingsOf([layerOfSetting('model.predicts=noise').layer])).message).toBe(
    `model.predicts is "noise"; it must be 'velocity' or 'data'`,
  );
});

describe('documents that are wrong', () => {
  const bomb = `a: &a [x,x]\n${'bcdefgh'.replace(/./g, (c, i) => `${c}: &${c} [*${'abcdefg'[i]},*${'abcdefg'[i]}]\n`)}`;
  it.each<[string, string, string | RegExp, string?]>([
    [
      'an unknown section',
      'train:\n  lr: 1\ntrian: {}\n',
      "run.yaml line 3: unknown section 'trian'",
      'did you mean train? ',
    ],
    [
      'an unknown key',
      'train:\n  lr: 1\n  wamrup: 3\n',
      "run.yaml line 3: unknown option 'train.wamrup'",
      'did you mean warmup? ',
    ],
    ['a key twice', 'train:\n  lr: 1\n  lr: 2\n', 'run.yaml line 3: Map keys must be unique'],
    ['a section that is none', 'train: 5\n', 'run.yaml line 1: train is 5; it must be a map of options'],
    ['a list', '- train\n', 'run.yaml is no map of sections', 'sections: model, train, data, out'],
    ['an anchor', 'train: &x\n  lr: 1\n', 'run.yaml line 2: anchors (&) are not read'],
    ['an alias bomb', bomb, 'run.yaml line 1: anchors (&) are not read'],
    ['a tag', 'train:\n  lr: !!js/function "x"\n', /^run\.yaml line 2: /],
    ['a merge of nothing', 'train:\n  <<: *y\n', /^run\.yaml line 2: /],
    ['two documents', 'train: {}\n---\ntrain: {}\n', /^run\.yaml line 2: .*multiple documents/],
    ['a prototype', 'train:\n  __proto__: {lr: 1}\n', "run.yaml line 2: unknown option 'train.__proto__'"],
    ['a key that is a list', 'train:\n  ? [a]\n  : 1\n', 'run.yaml line 2: a key must be text'],
    ['an open quote', 'train:\n  lr: "1\n', /^run\.yaml line \d: Missing closing/],
    ['depth', `train: ${'['.repeat(30_000)}`, /^run\.yaml (is nested too deeply|line \d)/],
    ['length', `# ${'x'.repeat(1 << 16)}`, 'run.yaml has 65538 characters; at most 65536 are read'],
  ])('%s', (_, text, message, hint = '') => {
    const error = errorOf(() => yaml(text));
    if (typeof message === 'string') expect(error.message).toBe(message);
    else expect(error.message).toMatch(message);
    expect(error.hint ?? '').toContain(hint);
  });

  it('say which value breaks a rule', () => {
    const said = (text: string) => errorOf(() => settingsOf([yaml(text).layer])).message;
    expect(said('out:\n  keep: many\n')).toBe('out.keep is "many"; it must be a positive integer');
    expect(said('out:\n  maxTime: 0h\n')).toBe('out.maxTime is "0h"; it must be a time such as 90s, 30m, 2h or 1d');
    expect(said('model:\n  width: [1]\n')).toBe('model.width is [1]; it must be an integer from 4 to 65536');
    expect(errorOf(() => layerOfSetting('train.lr')).message).toBe(
      "--set is 'train.lr'; it must be an option and its value, such as train.lr=1e-4",
    );
    const { message, hint } = errorOf(() => layerOfSetting('train.learning=1'));
    expect(message).toBe("--set: unknown option 'train.learning'");
    expect(hint).toBe(`known: ${Object.keys(TRAIN_OPTIONS).join(', ')}`);
  });

  it('times have a unit', () => {
    expect(['90s', '1.5m', '2h', '1d'].map(seconds)).toEqual([90, 90, 7200, 86400]);
    expect(['2', '-1h', '1 h', '0s', 5, null, '1e3s', `${'9'.repeat(400)}d`].map(seconds)).toEqual(Array(8).fill(null));
  });
});

describe('recipes', () => {
  const latents = { name: 'latents', height: 32, width: 32, channels: 4 };
  const base = { width: 768, heads: 12, depth: 12, lengths: { min: 4, group: 4 }, dropout: 0 };
  const large = { width: 1152, heads: 16, depth: 28, lengths: { min: 12, group: 8 }, dropout: 0 };
  const guided = { guidance: { weight: 1.5, distill: true }, classDropout: 0.1 };
  it.each([
    ['celebahq256', 1, { ...base, dropout: 0.1 }, { guidance: null, classDropout: 1 }],
    ['imagenet256', 1000, base, guided],
    ['imagenet256-xl', 1000, large, guided],
  ])('%s is the published run from end to end', (name, classes, sizes, labels) => {
    const { preset, model, train } = settingsOf([recipe(name).settings]);
    expect(modelForData(preset!, { ...latents, classes }, model)).toEqual({
      ...PRESETS['dit-b/2'],
      ...{ imageSize: 32, channels: 4, patch: 2, mlpRatio: 4, classes, ...sizes },
    });
    expect(parseTrainConfig(train)).toEqual({
      ...TRAIN_DEFAULTS,
      ...{ batch: 256, steps: 100_000, lr: 1e-4, warmup: 5000, weightDecay: 0.1, beta1: 0.9, beta2: 0.999 },
      ...{ emaDecay: 0.999, finest: 128, timeEvery: 8, lengthEvery: 8, targetsFromEma: true, clip: 0, ...labels },
    });
    expect(RECIPES[name]!.data).toMatch(/latents of 32 x 32 x 4|as imagenet256/);
  });

  it('of another name are refused, naming the nearest', () => {
    const { message, hint } = errorOf(() => recipe('celebahq'));
    expect([message, hint]).toEqual([
      "there is no recipe 'celebahq'",
      'known: celebahq256, imagenet256, imagenet256-xl',
    ]);
    expect(errorOf(() => recipe('imagenet265')).hint).toMatch(/^did you mean imagenet256\?/);
  });
});

it("a run's own file says all of it", () => {
  const model = { ...PRESETS.tiny, dropout: 0.25 };
  const train = parseTrainConfig({ lr: 1 / 3, guidance: null, recompute: 'blocks', emaDecay: 0.99 });
  const read = settingsOf([yaml(settingsText({ model, train, data: '/a b/: #x' })).layer]);
  expect(read.data.path).toBe('/a b/: #x');
  expect(parseTrainConfig(read.train)).toEqual(train);
  const shape = { name: 'x', height: 28, width: 28, channels: 1, classes: 10 };
  expect(modelForData('dit-xl/2', shape, read.model)).toEqual(model);
  expect(yamlText({ a: [1, 'x'] })).toBe('a:\n  - 1\n  - x\n');
});
