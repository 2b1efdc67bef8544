/** How rows are dealt to processes: together they train the rows of one process, each with the inputs that it has there. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { assembleBatch, type Batch, drawStep } from '../../training/batch.ts';
import { readBatches } from '../../training/batches.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { type Deal, dealDraws, dealRows } from '../../training/deal.ts';
import { OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';
import { tinyData, tinyModel } from '../support/tiny.ts';

const LABELS = Array.from({ length: 12 }, (_, i) => i % 3);

/** What each row of the reference's order is given, its picture by its number in the whole batch. */
function inputsOf(batch: Batch, deal: Deal): Map<number, unknown> {
  const { main, length, position } = batch;
  const target = new Map(Array.from(length.targets, (at, j) => [at, j]));
  return new Map(
    Array.from(deal.rows, (row, r) => {
      const at = position[r]!;
      const j = target.get(at);
      return [
        row,
        {
          picture: deal.pictures[main.source[at]!],
          ...{ t: main.t[at], level: main.levels[at], label: main.labels[at], blocks: main.lengths[at] },
          target: j === undefined ? null : [length.t[j], length.step[j], length.labels[j], length.lengths[j]],
        },
      ];
    }),
  );
}

/** The objective's own inputs that belong to a consistency target, by its number in the whole batch. */
function ownOf(batch: Batch, deal: Deal): Map<number, unknown> {
  const names = Object.keys(batch.own).filter((name) => !/^(source|targets\d?)$/.test(name));
  return new Map(
    Array.from(deal.pairs, (pair, p) => {
      // Where all rows have targets, inputs stand as the rows are run.
      const at = deal.shares.flowRows === 0 && !('source' in batch.own) ? batch.position[p]! : p;
      const values = names.map((name) => [name, batch.own[name]![at]]);
      const { source } = batch.own;
      return [pair, { values, picture: source ? deal.pictures[source[p]!] : null }];
    }),
  );
}

function dealt(train: TrainConfig, size: number) {
  const draws = drawStep(tinyModel, train, 5);
  return Array.from({ length: size }, (_, rank) => {
    const deal = dealRows(train, tinyModel, { rank, size });
    const labels = Array.from({ length: deal.train.batch }, (_, i) => LABELS[deal.pictures[i] ?? 0]!);
    return { deal, batch: assembleBatch(tinyModel, deal.train, labels, dealDraws(draws, deal), deal.shares) };
  });
}

const merged = <T>(maps: readonly Map<number, T>[]) => [...maps.flatMap((m) => [...m])].sort(([a], [b]) => a - b);

describe('rows that are dealt', () => {
  const objectives = Object.keys(OBJECTIVES) as ObjectiveName[];
  const configs = objectives.flatMap((objective) => [
    parseTrainConfig({ objective, batch: 12, timeEvery: 3, lengthEvery: 3, classDropout: 0.5 }),
    parseTrainConfig({ objective, batch: 12, timeEvery: 1, lengthEvery: 1 }),
    parseTrainConfig({ objective, batch: 12, timeEvery: 0, lengthEvery: 0 }),
    ...(OBJECTIVES[objective].guided === 'asked'
      ? [parseTrainConfig({ objective, batch: 12, timeEvery: 3, guidance: { weight: 2, distill: true } })]
      : []),
  ]);
  for (const size of [1, 2, 3, 4, 5]) {
    it(`to ${size} processes are those of one, with their inputs, whatever the objective`, () => {
      for (const train of configs) {
        const [one] = dealt(train, 1);
        const parts = dealt(train, size);
        const name = JSON.stringify(train);
        const inputs = merged(parts.map(({ deal, batch }) => inputsOf(batch, deal)));
        expect(inputs, name).toEqual(merged([inputsOf(one!.batch, one!.deal)]));
        expect(inputs.length).toBe(12);
        expect(merged(parts.map(({ deal, batch }) => ownOf(batch, deal))), name).toEqual(
          merged([ownOf(one!.batch, one!.deal)]),
        );
        // As the step has room for them.
        for (const { deal, batch } of parts) {
          expect(batch.length.targets.length).toBe(deal.shares.lengthRows);
          expect(batch.main.t.length).toBe(deal.train.batch);
          expect(Math.max(...batch.main.source)).toBeLessThan(deal.pictures.length);
        }
      }
    });
  }

  it('to one process are the batch as it was assembled before', () => {
    const train = parseTrainConfig({ batch: 12, timeEvery: 3, lengthEvery: 3 });
    const [one] = dealt(train, 1);
    expect(one!.batch).toEqual(assembleBatch(tinyModel, train, LABELS, drawStep(tinyModel, train, 5)));
    expect(one!.deal.train).toEqual(train);
  });

  it('to more processes than can share them are refused, naming both numbers', () => {
    const train = parseTrainConfig({ batch: 8, timeEvery: 4 });
    expect(() => dealRows(train, tinyModel, { rank: 0, size: 7 })).toThrow(ConfigError);
    expect(() => dealRows(train, tinyModel, { rank: 0, size: 7 })).toThrow(
      'training.batch is 8; 7 processes share it, and 6 at most can',
    );
    expect(dealRows(train, tinyModel, { rank: 5, size: 6 }).rows).toEqual(Uint32Array.of(7));
  });
});

it('each process reads its own pictures of each batch, and no others', async () => {
  const data = tinyData(10);
  const read = async (pictures: Uint32Array, first: number) => {
    const asked: number[] = [];
    const image = (i: number) => {
      asked.push(i);
      return data.image(i);
    };
    const watched = { ...data, image };
    const reader = readBatches(watched, { seed: 3, first, part: { of: 4, pictures } });
    const images = new Float32Array(pictures.length * 64);
    const labels = new Uint32Array(pictures.length);
    for (let n = 0; n < 3; n++) await reader.next(images, labels);
    return asked;
  };
  const all = await read(Uint32Array.of(0, 1, 2, 3), 8);
  expect(new Set(all).size).toBeGreaterThan(5);
  expect(await read(Uint32Array.of(1, 3), 8)).toEqual(all.filter((_, i) => i % 2 === 1));
  expect(await read(Uint32Array.of(2), 8)).toEqual(all.filter((_, i) => i % 4 === 2));
});
