/** Who keeps which part of the optimizer's state, what it takes, and who needs the average whole. */
import { describe, expect, it } from 'vitest';
import { parseModelConfig, preset } from '../../model/config.ts';
import { initParams, paramLayout } from '../../model/params.ts';
import { Weights } from '../../model/weights/weights.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import { divide, shareOf, sharesOf, stateBytes, wholeOf } from '../../training/share.ts';
import { averageTeaches, createState } from '../../training/state.ts';
import { TrainStep } from '../../training/step.ts';
import { dryGpu } from '../support/dry.ts';
import { setBits, tinyModel } from '../support/tiny.ts';
import { ranksTogether } from '../support/together.ts';

it.each([
  [64, 4],
  [640, 3],
  [4096, 4],
  [65 * 64, 7],
])('%i floats are shared by %i processes without gaps, in whole lines, as evenly as lines allow', (length, size) => {
  const shares = sharesOf(length, size);
  expect(shares.map(({ first }) => first)).toEqual([0, ...shares.slice(0, -1).map(({ end }) => end)]);
  expect(shares.at(-1)!.end).toBe(length);
  for (const { first, end } of shares) {
    expect(first % 64).toBe(0);
    expect(Math.abs(end - first - length / size)).toBeLessThan(64);
  }
});

describe('a divided state', () => {
  /** Groups of this model are larger than a binding of so many bytes. */
  const LARGEST = 32 * 2 ** 10;
  const params = initParams(parseModelConfig({ ...tinyModel, width: 32 }), 3);

  it('has the buffers that weights have, also where a group is larger than a binding', () => {
    const engine = dryGpu(LARGEST);
    const { parts } = new Weights(engine, params.layout, 'weights');
    const { buffers } = divide(params.layout, LARGEST, { rank: 0, size: 2 }, false);
    expect(parts.length).toBeGreaterThan(params.layout.groups.length);
    expect(buffers.map(({ length }) => length)).toEqual(parts.map(({ shape }) => shape[0]));
    const last = new Map(buffers.map(({ group, start, length }) => [group, start + length]));
    params.layout.groups.forEach(({ length }, g) => void expect(last.get(g)).toBe(length));
  });

  it('is whole again when all shares are gathered, on the first process only', async () => {
    const ranks = ranksTogether(3).map(async (communicator) => {
      const division = divide(params.layout, LARGEST, communicator, true);
      const own = shareOf(params, division);
      const copies = { layout: own.layout, groups: own.groups.map((values) => values.slice()) };
      return wholeOf(copies, params.layout, division, communicator);
    });
    const [whole, ...others] = await Promise.all(ranks);
    expect(setBits({ whole: whole! })).toEqual(setBits({ whole: params }));
    expect(others).toEqual([null, null]);
  });

  it.each([
    ['tiny', 3, true],
    ['dit-s/2', 4, false],
  ] as const)('takes what is planned of %s by %i processes, and no more', (name, size, average) => {
    const config = preset(name);
    const sets = { params: initParams(config, 1) };
    const planned = Array.from({ length: size }, (_, rank) => {
      const engine = dryGpu();
      const division = divide(sets.params.layout, engine.largestBinding, { rank, size }, average);
      createState(engine, sets, division);
      const { own, whole } = stateBytes(division);
      // An empty buffer takes four bytes.
      const empty = division.buffers.filter(({ shares }) => shares[rank]!.first === shares[rank]!.end).length;
      expect(engine.memory.report().byKind.optimizer).toBe(own + 4 * empty * (average ? 3 : 2));
      return { own, whole };
    });
    const [{ whole }] = planned as [(typeof planned)[0]];
    const undivided = dryGpu();
    createState(undivided, sets);
    expect(undivided.memory.report().byKind.optimizer).toBe(whole);
    const even = average ? whole / size : whole / 3 + (2 * whole) / 3 / size;
    for (const { own } of planned) expect(Math.abs(own / even - 1)).toBeLessThan(0.02);
  });
});

describe('the average is whole where a target comes from it, and nowhere else', () => {
  for (const objective of Object.keys(OBJECTIVES) as ObjectiveName[]) {
    it(objective, async () => {
      const { teacher, stepLevel } = factsOf(objective);
      const model = parseModelConfig({ ...tinyModel, ignoreDt: !stepLevel });
      for (const targetsFromEma of [true, false]) {
        for (const every of [0, 4]) {
          const given = { objective, batch: 8, targetsFromEma, lengthEvery: every, timeEvery: 4 - every };
          const train = parseTrainConfig(given);
          const engine = dryGpu();
          const set = () => new Weights(engine, paramLayout(model), 'set');
          const state = { params: set(), ema: set(), m: set(), v: set(), ...(teacher ? { teacher: set() } : {}) };
          const { program } = await TrainStep.create(engine, model, train, state);
          const average = new Set(state.ema.parts.map(({ storage }) => storage.place!.buffer));
          const teaches = program.nodes.some(({ dispatch, bindings }) => {
            if (dispatch.kernel.name === 'adamw') return false;
            return bindings.some(({ tensor }) => tensor.storage.place && average.has(tensor.storage.place.buffer));
          });
          const becomes = teacher === 'replaced' && targetsFromEma;
          expect(averageTeaches(train, model), JSON.stringify(given)).toBe(teaches || becomes);
        }
      }
    });
  }
});
