/** The classifier on the GPU: features as float64 has them, training to the same bits, what it learns, and what it refuses. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, UsageError } from '../../engine/errors.ts';
import { featuresOfClassifier } from '../../evaluation/classifier-features.ts';
import { attentionContract } from '../../kernels/attention/attention.contract.ts';
import { linearContract } from '../../kernels/matmul/linear.contract.ts';
import { layernormContract } from '../../kernels/norm/layernorm.contract.ts';
import { patchifyContract } from '../../kernels/patches.ts';
import { initClassifier, parseClassifierConfig } from '../../model/classifier.ts';
import { Classifier } from '../../model/classify.ts';
import { type ParamSet, paramsByName } from '../../model/params.ts';
import { positionEmbedding } from '../../model/position.ts';
import { type ClassifierEvent, createClassifierTrainer, measureAccuracy } from '../../training/classifier.ts';
import { type Dataset, datasetOf } from '../../training/data/dataset.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';
import { setBits } from '../support/tiny.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const config = parseClassifierConfig({
  ...{ imageSize: 8, channels: 1, patch: 2, classes: 3 },
  ...{ width: 8, heads: 2, depth: 1, features: 12 },
});

/** Noise with a bright bar in the upper, middle or lower part, by class. */
function bars(count: number, seed: number): Dataset {
  const normal = normals(seed);
  const pixels = Uint8Array.from({ length: count * 64 }, (_, at) => {
    const [i, row] = [Math.floor(at / 64), Math.floor((at % 64) / 8)];
    return Math.max(0, Math.min(255, 100 + 40 * normal() + (Math.floor(row / 3) === i % 3 ? 60 : 0)));
  });
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
  return datasetOf({ name: 'bars', height: 8, width: 8, channels: 1, classes: 3, pixels, labels });
}

/** Parameters that leave nothing out: gates and modulations, too. */
function filled(seed: number): ParamSet {
  const params = initClassifier(config, seed);
  const normal = normals(seed);
  for (const values of paramsByName(params).values())
    for (let i = 0; i < values.length; i++) values[i]! += 0.2 * normal();
  return params;
}

/** Features in float64, composed of the kernels' references. */
function reference(params: ParamSet, images: Float32Array): Float64Array {
  const w = new Map(Array.from(paramsByName(params), ([name, values]) => [name, Float64Array.from(values)]));
  const [batch, tokens, width] = [images.length / 64, 16, 8];
  const dense = (x: Float64Array, name: string, activation?: 'gelu') => {
    const [kernel, bias] = [w.get(`${name}/kernel`)!, w.get(`${name}/bias`)!];
    const sizes = { input: kernel.length / bias.length, output: bias.length, activation };
    return linearContract.reference({ x, kernel, bias }, sizes).y!;
  };
  const part = (name: string, k: number) => w.get(name)!.subarray(k * width, (k + 1) * width);
  const norm = (x: Float64Array, name: string, k: number) => {
    const row = [...part(name, k), ...part(name, k + 1)];
    const modulation = Float64Array.from({ length: batch * row.length }, (_, i) => row[i % row.length]!);
    return layernormContract.reference({ x, modulation }, { batch, tokens, width }).y!;
  };
  const patched = patchifyContract.reference(
    { images: Float64Array.from(images) },
    { batch, height: 8, width: 8, channels: 1, patch: 2 },
  ).tokens!;
  const positions = positionEmbedding(4, width);
  let x = dense(patched, 'PatchEmbed_0/Conv_0').map((v, i) => v + positions[i % positions.length]!);
  const [mod, b] = ['DiTBlock_0/modulation', 'DiTBlock_0'];
  const gated = (branch: Float64Array, gate: number) => x.map((v, i) => v + part(mod, gate)[i % width]! * branch[i]!);
  const h = norm(x, mod, 0);
  const [k, q, v] = ['Dense_1', 'Dense_2', 'Dense_3'].map((name) => dense(h, `${b}/${name}`));
  const heads = { batch, tokens, heads: 2, head: 4, scale: 'd' };
  x = gated(dense(attentionContract.reference({ q: q!, k: k!, v: v! }, heads).y!, `${b}/Dense_4`), 2);
  x = gated(dense(dense(norm(x, mod, 3), `${b}/MlpBlock_0/Dense_0`, 'gelu'), `${b}/MlpBlock_0/Dense_1`), 5);
  return dense(norm(x, 'Classifier_0/modulation', 0), 'Classifier_0/Dense_0', 'gelu');
}

