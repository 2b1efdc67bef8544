/** Training with every objective: finite losses, falling ones for flow matching, and resumption with a teacher. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { initParams } from '../../model/params.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import type { TrainSets } from '../../training/state.ts';
import { createTrainer } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

vi.setConfig({ testTimeout: 900_000 });

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

async function train(
  objective: ObjectiveName,
  change: Partial<TrainConfig> = {},
  until = Number.POSITIVE_INFINITY,
  from?: { sets: TrainSets; step: number },
): Promise<{ losses: number[]; sets: TrainSets }> {
  const model = { ...tinyModel, ignoreDt: !factsOf(objective).stepLevel };
  const options = parseTrainConfig({ ...tinyTrain, objective, ...change });
  const teacher = factsOf(objective).teacher && !from ? formulaParams(model, 9) : undefined;
  const trainer = await createTrainer(engine, { model, train: options, data: tinyData(), teacher, from });
  const losses: number[] = [];
  for await (const { losses: found, step } of trainer.run()) {
    losses.push(found.loss);
    if (step >= until) break;
  }
  const sets = await trainer.snapshot();
  trainer.dispose();
  return { losses, sets };
}

it.each(Object.keys(OBJECTIVES) as ObjectiveName[])('%s trains', async (objective) => {
  const { losses } = await train(objective);
  expect(losses).toHaveLength(8);
  expect(losses.every((loss) => Number.isFinite(loss) && loss > 0)).toBe(true);
});

it.each(['naive', 'fm'] as const)('%s learns', async (objective) => {
  const { losses } = await train(objective, { steps: 60, lengthEvery: 0 });
  const mean = (some: number[]) => some.reduce((a, b) => a + b, 0) / some.length;
  expect(mean(losses.slice(-10))).toBeLessThan(0.8 * mean(losses.slice(0, 10)));
});

it.each(['progressive', 'consistency-distillation'] as const)(
  '%s goes on bit for bit, its teacher with it',
  async (o) => {
    const whole = await train(o);
    const half = await train(o, {}, 4);
    const rest = await train(o, {}, Number.POSITIVE_INFINITY, { sets: half.sets, step: 4 });
    expect(setBits({ ...rest.sets })).toEqual(setBits({ ...whole.sets }));
    expect(rest.losses).toEqual(whole.losses.slice(4));
    const given = setBits({ teacher: formulaParams({ ...tinyModel, ignoreDt: true }, 9) });
    const kept = setBits({ teacher: whole.sets.teacher! });
    if (o === 'progressive') expect(kept).not.toEqual(given);
    else expect(kept).toEqual(given);
  },
);

it('a teacher that is missing, not wanted, of another model or not finite is refused', async () => {
  const model = { ...tinyModel, ignoreDt: true };
  const make = (objective: ObjectiveName, teacher?: ReturnType<typeof initParams>, of = model) =>
    createTrainer(engine, { model: of, train: { ...tinyTrain, objective }, data: tinyData(), teacher });
  await expect(make('progressive')).rejects.toThrow(
    'training.objective progressive needs a teacher, and none was given',
  );
  await expect(make('naive', initParams(model, 1))).rejects.toThrow('training.objective naive has no use for one');
  await expect(make('progressive', initParams({ ...model, width: 32 }, 1))).rejects.toThrow(
    /has shape .*the model needs/,
  );
  const broken = initParams(model, 1);
  broken.groups[0]![3] = Number.NaN;
  await expect(make('consistency-distillation', broken)).rejects.toThrow('holds NaN at element 3');
  await expect(make('naive', undefined, tinyModel)).rejects.toThrow(
    'teaches no step level, and model.ignoreDt is false',
  );
  expect(() => parseTrainConfig({ objective: 'nothing' as ObjectiveName })).toThrow(
    "training.objective is \"nothing\"; it must be 'shortcut', 'naive', ",
  );
});
