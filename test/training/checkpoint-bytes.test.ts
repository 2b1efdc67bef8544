/** Checkpoints as bytes: all that a run needs to go on, and nothing that is not as it was written. */
import { describe, expect, it } from 'vitest';
import { CheckpointError, UsageError } from '../../engine/errors.ts';
import { zeroParams } from '../../model/params.ts';
import { parseModelFile } from '../../model/weights/model-file.ts';
import { checkpointBytes, parseCheckpoint, trainedModel } from '../../training/checkpoint.ts';
import { fingerprint } from '../../training/data/fingerprint.node.ts';
import { numbersOf } from '../../training/numbers.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { setBits, tinyData, tinyModel, tinyTrain } from '../support/tiny.ts';

const params = (seed: number) => formulaParams(tinyModel, seed);
const sets = { params: params(1), ema: params(2), m: params(3), v: params(4) };
const shape = { name: 'points', height: 1, width: 1, channels: 2, classes: 2 };
const values = Float32Array.of(0.5, -0.5, 1, 0);
const state = { step: 5, model: tinyModel, train: tinyTrain, classNames: ['a', 'b', 'c'], sets };

describe('a checkpoint', () => {
  it.each([
    ['of an objective without teacher', state],
    ['with what tells its data from others', { ...state, pictures: fingerprint(tinyData()) }],
    ['with a teacher', { ...state, sets: { ...sets, teacher: params(6) } }],
    ['with the numbers that it is trained on', { ...state, data: { ...shape, values, labels: Uint16Array.of(1, 0) } }],
  ])('%s is read as it was written, and written alike', async (_, given) => {
    const bytes = await checkpointBytes(given);
    const found = await parseCheckpoint(bytes);
    expect(setBits(found.sets as never)).toEqual(setBits(given.sets));
    expect({ ...found, sets: null }).toEqual({ ...given, sets: null });
    expect(Buffer.from(await checkpointBytes(found)).equals(Buffer.from(bytes))).toBe(true);
  });

  it('is refused where a bit of any tensor is another, or it is none', async () => {
    const bytes = await checkpointBytes(state);
    for (const place of [bytes.length - 1, bytes.length - 40_000]) {
      const damaged = bytes.slice();
      damaged[place]! ^= 4;
      const error = await parseCheckpoint(damaged, 'mine').catch((e: unknown) => e);
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as Error).message).toMatch(
        /^mine is damaged: its SHA-256 is [0-9a-f]{64}, it states [0-9a-f]{64}$/,
      );
    }
    await expect(parseCheckpoint(await trainedModel(state), 'a model')).rejects.toThrow(
      'a model is no checkpoint of a training run',
    );
    await expect(parseCheckpoint(bytes.subarray(0, 5000))).rejects.toBeInstanceOf(CheckpointError);
  });

  it('gives the average as a model file', async () => {
    const file = await parseModelFile(await trainedModel(state), 'model');
    expect(setBits({ ema: file.params })).toEqual(setBits({ ema: sets.ema }));
    expect(setBits({ ema: file.params })).not.toEqual(setBits({ ema: zeroParams(sets.ema.layout) }));
    expect(file.metadata.get('odelt.classes')).toBe('["a","b","c"]');
  });
});

describe('numbers in memory', () => {
  it('are given as they are, and told apart by what they are', async () => {
    const data = await numbersOf({ ...shape, values, labels: Uint8Array.of(0, 1) });
    const reader = data.open();
    expect(await reader.read(1)).toEqual(Float32Array.of(1, 0));
    expect([data.count, data.label(1), data.elements, data.paired]).toEqual([2, 1, 'numbers', false]);
    const other = await numbersOf({ ...shape, values: Float32Array.of(0.5, -0.5, 1, 1), labels: Uint8Array.of(0, 1) });
    expect(other.identity).not.toBe(data.identity);
  });

  it.each([
    [{ values: Float32Array.of(1, 2, 3) }, '3 numbers are not 2 of 1 x 1 x 2'],
    [{ labels: Uint8Array.of(0, 2) }, 'number 1 has label 2 of 2'],
    [{ values: Float32Array.of(1, Number.NaN, 3, 4) }, 'value 1 is NaN; training needs finite numbers'],
    [{ values: [1, 2, 3, 4] as never }, 'values must be a Float32Array'],
  ])('are refused where they make no set: %o', async (change, message) => {
    const made = numbersOf({ ...shape, values, labels: Uint8Array.of(0, 1), ...change });
    await expect(made).rejects.toThrow(`points: ${message}`);
    await expect(numbersOf({ ...shape, values, labels: new Uint8Array() })).rejects.toBeInstanceOf(UsageError);
  });
});
