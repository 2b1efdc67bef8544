/** Access to golden data: what the bundle holds, and how a directory that holds none is refused. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ConfigError, DataError } from '../../engine/errors.ts';
import { paramsByName } from '../../model/params.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { isKeyBias, sampleIndices, sampleOf } from '../../verify/golden.ts';
import { FIXTURES, goldenModel, goldenTensors, openFixtures, openModels, relativeError } from '../support/golden.ts';

test('the bundle holds four models with their seeds', async () => {
  const models = await openFixtures();
  expect(models.map((model) => [model.name, model.seed, model.config.depth])).toEqual([
    ['a', 1001, 6],
    ['b', 2002, 12],
    ['dit_b2', 3003, 12],
    ['misaligned', 4004, 7],
  ]);
});

test('a folder with a config.json is itself a directory of golden data', async () => {
  const models = await openModels(join(FIXTURES, 'a'));
  expect(models.map((model) => model.name)).toEqual(['a']);
});

test('every file of the bundle can be read', async () => {
  const models = await openFixtures();
  for (const model of models) {
    for (const file of model.files) {
      const stem = file.replace(/\.[a-z]+$/, '');
      if (file.endsWith('.json')) expect(await model.json(stem)).toBeTypeOf('object');
      else expect((await model.tensors(stem))!.names().length).toBeGreaterThan(0);
    }
  }
});

test('inputs have the shapes of their model, and labels and lengths their ranges', async () => {
  for (const model of await openFixtures()) {
    const tensors = await goldenTensors(model, 'forward');
    const { imageSize, channels, classes, depth } = model.config;
    const batch = tensors.shape('t')[0]!;
    expect(tensors.shape('x')).toEqual([batch, imageSize, imageSize, channels]);
    expect(tensors.shape(`out/ode_l${depth}`)).toEqual(tensors.shape('x'));
    expect(tensors.integers('y').every((y) => y >= 0 && y <= classes)).toBe(true);
    expect(tensors.integers('blocks').every((b) => b >= 1 && b <= depth)).toBe(true);
  }
});

test('files and variants that the bundle lacks are absent, and files are read once', async () => {
  const a = await goldenModel('a');
  expect(await a.tensors('targets_fm')).toBeUndefined();
  expect(await a.json('nothing')).toBeUndefined();
  expect(await a.tensors('grads')).toBe(await a.tensors('grads'));
  const { types } = (await a.json('targets')) as { types: Record<string, object> };
  expect(Object.keys(types)).toEqual([
    'shortcut',
    'icfm',
    'progressive',
    'consistency',
    'consistency-distillation',
    'livereflow',
    'length',
  ]);
});

test('the trajectory only decays the table that nothing reads, by the applied learning rates', async () => {
  const a = await goldenModel('a');
  const { steps } = (await a.json('train_trajectory')) as { steps: { lr_applied: number }[] };
  const decay = steps.reduce((product, step) => product * (1 - 0.1 * step.lr_applied), 1);
  const start = paramsByName(formulaParams(a.config, a.seed)).get('Embed_0/embedding')!;
  const final = (await goldenTensors(a, 'train_trajectory')).floats('final/params/Embed_0/embedding');
  expect(
    relativeError(
      start.map((v) => v * decay),
      final,
    ),
  ).toBeLessThan(3e-7);
});

test('samples are taken at floor(j n / m)', async () => {
  expect(sampleIndices(10, 4)).toEqual([0, 2, 5, 7]);
  const model = await goldenModel('misaligned');
  const tensors = await goldenTensors(model, 'forward');
  const params = paramsByName(formulaParams(model.config, model.seed));
  for (const [leaf, values] of params) {
    const kept = tensors.shape(`blocks/grad_sample/${leaf}`)[0]!;
    expect(kept).toBe(Math.min(values.length, 256));
    expect(sampleOf(values, kept).at(-1)).toBe(values[Math.floor(((kept - 1) * values.length) / kept)]);
  }
});

test('key biases are told from the biases of the MLP', () => {
  expect(isKeyBias('DiTBlock_11/Dense_1/bias')).toBe(true);
  expect(isKeyBias('DiTBlock_11/MlpBlock_0/Dense_1/bias')).toBe(false);
  expect(isKeyBias('FinalLayer_0/Dense_1/bias')).toBe(false);
  expect(isKeyBias('DiTBlock_1/Dense_1/kernel')).toBe(false);
});

test('directories without golden data and damaged configs are refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'odelt-golden-'));
  try {
    await expect(openGolden(join(folder, 'missing'))).rejects.toThrow(DataError);
    await expect(openGolden(folder)).rejects.toThrow('no folder in it has a config.json');
    await writeFile(join(folder, 'config.json'), '{"image_size": 8');
    await expect(openModels(folder)).rejects.toThrow(DataError);
    const config = JSON.parse(await readFile(join(FIXTURES, 'a/config.json'), 'utf8')) as object;
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, num_heads: 5 }));
    await expect(openModels(folder)).rejects.toThrow(ConfigError);
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, formula_seed: -1 }));
    await expect(openModels(folder)).rejects.toThrow('must be an integer in [0, 2^32), found -1');
  } finally {
    await rm(folder, { recursive: true });
  }
});
