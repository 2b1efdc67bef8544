/** An ablation that is stopped in the middle of a training, and later of an evaluation, has the bits of one that is not. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type AblationOptions, runAblation } from '../../evaluation/ablation.node.ts';
import { type AblationResults, type Method, variantOf } from '../../evaluation/ablation.ts';
import { evaluateModel, weightsDigest } from '../../evaluation/evaluate.ts';
import { featuresOf } from '../../evaluation/features.ts';
import { realPictures } from '../../evaluation/real.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import { fingerprint } from '../../training/data/fingerprint.node.ts';
import { lockFolder } from '../../training/lock.node.ts';
import { testEngine } from '../support/engine.ts';
import { tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

const folder = mkdtempSync(join(tmpdir(), 'odelt-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const method: Method = { model: tinyModel, train: { ...tinyTrain, steps: 2, warmup: 0 } };
const data = tinyData(40);
const { seed: _, ...train } = method.train;
const { pixels, labels } = fingerprint(data);
const features = featuresOf('pixels', data);
const settings: AblationOptions['settings'] = {
  ...{ method: { model: method.model, train }, trainedOn: { pixels, labels }, steps: 2, guidance: 1 },
  ...{ weights: 'ema', seed: 0, samples: 12, batch: 8, adapter: 'any', odelt: 'this' },
  ...{ features: { name: 'pixels', width: features.width, digest: '' }, data: { name: 'tiny', digests: [] } },
};
const options: Omit<AblationOptions, 'folder'> = {
  variants: ['method', 'cut'].map((name) => variantOf(name, method)),
  ...{ seeds: [3], settings, data, place: 'somewhere', features, real: realPictures({ train: data }, 12, 0) },
  ...{ recorded: { linearAlgebra: 'own', versions: {} }, saveEvery: 100, environment: {} },
};
const cells = ({ runs }: AblationResults) =>
  runs.map(({ variant, cells }) => [variant, cells.map(({ blocks, fd }) => [blocks, fd])]);

it('goes on where it was stopped, and has what an evaluation of the run gives', async () => {
  const engine = await testEngine();
  try {
    const whole = await runAblation(engine, { ...options, folder: join(folder, 'whole') });
    const at = join(folder, 'parts');
    const doings: string[] = [];
    for (const stop of ['training method 1', 'evaluating cut 12']) {
      const controller = new AbortController();
      const stopped = runAblation(engine, {
        ...{ ...options, folder: at, signal: controller.signal },
        onProgress({ doing, variant, at: n }) {
          doings.push(`${doing} ${variant} ${n}`);
          if (doings.at(-1) === stop) controller.abort();
        },
      });
      const runs = stop.includes('cut') ? 1 : 0;
      await expect(stopped).rejects.toThrow(`the ablation was interrupted: ${runs} of 2 runs are done`);
    }
    const unlock = await lockFolder(at);
    await expect(runAblation(engine, { ...options, folder: at })).rejects.toThrow(
      `process ${process.pid} is writing into ${at}`,
    );
    await unlock();
    const told: string[] = [];
    const parts = await runAblation(engine, {
      ...{ ...options, folder: at },
      onProgress: ({ doing, variant }) => told.push(`${doing} ${variant}`),
    });
    expect(new Set(told)).toEqual(new Set(['evaluating cut']));
    expect(doings.filter((doing) => doing === 'training method 1')).toHaveLength(2);
    expect(cells(parts)).toEqual(cells(whole));
    expect(parts.means).toEqual(whole.means);
    for (const variant of ['method', 'cut']) {
      const file = join(variant, 'seed-3', 'checkpoints', 'step-2', 'ema.safetensors');
      expect(readFileSync(join(at, file)).equals(readFileSync(join(folder, 'whole', file))), variant).toBe(true);
    }
    expect(JSON.parse(readFileSync(join(at, 'ablation.json'), 'utf8'))).toEqual(parts);

    const { config, source, close } = await openModelSource(
      join(at, 'method', 'seed-3', 'checkpoints', 'step-2', 'ema.safetensors'),
    );
    const { method: __, trainedOn: ___, steps, guidance, ...shared } = settings;
    const evaluated = await evaluateModel(engine, {
      ...{ config, source, features, real: options.real },
      grid: { steps: [steps], blocks: [2, 4], guidance: [guidance], solver: 'euler' },
      provenance: { ...shared, ...options.recorded, model: await weightsDigest(source) },
    });
    await close();
    expect(parts.runs[0]!.cells.map(({ blocks, fd }) => ({ blocks, fd }))).toEqual(
      evaluated.cells.map(({ blocks, fd }) => ({ blocks, fd })),
    );
    expect(parts.floor).toEqual(evaluated.floor);

    const other = { ...settings, steps: 4 };
    await expect(runAblation(engine, { ...options, settings: other, folder: at })).rejects.toThrow(
      `${join(at, 'ablation.json')} has an ablation of other settings: steps: 2, now 4`,
    );
  } finally {
    engine.dispose();
  }
});
