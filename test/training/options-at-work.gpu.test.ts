/** Options of training at work: clipping and the warming average against float64, few pictures, and runs that end and go on. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError } from '../../engine/errors.ts';
import { type ParamSet, paramLayout } from '../../model/params.ts';
import { checkpointSteps, loadCheckpoint } from '../../training/checkpoint.node.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import type { Dataset } from '../../training/data/dataset.ts';
import { readMetrics } from '../../training/metrics.node.ts';
import { type RunOptions, runTraining } from '../../training/run.node.ts';
import { readRunConfig } from '../../training/run-config.node.ts';
import { createTrainer } from '../../training/trainer.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel, tinyStep, tinyTrain } from '../support/tiny.ts';
import { ranksTogether } from '../support/together.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
const scratch: string[] = [];
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(async () => {
  engine.dispose();
  for (const path of scratch) await rm(path, { recursive: true, force: true });
});
async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'odelt-options-'));
  scratch.push(path);
  return path;
}

const UPDATES = 3;
const norm = (set: ParamSet) => Math.sqrt(set.groups.reduce((sum, g) => sum + g.reduce((s, x) => s + x * x, 0), 0));

/** One update in float64: AdamW of the gradient that clipping leaves, and the moving average. */
function updated(
  before: Record<'params' | 'ema' | 'm' | 'v', ParamSet>,
  gradient: ParamSet,
  c: TrainConfig,
  n: number,
) {
  const scale = c.clip > 0 ? Math.min(1, c.clip / norm(gradient)) : 1;
  const decay = c.emaWarmup ? Math.min(c.emaDecay, (1 + n) / (10 + n)) : c.emaDecay;
  const each = (f: (g: number, i: number) => number) =>
    gradient.groups.map((group, g) => Float64Array.from(group, (_, i) => f(g, i)));
  const of = (part: 'params' | 'ema' | 'm' | 'v', g: number, i: number) => before[part].groups[g]![i]!;
  const grad = (g: number, i: number) => scale * gradient.groups[g]![i]!;
  const m = each((g, i) => c.beta1 * of('m', g, i) + (1 - c.beta1) * grad(g, i));
  const v = each((g, i) => c.beta2 * of('v', g, i) + (1 - c.beta2) * grad(g, i) ** 2);
  const params = each((g, i) => {
    const step = m[g]![i]! / (1 - c.beta1 ** n) / (Math.sqrt(v[g]![i]! / (1 - c.beta2 ** n)) + 1e-8);
    return of('params', g, i) - c.lr * (step + c.weightDecay * of('params', g, i));
  });
  return { m, v, params, ema: each((g, i) => decay * of('ema', g, i) + (1 - decay) * params[g]![i]!) };
}

describe('an update', () => {
  it.each<[string, Partial<TrainConfig>]>([
    ['clips a gradient that is too long', { clip: 0.05 }],
    ['leaves one alone that is not', { clip: 1e6 }],
    ['has other betas and a warming average', { clip: 0.05, beta1: 0.8, beta2: 0.95, emaWarmup: true }],
  ])('%s, as float64 does', async (_, options) => {
    const train = parseTrainConfig({ ...tinyTrain, ...options });
    const { step, run, read } = await tinyStep(engine, {}, tinyModel, train);
    for (let index = 0; index < UPDATES; index++) {
      const before = await read();
      const [{ gradNorm } = { gradNorm: 0 }] = await run(index, index + 1);
      const gradient = await step.gradients.read();
      // Reported is the norm before clipping.
      expect(gradNorm / norm(gradient)).toBeCloseTo(1, 5);
      expect(gradNorm > 0.05).toBe(true);
      const after = await read();
      const wanted = updated(before, gradient, train, index + 1);
      for (const part of ['params', 'ema', 'm', 'v'] as const) {
        for (const [g, values] of wanted[part].entries()) {
          const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
          const worst = values.reduce((most, x, i) => Math.max(most, Math.abs(x - after[part].groups[g]![i]!)), 0);
          expect(worst, `${part} ${g} after ${index + 1}`).toBeLessThanOrEqual(2e-6 * Math.max(largest, 1e-12) + 1e-38);
        }
      }
    }
    step.dispose();
  });

  it('without these options has the bits it has where clipping never takes hold', async () => {
    const sets = [];
    for (const clip of [0, 1e6]) {
      const { step, run, read } = await tinyStep(engine, {}, tinyModel, parseTrainConfig({ ...tinyTrain, clip }));
      await run(0, UPDATES);
      sets.push(setBits(await read()));
      step.dispose();
    }
    expect(sets[1]).toEqual(sets[0]);
  });
});

