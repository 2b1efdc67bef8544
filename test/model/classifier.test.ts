/** A classifier's description and file: what is filled in, what is refused, and that a file gives back what was written. */
import { describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { sha256 } from '../../formats/bytes.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import {
  bestClasses,
  type ClassifierConfig,
  classifierLayout,
  defaultPatch,
  initClassifier,
  parseClassifierConfig,
} from '../../model/classifier.ts';
import { paramsByName } from '../../model/params.ts';
import { classifierContents, parseClassifierFile } from '../../model/weights/classifier-file.ts';

const small: ClassifierConfig = parseClassifierConfig({
  ...{ imageSize: 8, channels: 1, patch: 2, classes: 3 },
  ...{ width: 8, heads: 2, depth: 1, features: 5 },
});

describe('a description', () => {
  it('has the default sizes and a patch that suits the pictures', () => {
    const found = parseClassifierConfig({ imageSize: 28, channels: 1, classes: 10 });
    expect(found).toEqual({
      ...{ imageSize: 28, channels: 1, classes: 10, patch: 4 },
      ...{ width: 48, heads: 3, depth: 1, mlpRatio: 3, features: 64, scale: 1 },
    });
    expect([28, 32, 64, 31, 5].map(defaultPatch)).toEqual([4, 4, 8, 1, 1]);
  });

  it.each([
    [{ patch: 3 }, 'model.patch must be a divisor of model.imageSize (8)'],
    [{ features: 0 }, "a classifier's features must be an integer from 1 to 4096, not 0"],
    [{ features: 1.5 }, 'not 1.5'],
    [{ lengths: null }, "lengths is no field of a classifier's description"],
  ])('%j is refused', (fields, message) => {
    expect(() => parseClassifierConfig({ ...small, ...fields })).toThrow(message);
    expect(() => parseClassifierConfig({ ...small, ...fields })).toThrow(ConfigError);
    expect(() => parseClassifierConfig([])).toThrow(ConfigError);
  });

  it('says how many parameters there are', () => {
    const [D, hidden, tokens, F] = [8, 24, 16, 5];
    const block = 6 * D + 4 * (D * D + D) + (D * hidden + hidden) + (hidden * D + D);
    const head = 2 * D + (tokens * D * F + F) + (F * 3 + 3);
    expect(classifierLayout(small).count).toBe(4 * D + D + block + head);
  });
});

it('the class of a row of features is that of the highest score, the first of equal ones', () => {
  // Scores are features times kernel [2, 3] and bias.
  const layer = { kernel: Float32Array.of(1, 0, -1, 0, 1, 0), bias: Float32Array.of(0, 0, 0.5) };
  expect([...bestClasses(Float32Array.of(2, 1, 1, 2, -3, 0, 0.5, 0.5, 0, 0), layer)]).toEqual([0, 1, 2, 0, 2]);
});

describe('a file', () => {
  const params = initClassifier(small, 7);
  const names = ['a', 'b', 'c'];
  const written = (
    change: (values: Map<string, Float32Array>) => void = () => {},
    config = small,
    classNames = names,
  ) => {
    const own = initClassifier(small, 7);
    change(paramsByName(own));
    const { tensors, metadata } = classifierContents(config, own, { classNames, extra: { 'odelt.step': '9' } });
    return serializeSafetensors(tensors, metadata);
  };

  it('gives back description, names and values as F16, and its digest', async () => {
    const bytes = written();
    const found = await parseClassifierFile(bytes, 'c');
    expect(found).toMatchObject({ config: small, classNames: names, digest: await sha256(bytes) });
    expect(found.metadata.get('odelt.step')).toBe('9');
    const [a, b] = [paramsByName(params), paramsByName(found.params)];
    for (const [name, values] of a) {
      const worst = values.reduce((most, x, i) => Math.max(most, Math.abs(x - b.get(name)![i]!)), 0);
      expect(worst, name).toBeLessThan(5e-4);
    }
    expect((await parseClassifierFile(written(undefined, small, ['a']), 'c')).classNames).toBeUndefined();
  });

  it.each([
    [
      'values that are not finite',
      () => written((v) => v.get('Classifier_0/Dense_1/bias')!.fill(Number.NaN, 2)),
      'c: Classifier_0/Dense_1/bias holds NaN at element 2',
    ],
    [
      'another description',
      () => written(undefined, { ...small, features: 6 }),
      'Classifier_0/Dense_0/kernel has shape [128,5], the model needs [128,6]',
    ],
    ['no description', () => serializeSafetensors([], {}), "c holds no classifier (metadata 'odelt.classifier')"],
    [
      'a description that is none',
      () => serializeSafetensors([], { 'odelt.classifier': '{"width":3}' }),
      'c: its description of a classifier is not valid',
    ],
    ['half of it', () => written().slice(0, 3000), 'c'],
  ])('of %s is refused', async (_, bytes, message) => {
    await expect(parseClassifierFile(bytes(), 'c')).rejects.toThrow(CheckpointError);
    await expect(parseClassifierFile(bytes(), 'c')).rejects.toThrow(message);
  });
});
