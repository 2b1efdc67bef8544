/** What the tab *Train* asks for: models that fit the data, what is shown of them, and where a checkpoint's data are to be had. */
import { describe, expect, it } from 'vitest';
import {
  CheckpointError,
  ConfigError,
  DataError,
  DeviceLostError,
  NonFiniteError,
  OutOfMemoryError,
} from '../../engine/errors.ts';
import { checkFlow } from '../../evaluation/flow.ts';
import { checkRequest } from '../../sampling/request.ts';
import {
  cellsOf,
  fashionLesson,
  filesLesson,
  pointsLesson,
  requestOf,
  showOf,
  sourceOf,
} from '../../studio/train-request.ts';
import { plainly } from '../../studio/train-words.ts';
import { parseTrainConfig } from '../../training/config.ts';
import { FASHION_CLASSES } from '../../training/fashion-classes.ts';
import { pointsOf } from '../../training/points.ts';

const files = ['cats/a/1.png', 'cats/b/2.png', 'cats/c/3.png'].map((path) => ({ file: new Blob(), path }));
const lessons = [
  ['points', pointsLesson(pointsOf('ring', 10)), [1, 2, 3]],
  ['the shipped pictures', fashionLesson('small', 'http://127.0.0.1/'), [2, 4, 6]],
  ['the shipped pictures, larger', fashionLesson('tiny', 'http://127.0.0.1/'), [4, 8, 12]],
  ['a folder', filesLesson(files, 'small', { size: 32, channels: 3 }), [2, 4, 6]],
] as const;

it.each(lessons)('%s: a run that is valid, and cells that the model has', (_, lesson, blocks) => {
  for (const steps of [1, 20, 2000]) {
    const request = requestOf(lesson, { steps, batch: 16, lr: 1e-3 });
    expect(parseTrainConfig(request.train!)).toMatchObject({ steps, batch: 16 });
    expect(request.show!.every).toBe(Math.max(10, steps / 10));
  }
  expect(cellsOf(lesson.model).blocks).toEqual(blocks);
  const { samples = [], flow } = showOf(lesson.model, 100);
  expect(samples.length + (flow?.cells.length ?? 0)).toBe(flow ? 12 : 9);
  for (const request of samples) expect(() => checkRequest(request, lesson.model)).not.toThrow();
  if (flow) expect(() => checkFlow(lesson.model, flow)).not.toThrow();
});

it('pictures have as many classes as folders, and few tokens', () => {
  const { model } = filesLesson(files, 'small', { size: 32, channels: 3 });
  expect([model.classes, model.imageSize, model.channels, model.patch]).toEqual([3, 32, 3, 4]);
  expect(filesLesson(files, 'tiny', { size: 16, channels: 1 }).model).toMatchObject({ patch: 4, width: 64, depth: 12 });
  expect(filesLesson([], 'small', { size: 16, channels: 1 }).model.classes).toBe(1);
});

it('the shipped pictures lie beside the page', () => {
  expect(fashionLesson('small', 'http://127.0.0.1:8017/').data).toMatchObject({
    images: 'http://127.0.0.1:8017/data/fashion-mnist/t10k-images-idx3-ubyte.gz',
    labels: 'http://127.0.0.1:8017/data/fashion-mnist/t10k-labels-idx1-ubyte.gz',
  });
});

it('a checkpoint says where its data are to be had', () => {
  const [points, fashion, , folder] = lessons.map(([, { model }]) => model);
  expect(sourceOf(points!, undefined)).toBe('points');
  expect(sourceOf(fashion!, FASHION_CLASSES)).toBe('fashion');
  expect(sourceOf(fashion!, ['others'])).toBe('pictures');
  expect(sourceOf(folder!, ['a', 'b', 'c'])).toBe('pictures');
});

describe('in plain words', () => {
  const cause = new ConfigError('something else');
  it.each([
    [new NonFiniteError('step 3: the loss is NaN'), 20, /no longer a number.*Go on from update 20, with a lower/],
    [new NonFiniteError('step 3: the loss is NaN'), null, /Train again, with a lower learning rate/],
    [new OutOfMemoryError('no memory'), 1, /too little GPU memory.*fewer samples per update/],
    [new DataError('no file lies in a folder of its class'), null, /no pictures in what was chosen.*Choose a folder/],
  ])('%s', (error, kept, words) => {
    const told = plainly(error, kept) as NonFiniteError;
    expect(told).toBeInstanceOf(error.constructor);
    expect(`${told.message} ${told.hint}`).toMatch(words);
    expect(told.cause).toBe(error);
  });
  it.each([new DeviceLostError('lost'), new CheckpointError('damaged'), cause])('%s as it is', (error) => {
    expect(plainly(error, 3)).toBe(error);
  });
});