it('few pictures: no others are looked at, each as often, and more than there are is refused', async () => {
  const seen = new Map<number, number>();
  const all = tinyData(12);
  const data: Dataset = {
    ...all,
    label: (i) => all.label(i),
    image: (i) => {
      seen.set(i, (seen.get(i) ?? 0) + 1);
      return all.image(i);
    },
  };
  const train = parseTrainConfig({ ...tinyTrain, overfit: 4, steps: 2, flip: true });
  const trainer = await createTrainer(engine, { model: tinyModel, train, data });
  for await (const { step } of trainer.run()) expect(step).toBeLessThanOrEqual(2);
  trainer.dispose();
  // Two batches of eight rows, of which two learn consistency on the pictures of others.
  expect([...seen.values()]).toEqual([3, 3, 3, 3]);
  const refused = createTrainer(engine, { model: tinyModel, train: { ...train, overfit: 13 }, data });
  await expect(refused).rejects.toThrow(new ConfigError("training.overfit is 13; 'tiny' has 12 pictures"));
});

describe('a run', () => {
  const every = { clip: 0.1, emaWarmup: true, overfit: 5, beta1: 0.8, accumulate: 2, steps: 5, flip: true } as const;
  const train = parseTrainConfig({ ...tinyTrain, ...every });
  const start = (folder: string, options: Partial<RunOptions> = {}) =>
    runTraining(engine, {
      folder,
      config: { model: tinyModel, train, data: 'tiny' },
      data: tinyData(),
      resume: false,
      saveEvery: 1,
      environment: {},
      ...options,
    });
  const sets = async (folder: string) => {
    const { sets, state } = await loadCheckpoint(join(folder, 'checkpoints'), paramLayout(tinyModel));
    return { step: state.step, bits: setBits({ ...sets }) };
  };
  const lines = async (folder: string) =>
    (await readMetrics(join(folder, 'metrics.jsonl')))!.events.map(({ seconds, ...event }) => event);

  it('ends in order when its time is over, keeps as many checkpoints as asked, and goes on bit for bit', async () => {
    const [whole, parts] = [await temporary(), await temporary()];
    await start(whole, { keep: 1, keepEvery: 2 });
    expect(await checkpointSteps(join(whole, 'checkpoints'))).toEqual([2, 4, 5]);
    const notices: string[] = [];
    const onNotice = (text: string) => notices.push(text);
    // Over before it began: one update is made nevertheless.
    const at = await start(parts, { maxTime: 1e-6, onNotice, saveEvery: 100 });
    expect(at).toBe(join(parts, 'checkpoints', 'step-1'));
    // The same of an hour that began an hour ago.
    const began = performance.now() - 3_600_000;
    const late = await temporary();
    expect(await start(late, { maxTime: 3600, began })).toBe(join(late, 'checkpoints', 'step-1'));
    expect(notices).toEqual(['the time is over after 1 of 5 updates: --resume goes on']);
    const controller = new AbortController();
    const onStep = ({ step }: { step: number }) => step === 3 && controller.abort();
    const resumed = { resume: true, config: await readRunConfig(parts), keep: 1 };
    await expect(start(parts, { ...resumed, onStep, signal: controller.signal })).rejects.toThrow(InterruptedError);
    expect(await checkpointSteps(join(parts, 'checkpoints'))).toEqual([3]);
    await start(parts, resumed);
    expect(await sets(parts)).toEqual(await sets(whole));
    expect(await lines(parts)).toEqual(await lines(whole));
    for (const { kept, gradNorm } of await lines(whole)) expect(kept).toBe(Math.min(1, train.clip / gradNorm));
    const other = { ...resumed, config: { ...resumed.config, train: { ...train, beta1: 0.7 } } };
    await expect(start(parts, other)).rejects.toThrow(
      'the run has training.beta1 0.8; it cannot go on with training.beta1 0.7',
    );
  });

  it('refuses no checkpoints and no time', async () => {
    const folder = await temporary();
    await expect(start(folder, { keep: 0 })).rejects.toThrow('keep is 0; it must be a positive integer');
    await expect(start(folder, { saveEvery: 2, keepEvery: 5 })).rejects.toThrow(
      'out.keepEvery is 5; checkpoints are written every 2 updates',
    );
    await expect(start(folder, { maxTime: Number.NaN })).rejects.toThrow('maxTime is NaN; it must be a positive');
  });

  it('refuses a time that not all processes have, as only some of them would end', async () => {
    const folder = await temporary();
    const ranks = ranksTogether(2).map((communicator) =>
      start(folder, { communicator, maxTime: communicator.rank === 0 ? 60 : undefined }).catch((e: Error) => e),
    );
    for (const error of await Promise.all(ranks)) {
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as Error).message).toBe(
        'the processes of this run do not agree: out.maxTime is none on rank 1, 60 on rank 0',
      );
    }
  });
});
