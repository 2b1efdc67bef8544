/** Several processes that train together do what one does with the whole batch, whatever the objective; replays allocate nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { alone, type Communicator } from '../../cluster/communicator.ts';
import type { Engine } from '../../engine/engine.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import type { Weights } from '../../model/weights/weights.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { dealDraws, dealRows } from '../../training/deal.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import { createState, type TrainSets, TrainStep } from '../../training/step.ts';
import { createTrainer, type TrainEvent } from '../../training/trainer.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { testEngine } from '../support/engine.ts';
import { setBits, tinyData, tinyModel } from '../support/tiny.ts';
import { ranksTogether } from '../support/together.ts';

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

/** Parameters that are not zero anywhere, so that every gradient counts. */
const start = (model: ModelConfig) => formulaParams(model, 5);

async function trained(model: ModelConfig, train: TrainConfig, size: number) {
  const { teacher } = factsOf(train.objective);
  const one = async (communicator: Communicator) => {
    // Only the first has the weights to start from.
    const params = communicator.rank === 0 ? start(model) : initParams(model, 1);
    const options = { model, train, data: tinyData(), params, communicator };
    const trainer = await createTrainer(engine, { ...options, ...(teacher ? { teacher: start(model) } : {}) });
    const events: TrainEvent[] = [];
    for await (const event of trainer.run()) events.push({ ...event, seconds: 0 });
    const sets = await trainer.snapshot();
    trainer.dispose();
    return { events, sets };
  };
  return Promise.all((size === 1 ? [alone] : ranksTogether(size)).map(one));
}

/** Distance over length, of all parameters together. */
function apart(a: TrainSets, b: TrainSets, part: 'params' | 'ema' | 'm'): number {
  let [difference, length] = [0, 0];
  a[part].groups.forEach((values, g) => {
    values.forEach((x, i) => {
      difference += (x - b[part].groups[g]![i]!) ** 2;
      length += x ** 2;
    });
  });
  return Math.sqrt(difference / length);
}

async function same(model: ModelConfig, train: TrainConfig, sizes: readonly number[]): Promise<void> {
  const [one] = await trained(model, train, 1);
  for (const size of sizes) {
    const ranks = await trained(model, train, size);
    for (const { events, sets } of ranks) {
      expect(events).toEqual(ranks[0]!.events);
      expect(setBits({ ...sets })).toEqual(setBits({ ...ranks[0]!.sets }));
    }
    const { events, sets } = ranks[0]!;
    events.forEach((event, i) => {
      const alone = one!.events[i]!;
      expect(Math.abs(event.losses.loss / alone.losses.loss - 1)).toBeLessThan(1e-6);
      expect(Math.abs(event.gradNorm / alone.gradNorm - 1)).toBeLessThan(1e-5);
      expect(event.skipped).toBe(alone.skipped);
      expect(Object.keys(event.losses.byBlocks)).toEqual(Object.keys(alone.losses.byBlocks));
    });
    expect(apart(one!.sets, sets, 'params')).toBeLessThan(1e-6);
    expect(apart(one!.sets, sets, 'm')).toBeLessThan(1e-5);
  }
}

const base = { batch: 12, steps: 3, lr: 1e-3, warmup: 1, timeEvery: 3, lengthEvery: 3, finest: 8, classDropout: 0.5 };

describe('processes that train together', () => {
  for (const objective of Object.keys(OBJECTIVES) as ObjectiveName[]) {
    it(`do what one does: ${objective}`, async () => {
      const model = parseModelConfig({ ...tinyModel, ignoreDt: !factsOf(objective).stepLevel });
      await same(model, parseTrainConfig({ ...base, objective }), objective === 'shortcut' ? [2, 5] : [3]);
    });
  }

  it('with distilled guidance, whose pairs stay together', async () => {
    const guidance = { weight: 2, distill: true };
    await same(tinyModel, parseTrainConfig({ ...base, guidance }), [2, 3]);
  });

  it('with dropout, several batches an update and mirrored pictures', async () => {
    const model = parseModelConfig({ ...tinyModel, dropout: 0.3 });
    await same(model, parseTrainConfig({ ...base, steps: 2, accumulate: 2, flip: true, recompute: 'blocks' }), [4]);
  });
});

it('sums gradients in buckets as they become complete: same bits for any bucket, nothing made anew, and weights bit for bit on all', async () => {
  const train = parseTrainConfig({ ...base, lengthEvery: 4 });
  const run = async (bucketBytes: number) => {
    const ranks = ranksTogether(2).map(async (communicator) => {
      const deal = dealRows(train, tinyModel, communicator);
      const state = createState(engine, { params: start(tinyModel) });
      const step = await TrainStep.create(engine, tinyModel, train, state, { deal, communicator, bucketBytes });
      const images = Float32Array.from({ length: deal.train.batch * 64 }, (_, i) => Math.sin(i + communicator.rank));
      const update = async (index: number) => {
        const draws = dealDraws(drawStep(tinyModel, train, index), deal);
        const labels = new Array(deal.train.batch).fill(1);
        const batch = assembleBatch(tinyModel, deal.train, labels, draws, deal.shares);
        return step.run({ images, batch, index, lr: 1e-2 });
      };
      return { state, step, update };
    });
    const made = await Promise.all(ranks);
    const both = (index: number) => Promise.all(made.map(({ update }) => update(index)));
    await both(0);
    const before = { groups: engine.counters.bindGroups, bytes: engine.memory.report().live };
    await both(1);
    await both(2);
    expect({ groups: engine.counters.bindGroups, bytes: engine.memory.report().live }).toEqual(before);
    const sets = await Promise.all(made.map(({ state }) => state.params.read()));
    for (const { step, state } of made) {
      const buckets = step.exchange!.buckets;
      expect(buckets).toBe(bucketBytes === 1 ? state.params.parts.length : 1);
      step.dispose();
      for (const weights of Object.values(state) as Weights[]) weights.release();
    }
    expect(setBits({ params: sets[0]! })).toEqual(setBits({ params: sets[1]! }));
    return setBits({ params: sets[0]! });
  };
  expect(await run(1)).toEqual(await run(1e9));
});
