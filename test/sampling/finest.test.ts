/** The finest grid that a model was trained for: what it is told and takes at sampling is what training asked of it. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { lossPoints } from '../../evaluation/loss-map.ts';
import { preset } from '../../model/config.ts';
import { checkRequest } from '../../sampling/request.ts';
import { scheduleOf } from '../../sampling/schedule.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { modelAsTrained } from '../../training/model-as-trained.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';

const names = Object.keys(OBJECTIVES) as ObjectiveName[];

/** Levels that the network is told in some batches, its targets' among them. */
function levelsTold(model: ReturnType<typeof preset>, train: TrainConfig): number[] {
  const told = new Set<number>();
  for (let step = 0; step < 30; step++) {
    const { main, own } = assembleBatch(model, train, new Uint32Array(train.batch), drawStep(model, train, step));
    for (const level of [...main.step, ...(own.step ?? [])]) told.add(level);
  }
  return [...told].sort((a, b) => a - b);
}

describe.each([4, 32, 256])('trained on a grid of %d steps', (finest) => {
  it.each(names.filter((name) => factsOf(name).stepLevel))(
    '%s: the finest level is told, and no other above',
    (name) => {
      const train = parseTrainConfig({ objective: name, batch: 64, steps: 100, finest });
      const model = modelAsTrained(preset('tiny'), train);
      expect(model.finest).toBe(finest);
      const level = levelsTold(model, train).at(-1)!;
      expect(level).toBe(Math.log2(finest));
      expect(scheduleOf({ labels: [0], solver: 'dopri5' }, model).level).toBe(level);
      expect(scheduleOf({ labels: [0], solver: 'tsit5' }, model).level).toBe(level);
      expect(scheduleOf({ labels: [0], steps: finest }, model).level).toBe(level);
      expect(Math.max(...lossPoints(4, model).map((point) => point.level))).toBe(level);
      expect(lossPoints(4, model).filter((point) => point.level === level)).toHaveLength(4);
      expect(() => checkRequest({ labels: [0], steps: finest }, model)).not.toThrow();
      expect(() => checkRequest({ labels: [0], steps: 2 * finest }, model)).toThrow(ConfigError);
    },
  );

  it('those that tell no level say nothing of it, and take any number of steps', () => {
    for (const objective of names.filter((name) => !factsOf(name).stepLevel)) {
      const train = parseTrainConfig({ objective, batch: 64, steps: 100, finest });
      const model = modelAsTrained(preset('tiny', { ignoreDt: true }), train);
      expect(model).toEqual(preset('tiny', { ignoreDt: true }));
      expect(levelsTold(model, train)).toEqual([0]);
      expect(scheduleOf({ labels: [0], solver: 'dopri5' }, model).level).toBe(0);
      expect(lossPoints(2, model).map(({ level }) => level)).toEqual([7, 7]);
      expect(() => checkRequest({ labels: [0], steps: 300 }, model)).not.toThrow();
    }
  });
});

it('128 is what a description leaves out', () => {
  expect(modelAsTrained(preset('tiny'), parseTrainConfig({}))).toEqual(preset('tiny'));
  expect(modelAsTrained(preset('tiny', { finest: 32 }), parseTrainConfig({}))).toEqual(preset('tiny'));
});

it.each([
  [128, 256, 'sizes 1, 1/2, ..., 1/128; 256 steps', 'use 1, 2, 4, 8, 16, 32, 64 or 128 steps'],
  [32, 64, 'sizes 1, 1/2, ..., 1/32; 64 steps', 'use 1, 2, 4, 8, 16 or 32 steps'],
  [4, 3, 'sizes 1, 1/2, 1/4; 3 steps', 'use 1, 2 or 4 steps'],
  [2, 4, 'sizes 1, 1/2; 4 steps', 'use 1 or 2 steps'],
])("of %d, %d steps are refused by the model's own", (finest, steps, message, hint) => {
  const model = preset('tiny', { finest });
  const ask = () => checkRequest({ labels: [0], steps }, model);
  expect(ask).toThrow(`this model was trained for step ${message} are none of them`);
  expect(ask).toThrow(expect.objectContaining({ hint }));
  // Consistency models are told no step size; recordings say what is told.
  expect(() => checkRequest({ labels: [0], steps, solver: 'consistency' }, model)).not.toThrow();
  expect(() => checkRequest({ labels: [0], steps, level: 0 }, model)).not.toThrow();
});
