/** Models made for data: sizes, channels and classes follow the pictures, and contradictions are refused in words that help. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { PRESETS } from '../../model/config.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { modelForData } from '../../training/model-for-data.ts';
import { checkObjective } from '../../training/start.ts';
import { tinyModel } from '../support/tiny.ts';

const shape = (size: number, channels: number, classes: number) => ({
  name: 'x\n',
  height: size,
  width: size,
  channels,
  classes,
});
const errorOf = (body: () => unknown): ConfigError => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('nothing was thrown');
};

describe('modelForData', () => {
  it('takes size, channels and classes from the data, the rest from the preset and the overrides', () => {
    for (const name of ['tiny', 'dit-s/2', 'dit-b/4'] as const) {
      for (const [size, channels, classes] of [
        [28, 1, 10],
        [32, 3, 10],
        [64, 3, 2],
      ] as const) {
        const expected = { ...PRESETS[name], imageSize: size, channels, classes };
        expect(modelForData(name, shape(size, channels, classes))).toEqual(expected);
      }
    }
    expect(modelForData('tiny', shape(32, 3, 5), { patch: 2, width: 32, imageSize: 32, channels: 3 })).toEqual({
      ...PRESETS.tiny,
      imageSize: 32,
      channels: 3,
      classes: 5,
      patch: 2,
      width: 32,
    });
    expect(modelForData('tiny', shape(28, 1, 5), { classes: 7 }).classes).toBe(7);
  });

  it.each<[object, Parameters<typeof modelForData>[2], string, RegExp]>([
    [shape(28, 1, 10), { imageSize: 32 }, "model.imageSize is 32; the pictures of 'x\\n' are 28 x 28 x 1", /leave/],
    [shape(32, 3, 10), { channels: 1 }, "model.channels is 1; the pictures of 'x\\n' are 32 x 32 x 3", /leave/],
    [shape(28, 1, 10), { classes: 9 }, "model.classes is 9; 'x\\n' has 10", /leave/],
    [
      { ...shape(4, 1, 2), width: 2 },
      {},
      "the pictures of 'x\\n' are 4 x 2; models take square ones",
      /make them square/,
    ],
    [
      shape(30, 3, 2),
      {},
      'model.patch must be a divisor of model.imageSize (30); found 4',
      /model\.patch or model\.imageSize/,
    ],
    [shape(28, 1, 2), { depth: 2 }, 'model.depth is 2; the preset tiny runs at least 4 blocks', /model\.depth of 4/],
  ])('of %j and %j says what is wrong', (data, overrides, message, hint) => {
    const error = errorOf(() => modelForData('tiny', data as never, overrides));
    expect(error.message).toBe(message);
    expect(error.hint).toMatch(hint);
  });
});

describe('batches too small for what they are to teach', () => {
  it('name the batch, and what it must be', () => {
    expect(errorOf(() => parseTrainConfig({ batch: 4 })).message).toBe(
      'training.batch is 4; it must be at least 8, as one sample in 8 learns time consistency',
    );
    const few = parseTrainConfig({ batch: 8, lengthEvery: 16 });
    expect(errorOf(() => checkObjective(tinyModel, few)).message).toBe(
      'training.batch is 8; it must be at least 16, as one sample in 16 learns length consistency',
    );
    // Of a model without lengths, or an objective without steps, nothing is learnt of them.
    checkObjective({ ...tinyModel, lengths: null }, few);
    const naive = parseTrainConfig({ objective: 'naive', batch: 4 });
    checkObjective({ ...tinyModel, lengths: null, ignoreDt: true }, naive);
    expect(() => checkObjective({ ...tinyModel, ignoreDt: true }, naive)).toThrow('learns length consistency');
    const odd = errorOf(() => parseTrainConfig({ batch: 24, guidance: { weight: 2, distill: true } }));
    expect(odd.message).toMatch(/^training\.batch is 24; .* in pairs .* and that makes 3$/);
    expect(odd.hint).toBe('give a training.batch that is a multiple of 16');
    expect(parseTrainConfig({ batch: 16, guidance: { weight: 2, distill: true } }).batch).toBe(16);
    expect(parseTrainConfig({ batch: 4, timeEvery: 0, lengthEvery: 0 }).batch).toBe(4);
  });
});
