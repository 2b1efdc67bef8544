/** Targets with all blocks are told a number of blocks that is trained: the largest allowed one, where depth is none. */
import { describe, expect, it } from 'vitest';
import { allowedLengths, fullLength, type ModelConfig, preset } from '../../model/config.ts';
import { assembleBatch, drawStep } from '../../training/batch.ts';
import { parseTrainConfig, type TrainConfig } from '../../training/config.ts';
import { factsOf, OBJECTIVES, type ObjectiveName } from '../../training/objectives/facts.ts';

const names = Object.keys(OBJECTIVES) as ObjectiveName[];

/** Numbers of blocks that rows learn, and those that the objective's own targets are told. */
function lengthsTold(model: ModelConfig, train: TrainConfig) {
  const [rows, targets] = [new Set<number>(), new Set<number>()];
  for (let step = 0; step < 20; step++) {
    const { main, own } = assembleBatch(model, train, new Uint32Array(train.batch), drawStep(model, train, step));
    for (const length of main.lengths) rows.add(length);
    for (const length of own.full ?? []) targets.add(length);
  }
  return { rows: [...rows].sort((a, b) => a - b), targets: [...targets] };
}

describe.each<[string, Partial<ModelConfig>, number]>([
  ['a depth that is a length', {}, 12],
  ['a depth between lengths', { depth: 10 }, 8],
  ['lengths that are no multiples of a group', { depth: 12, lengths: { min: 5, group: 4 } }, 9],
  ['one length', { depth: 7, lengths: { min: 4, group: 4 } }, 4],
  ['a conventional transformer', { depth: 10, lengths: null }, 10],
])('with %s', (_, fields, full) => {
  it.each(names)('%s', (objective) => {
    const model = preset('tiny', { ...fields, ignoreDt: !factsOf(objective).stepLevel });
    expect(fullLength(model)).toBe(full);
    const guidance = { weight: 2, distill: factsOf(objective).guided === 'asked' };
    const { rows, targets } = lengthsTold(model, parseTrainConfig({ objective, batch: 64, steps: 100, guidance }));
    expect(rows).toEqual(allowedLengths(model));
    expect(targets).toEqual(factsOf(objective).consistency === 'none' ? [] : [full]);
  });

  it('length targets that are to be full', () => {
    const model = preset('tiny', fields);
    const train = parseTrainConfig({ batch: 64, steps: 100, lengthTarget: 'full' });
    expect(new Set(Array.from(drawStep(model, train, 3).targetLengths))).toEqual(new Set(model.lengths ? [full] : []));
  });
});