it('features are those of float64, of clamped pictures, whatever else is in their batch', async () => {
  const params = filled(3);
  const classifier = await Classifier.create(engine, config, params);
  const images = Float32Array.from({ length: 131 * 64 }, normals(5));
  const [found, again] = await Promise.all([
    classifier.features(images),
    classifier.features(images.subarray(128 * 64)),
  ]);
  const want = reference(
    params,
    images.map((x) => Math.max(-1, Math.min(1, x))),
  );
  const size = Math.sqrt(want.reduce((sum, x) => sum + x * x, 0) / want.length);
  expect(size).toBeGreaterThan(0.1);
  const worst = want.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i]!)), 0);
  expect(worst / size).toBeLessThan(1e-5);
  expect(again).toEqual(found.subarray(128 * 12));
  await expect(classifier.features(images.subarray(1))).rejects.toThrow(UsageError);
  classifier.dispose();
});

describe('training', () => {
  const training = { steps: 60, batch: 24, lr: 5e-3, warmup: 5, seed: 4, emaDecay: 0.9 };
  const train = async (more = {}, signal?: AbortSignal, stop?: (event: ClassifierEvent) => void) => {
    const trainer = await createClassifierTrainer(engine, {
      config,
      data: bars(300, 1),
      training: { ...training, ...more },
      signal,
    });
    try {
      const losses: number[] = [];
      for await (const event of trainer.run()) {
        losses.push(event.loss);
        stop?.(event);
      }
      return { losses, params: await trainer.snapshot() };
    } finally {
      trainer.dispose();
    }
  };

  it('learns, to the same bits each time, and leaves nothing behind', async () => {
    const { params, losses } = await train();
    expect(losses[0]).toBeCloseTo(Math.log(3), 5); // the last layer starts at nothing
    const classifier = await Classifier.create(engine, config, params);
    const { hits, of } = await measureAccuracy(classifier, bars(600, 2));
    expect(of).toBe(600);
    expect(hits / of).toBeGreaterThan(0.95);
    const judged = featuresOfClassifier(classifier, { config, digest: 'd' }, { name: 'bars', data: bars(3, 2) });
    expect(judged.classesOf).toBeDefined();
    const strangers = { ...bars(3, 2), classNames: ['x', 'y', 'z'] };
    expect(
      featuresOfClassifier(classifier, { config, digest: 'd' }, { name: 'bars', data: strangers }).classesOf,
    ).toBeUndefined();
    classifier.dispose();
    const kinds = () => ({ ...engine.memory.report().byKind, staging: 0 });
    const before = kinds();
    const second = await train();
    expect(kinds()).toEqual(before);
    expect(second.losses).toEqual(losses);
    expect(setBits({ params: second.params })).toEqual(setBits({ params }));
    expect((await train({ steps: 5, seed: 5 })).losses).not.toEqual(losses.slice(0, 5));
  });

  it('stops after a whole update', async () => {
    const controller = new AbortController();
    const running = train({}, controller.signal, ({ step }) => step === 3 && controller.abort());
    await expect(running).rejects.toThrow(InterruptedError);
    await expect(running).rejects.toThrow('training was interrupted after 3 of 60 updates');
  });

  it('goes on where a loop was left, to the same bits', async () => {
    const data = bars(300, 1);
    const trainer = await createClassifierTrainer(engine, { config, data, training: { ...training, steps: 5 } });
    const losses: number[] = [];
    for (const leave of [2, 5, 5]) {
      for await (const event of trainer.run()) {
        losses.push(event.loss);
        await expect(trainer.run().next()).rejects.toThrow('this trainer is running already');
        if (event.step === leave) break;
      }
    }
    trainer.dispose();
    expect(losses).toEqual((await train({ steps: 5 })).losses);
  });

  it('refuses options and data that make no sense', async () => {
    await expect(train({ batch: 0 })).rejects.toThrow('classifier.batch is 0; it must be an integer, 1 or more');
    await expect(train({ rate: 1 })).rejects.toThrow("unknown classifier option 'rate'");
    const other = createClassifierTrainer(engine, { config: { ...config, imageSize: 12 }, data: bars(3, 1) });
    await expect(other).rejects.toThrow(ConfigError);
    const numbers = {
      ...bars(3, 1),
      elements: 'numbers' as const,
      open: () => expect.fail(),
      paired: false,
      identity: '',
    };
    const latents = createClassifierTrainer(engine, { config, data: numbers });
    await expect(latents).rejects.toThrow("'bars' holds numbers; a classifier learns from pictures");
  });
});
