/** Training of a model whose output is the picture: losses and targets are velocities, it learns, in less memory too, and noise is refused. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { parseModelConfig } from '../../model/config.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import type { TrainSets } from '../../training/state.ts';
import { createTrainer } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel, tinyStep, tinyTrain } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

const model = parseModelConfig({ ...tinyModel, predicts: 'data' });
const PIXELS = 64;

async function train(change: Partial<TrainConfig>): Promise<{ losses: number[]; sets: TrainSets }> {
  const options = parseTrainConfig({ ...tinyTrain, ...change });
  const { stepLevel, teacher } = factsOf(options.objective);
  const own = { ...model, ignoreDt: !stepLevel };
  const given = teacher ? formulaParams(own, 9) : undefined;
  const trainer = await createTrainer(engine, { model: own, train: options, data: tinyData(), teacher: given });
  const losses: number[] = [];
  for await (const { losses: found } of trainer.run()) losses.push(found.loss);
  const sets = await trainer.snapshot();
  trainer.dispose();
  return { losses, sets };
}

it.each(Object.keys(OBJECTIVES) as ObjectiveName[])('%s trains', async (objective) => {
  const { losses } = await train({ objective });
  expect(losses).toHaveLength(8);
  expect(losses.every((loss) => Number.isFinite(loss) && loss > 0)).toBe(true);
});

it.each(['naive', 'fm'] as const)('%s learns', async (objective) => {
  const { losses } = await train({ objective, steps: 60, lengthEvery: 0 });
  const mean = (some: number[]) => some.reduce((a, b) => a + b, 0) / some.length;
  expect(mean(losses.slice(-10))).toBeLessThan(0.5 * mean(losses.slice(0, 10)));
});

describe('one step', () => {
  it('compares velocities: its own, those of two half steps, and those at other lengths', async () => {
    const { step, run } = await tinyStep(engine, {}, model);
    const { loss } = (await run(0, 1))[0]!;
    const { xt, target, prediction } = step.tensors;
    const [points, goals, found] = (await step.program.read(xt!, target!, prediction!)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    step.dispose();
    const labels = Array.from({ length: tinyTrain.batch }, (_, i) => i % model.classes);
    const { main, own, length } = assembleBatch(model, tinyTrain, labels, drawStep(model, tinyTrain, 0));
    const square = found.reduce((sum, v, i) => sum + (v - goals[i]!) ** 2, 0) / found.length;
    expect(loss / square).toBeCloseTo(1, 5);

    const row = (values: ArrayLike<number>, r: number) => Array.from(values).slice(r * PIXELS, (r + 1) * PIXELS);
    const expectRows = (which: ArrayLike<number>, want: ArrayLike<number>) => {
      expect(which.length).toBeGreaterThan(0);
      Array.from(which).forEach((r, i) => {
        const [got, wanted] = [row(goals, r), row(want, i)];
        for (let p = 0; p < PIXELS; p++) expect(Math.abs(got[p]! - wanted[p]!), `row ${r}`).toBeLessThan(1e-4);
      });
    };
    const rowsOf = (which: ArrayLike<number>) => Float32Array.from(Array.from(which).flatMap((r) => row(points, r)));
    const network = new Network(engine, model);
    network.load(5, false);
    const { t, step: levels, labels: asked, lengths, targets } = length;
    expectRows(targets, await network.velocity({ x: rowsOf(targets), t, step: levels, labels: asked, lengths }));
    const pairs = own.targets0!;
    const at = { step: own.step!, labels: own.labels!, lengths: own.full! };
    const x = rowsOf(pairs);
    const first = await network.velocity({ ...at, x, t: own.t! });
    const next = x.map((value, i) => value + own.h![Math.floor(i / PIXELS)]! * first[i]!);
    const second = await network.velocity({ ...at, x: next, t: own.later! });
    expectRows(
      pairs,
      first.map((value, i) => (value + second[i]!) / 2),
    );
    const own32 = await network.velocity({ x: points, ...main });
    expect(Math.max(...own32.map((v, i) => Math.abs(v - found[i]!)))).toBeLessThan(1e-4);
    network.dispose();
  });
});

it('in less memory: recomputed blocks and accumulated batches give the same updates', async () => {
  const change = { objective: 'shortcut', accumulate: 2, steps: 3 } as const;
  const kept = await train(change);
  const again = await train({ ...change, recompute: 'blocks' });
  expect(again.losses).toEqual(kept.losses);
  expect(setBits({ ...again.sets })).toEqual(setBits({ ...kept.sets }));
  // The batches of an update are different ones: their mean is not the first of them.
  expect((await train({ ...change, accumulate: 1 })).losses[0]).not.toBe(kept.losses[0]);
});

it('a model that predicts noise is refused, whatever is asked for', async () => {
  const noise = { ...tinyModel, timeScale: 1000, predicts: 'noise' as const };
  for (const objective of ['shortcut', 'naive'] as const) {
    const made = createTrainer(engine, { model: noise, train: { ...tinyTrain, objective }, data: tinyData() });
    await expect(made).rejects.toMatchObject({
      code: 'config',
      message: 'model.predicts is "noise", as of a diffusion with discrete steps; training teaches velocities',
      hint: 'train a model that predicts velocities or data; it may start from the weights of this one (--init)',
    });
  }
});
