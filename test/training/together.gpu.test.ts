/** Several processes that train together do what one does with the whole batch, whatever the objective; replays allocate nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { alone, type Communicator } from '../../cluster/communicator.ts';
import type { Engine } from '../../engine/engine.ts';
import { InterruptedError } from '../../engine/errors.ts';
import { type ModelConfig, parseModelConfig } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import type { Weights } from '../../model/weights/weights.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import type { Dataset } from '../../training/data/dataset.ts';
import { dealDraws, dealRows } from '../../training/deal.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import { divide } from '../../training/share.ts';
import { createState, type TrainSets } from '../../training/state.ts';
import { TrainStep } from '../../training/step.ts';
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
  const divided = train.shardState && size > 1;
  const one = async (communicator: Communicator) => {
    // Only the first has the weights to start from.
    const params = communicator.rank === 0 ? start(model) : initParams(model, 1);
    const options = { model, train, data: tinyData(), params, communicator };
    const trainer = await createTrainer(engine, { ...options, ...(teacher ? { teacher: start(model) } : {}) });
    const events: TrainEvent[] = [];
    for await (const event of trainer.run()) events.push({ ...event, seconds: 0 });
    // Of a state that is divided, the first alone has all.
    const sets = divided && communicator.rank > 0 ? await trainer.contribute() : await trainer.snapshot();
    const { plan } = trainer;
    trainer.dispose();
    return { events, sets: sets as TrainSets, plan };
  };
  return Promise.all((size === 1 ? [alone] : ranksTogether(size)).map(one));
}

/** Distance over length, of all parameters together. */
function distance(a: TrainSets, b: TrainSets, part: 'params' | 'ema' | 'm'): number {
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
    expect(distance(one!.sets, sets, 'params')).toBeLessThan(1e-6);
    expect(distance(one!.sets, sets, 'm')).toBeLessThan(1e-5);
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

describe('processes that divide the state', () => {
  /** Every option of the optimizer. */
  const optimizer = { steps: 12, clip: 0.05, emaWarmup: true, weightDecay: 0.2, beta1: 0.8, beta2: 0.99 };
  it.each([
    ['a target that needs the average', 3, {}, false],
    [
      'several batches an update and the average divided',
      2,
      { steps: 6, objective: 'naive', lengthEvery: 0, accumulate: 2 },
      true,
    ],
    ['a teacher that becomes the average', 2, { steps: 6, objective: 'progressive' }, false],
  ] as const)('do what they do without, bit for bit: %s', async (_, size, options, average) => {
    const train = parseTrainConfig({ ...base, ...optimizer, ...options });
    const model = parseModelConfig({ ...tinyModel, ignoreDt: !factsOf(train.objective).stepLevel });
    const [whole] = await trained(model, train, size);
    const ranks = await trained(model, { ...train, shardState: true }, size);
    expect(setBits({ ...ranks[0]!.sets })).toEqual(setBits({ ...whole!.sets }));
    for (const { events, plan } of ranks) {
      expect(events).toEqual(whole!.events);
      expect(plan.divided?.average).toBe(average);
    }
    expect(whole!.events.some(({ kept }) => kept! < 1)).toBe(true);
    // By one, the option changes nothing.
    expect(ranks.map(({ sets }) => sets === undefined)).toEqual(ranks.map((_, rank) => rank > 0));
  });

  it('goes on by another number of processes, or without dividing; who lacks a part of it is told so', async () => {
    const train = parseTrainConfig({ ...base, objective: 'naive', lengthEvery: 0, steps: 4 });
    const model = parseModelConfig({ ...tinyModel, ignoreDt: true });
    interface Half {
      readonly size: number;
      readonly shardState: boolean;
      readonly wholeAverage?: boolean;
      /** The state after two updates. */
      readonly sets?: TrainSets;
    }
    const half = async (communicator: Communicator, { shardState, wholeAverage, sets }: Half) => {
      const trainer = await createTrainer(engine, {
        ...{ model, train: { ...train, shardState }, data: tinyData(), communicator, wholeAverage },
        ...(sets ? { from: { sets, step: 2 } } : { params: start(model) }),
        inspect: communicator.rank === 0,
      });
      let left = 2;
      for await (const _ of trainer.run()) if (--left === 0) break;
      const { divided } = trainer.plan;
      const read = communicator.rank > 0 ? await trainer.contribute() : await trainer.snapshot();
      if (divided?.average) {
        await expect(trainer.average()).rejects.toThrow('the processes divide the average');
      } else if (read) expect(setBits({ ema: await trainer.average() })).toEqual(setBits({ ema: read.ema }));
      if (read) {
        // What an update took is worked out from the moments.
        const { norms } = await trainer.inspect();
        expect(Object.keys(norms.head!)).toEqual(['gradient', 'parameters', ...(divided ? [] : ['update'])]);
      }
      trainer.dispose();
      return read as TrainSets;
    };
    const all = async (options: Half) => {
      const { size } = options;
      const [first] = await Promise.all((size === 1 ? [alone] : ranksTogether(size)).map((one) => half(one, options)));
      return first!;
    };
    const sets = await all({ size: 2, shardState: true });
    const apart = await all({ size: 2, shardState: true, wholeAverage: true, sets });
    const whole = await all({ size: 2, shardState: false, sets });
    const one = await all({ size: 1, shardState: true, sets });
    expect(setBits({ ...apart })).toEqual(setBits({ ...whole }));
    for (const part of ['params', 'ema', 'm'] as const) expect(distance(one, apart, part)).toBeLessThan(1e-6);
  });
});

describe('held-out pictures of processes that train together', () => {
  /** What each process has found after each update; `last`, of the last process, in place of its held-out pictures. */
  const validated = async (
    size: number,
    train: TrainConfig,
    {
      model = tinyModel,
      last,
    }: { readonly model?: ModelConfig; readonly last?: { data: Dataset; signal: AbortSignal } } = {},
  ) => {
    const one = async (communicator: Communicator) => {
      const special = communicator.rank === size - 1 ? last : undefined;
      const options = { model, train, data: tinyData(), params: start(model), communicator, signal: special?.signal };
      const validation = { data: special?.data ?? tinyData(50), every: 1, pictures: 3 * train.batch };
      const trainer = await createTrainer(engine, { ...options, validation });
      const found: TrainEvent['validation'][] = [];
      try {
        for await (const event of trainer.run()) found.push(event.validation);
        return { found, error: null };
      } catch (error) {
        return { found, error };
      } finally {
        trainer.dispose();
      }
    };
    return Promise.all((size === 1 ? [alone] : ranksTogether(size)).map(one));
  };

  it.each([
    ['all of a batch but what is drawn', {}, {}],
    ['with dropout and mirrored pictures', { flip: true }, { dropout: 0.3 }],
    [
      'with a state whose average would be divided',
      { objective: 'naive', lengthEvery: 0, shardState: true },
      { ignoreDt: true },
    ],
  ] as const)('are compared as by one, to the bit for the same weights: %s', async (_, options, change) => {
    const train = parseTrainConfig({ ...base, ...options });
    const model = parseModelConfig({ ...tinyModel, ...change });
    const [one] = await validated(1, train, { model });
    expect(one!.found[0]!.pictures).toBe(36);
    for (const size of [2, 5]) {
      const ranks = await validated(size, train, { model });
      for (const { found, error } of ranks) {
        expect(error).toBeNull();
        expect(found).toEqual(ranks[0]!.found);
        // The rate of the first update is 0: all still have the weights they began with.
        expect(found[0]).toEqual(one!.found[0]);
        for (const [i, later] of found.entries()) {
          for (const which of ['raw', 'average'] as const) {
            const [theirs, alone] = [later![which].loss, one!.found[i]![which].loss];
            expect(Math.abs(theirs / alone - 1)).toBeLessThan(1e-6);
          }
        }
        expect(found[2]!.raw.loss).not.toBe(found[0]!.raw.loss);
      }
    }
  });

  it('are left by all where one is interrupted meanwhile', async () => {
    const controller = new AbortController();
    const data = tinyData(50);
    const interrupting = {
      ...data,
      image(i: number) {
        controller.abort();
        return data.image(i);
      },
    };
    const last = { data: interrupting, signal: controller.signal };
    for (const { found, error } of await validated(3, parseTrainConfig(base), { last })) {
      expect(error).toBeInstanceOf(InterruptedError);
      expect(found).toEqual([undefined, undefined]);
    }
  });
});

it('sums gradients in buckets as they become complete: same bits for any bucket, nothing made anew, and weights bit for bit on all', async () => {
  const train = parseTrainConfig({ ...base, lengthEvery: 4 });
  const run = async (bucketBytes: number, divided = false) => {
    const ranks = ranksTogether(2).map(async (communicator) => {
      const deal = dealRows(train, tinyModel, communicator);
      const params = start(tinyModel);
      const division = divided ? divide(params.layout, engine.largestBinding, communicator, false) : null;
      const state = createState(engine, { params }, division);
      const options = { deal, division, communicator, bucketBytes };
      const step = await TrainStep.create(engine, tinyModel, train, state, options);
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
  const small = await run(1);
  expect(await run(1e9)).toEqual(small);
  expect(await run(1, true)).toEqual(small);
});
