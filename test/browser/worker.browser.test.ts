/**
 * The worker in a real browser, under a strict content security policy with trusted types: what it samples and trains is what Node samples
 * and trains on SwiftShader, errors arrive as they were thrown, and training outlives a lost GPU.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createNodeEngine } from '../../engine/engine.node.ts';
import { sha256 } from '../../formats/bytes.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { checkpointBytes } from '../../training/checkpoint.ts';
import type { TrainingData } from '../../training/data/dataset.ts';
import { createTrainer } from '../../training/trainer.ts';
import { browser, visit } from '../support/browser.ts';
import { relativeError } from '../support/golden.ts';
import { buildInto, ROOT, textOf } from '../support/repository.ts';
import { tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

const MODEL = join(ROOT, 'models/fashion-mnist.safetensors');
const train = { ...tinyTrain, steps: 6 };

interface Told {
  readonly name: string;
  readonly typed: boolean;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

interface Report {
  readonly classes: number;
  readonly progress: unknown;
  readonly shape: unknown;
  readonly values: number[];
  readonly steps: unknown;
  readonly errors: Readonly<Record<string, Told>>;
  readonly interrupted: Told;
  readonly recovered: [number, string][];
  readonly checkpointAt: number;
  readonly same: boolean[];
  readonly digests: string[];
  readonly trained: number[];
  readonly small: number[];
  readonly own: number[];
}

/** No inline script, no eval, and no address of a script that is not from a policy. */
const POLICY =
  "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; " +
  "require-trusted-types-for 'script'; trusted-types odelt test";

/** What Node samples and trains on SwiftShader. */
async function onNode(data: TrainingData) {
  const { engine } = await createNodeEngine({ adapter: 'swiftshader' });
  const { config, source, close } = await openModelSource(MODEL);
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 2 });
  const { values } = await sampler.sample({ labels: [7, 3], steps: 2, blocks: 4, seed: 5 });
  await close();
  const trainer = await createTrainer(engine, { model: tinyModel, train, data });
  for await (const _ of trainer.run());
  const digest = await sha256(
    await checkpointBytes({ step: 6, model: tinyModel, train, sets: await trainer.snapshot() }),
  );
  engine.dispose();
  return { values, digest };
}

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  it('the worker samples, trains, checks and recovers, to the bits of Node', { timeout: 600_000 }, async () => {
    const built = await mkdtemp(join(tmpdir(), 'odelt-built-'));
    onTestFinished(() => rm(built, { recursive: true }));
    await buildInto(join(built, 'dist'));
    await cp(join(ROOT, 'models'), join(built, 'models'), { recursive: true });
    const data = tinyData();
    const pixels = Array.from({ length: data.count }, (_, i) => [...data.image(i)]).flat();
    const labels = Array.from({ length: data.count }, (_, i) => data.label(i));
    const visited = visit<Report>({
      ...{ built, path: '/page.html', reports: 1, headers: { 'content-security-policy': POLICY } },
      html: '<!doctype html><script type="module" src="/page.js"></script>',
      files: {
        '/page.js': textOf('test/browser/pages/worker.js'),
        '/lossy.js': textOf('test/browser/pages/lossy.js'),
        '/setup.js': JSON.stringify({ model: tinyModel, train, pixels, labels }),
      },
    });
    // Beside the page, as both take their time.
    const [[report], { values, digest }] = await Promise.all([visited, onNode(data)]);

    expect(report!.classes).toBe(10);
    expect(report!.progress).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(report!.shape).toEqual([2, 28, 28, 1]);
    expect(relativeError(report!.values, values)).toBeLessThan(2e-5);
    expect(report!.same).toEqual([true, true]);
    expect(report!.steps).toEqual([1, 2, 3, 4, 5, 6]);
    expect(report!.digests).toEqual([digest, digest, digest]);
    expect(report!.trained).toEqual([6, 6, 6]);
    expect(report!.small).toEqual([1, 8, 8, 1]);
    expect(report!.interrupted).toMatchObject({ name: 'InterruptedError', typed: true, code: 'interrupted' });
    expect(report!.checkpointAt).toBeGreaterThanOrEqual(3);
    expect(report!.recovered.map(([step]) => step)).toEqual([2]);
    expect(report!.own).toEqual([7, 8, 9]);
    const { label, missing, bench, uncloneable, otherModel, damaged, disposed } = report!.errors;
    expect(label).toEqual({
      ...{ name: 'ConfigError', typed: true, code: 'config' },
      message: expect.stringMatching(/99/),
      hint: expect.any(String),
    });
    expect(missing).toMatchObject({ name: 'CheckpointError', typed: true, code: 'checkpoint' });
    expect(missing!.message).toMatch(/nothing\.safetensors: the server answered 404/);
    expect(bench).toMatchObject({ name: 'ConfigError', typed: true, hint: expect.stringMatching(/attention/) });
    expect(bench!.message).toBe("no kernel that is timed matches 'nonsense'");
    expect(bench).toMatchObject({ name: 'ConfigError', typed: true, message: expect.stringMatching(/nonsense/) });
    expect(uncloneable).toMatchObject({
      name: 'UsageError',
      typed: true,
      message: 'sample cannot be sent to the worker',
    });
    expect(otherModel!.message).toBe('the run has training.batch 8; it cannot go on with training.batch 4');
    expect(damaged).toMatchObject({ name: 'CheckpointError', typed: true });
    expect(damaged!.message).toMatch(/^the checkpoint is damaged: its SHA-256 is /);
    expect(disposed).toMatchObject({ name: 'InterruptedError', message: 'the worker has been disposed' });
  });
});
