/** Presets, lengths, blocks that run, and what the checks of a description say. */

import { expect, test } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { MAX_HEAD_SIZE } from '../../kernels/attention/head-size.ts';
import {
  allowedLengths,
  blocksThatRun,
  fromGolden,
  PRESETS,
  parseModelConfig,
  patchSize,
  preset,
  tokenCount,
  usualSteps,
} from '../../model/config.ts';
import { paramLayout } from '../../model/params.ts';

function errorOf(run: () => unknown): ConfigError {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

test('every preset passes its own checks and survives JSON', () => {
  for (const name of Object.keys(PRESETS)) {
    const config = preset(name);
    expect(config).toEqual(PRESETS[name as keyof typeof PRESETS]);
    expect(parseModelConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  }
});

test('the presets have the sizes of the paper', () => {
  const sizes = Object.entries(PRESETS).map(([name, c]) => [
    name,
    c.width,
    c.heads,
    c.depth,
    c.lengths.min,
    c.lengths.group,
  ]);
  expect(sizes).toEqual([
    ['tiny', 64, 4, 12, 4, 4],
    ['dit-s/2', 384, 6, 12, 4, 4],
    ['dit-b/2', 768, 12, 12, 4, 4],
    ['dit-b/4', 768, 12, 12, 4, 4],
    ['dit-l/2', 1024, 16, 24, 8, 8],
    ['dit-xl/2', 1152, 16, 28, 12, 8],
  ]);
  expect(tokenCount(preset('dit-b/2'))).toBe(256);
  expect(tokenCount(preset('dit-b/4'))).toBe(64);
  expect(tokenCount(preset('tiny'))).toBe(49);
  expect(patchSize(preset('tiny'))).toBe(16);
  // The golden recording of DiT-B/2 counts its parameters.
  expect(paramLayout(preset('dit-b/2')).count).toBe(131_101_712);
});

test('allowed lengths and the blocks that run at each', () => {
  const xl = preset('dit-xl/2');
  expect(allowedLengths(xl)).toEqual([12, 20, 28]);
  expect(allowedLengths(xl).map((length) => blocksThatRun(xl, length))).toEqual([8, 16, 24]);
  const b = preset('dit-b/2');
  expect(allowedLengths(b).map((length) => [length, blocksThatRun(b, length)])).toEqual([
    [4, 4],
    [8, 8],
    [12, 12],
  ]);
  const odd = preset('tiny', { depth: 7, lengths: { min: 3, group: 2 } });
  expect(allowedLengths(odd).map((length) => blocksThatRun(odd, length))).toEqual([2, 4, 6]);
  const unreached = preset('tiny', { depth: 12, lengths: { min: 5, group: 4 } });
  expect(allowedLengths(unreached)).toEqual([5, 9]);
  const conventional = preset('tiny', { lengths: null });
  expect(allowedLengths(conventional)).toEqual([12]);
  expect(blocksThatRun(conventional, 12)).toBe(12);
  const error = errorOf(() => blocksThatRun(b, 6));
  expect(error.message).toBe('this model cannot run 6 of its 12 blocks');
  expect(error.hint).toBe('allowed lengths: 4, 8, 12');
});

test('left-out fields take their defaults', () => {
  const config = parseModelConfig({ imageSize: 8, channels: 1, patch: 2, width: 16, heads: 2, depth: 3, classes: 2 });
  expect(config).toMatchObject({ mlpRatio: 4, dropout: 0, lengths: null, ignoreDt: false });
});

test('a bad description is refused by field, value and remedy', () => {
  const refusals: [object, string][] = [
    [{ patch: 3 }, 'model.patch must be a divisor of model.imageSize (28); found 3'],
    [{ heads: 5 }, 'model.heads must be a divisor of width (64); found 5'],
    [{ width: 90 }, 'model.width must be a multiple of 4; found 90'],
    [{ depth: 0 }, 'model.depth must be an integer from 1 to 4096; found 0'],
    [{ depth: 2.5 }, 'model.depth must be an integer from 1 to 4096; found 2.5'],
    [{ classes: '10' }, 'model.classes must be an integer from 1 to 10000000; found "10"'],
    [{ channels: undefined }, 'model.channels must be an integer from 1 to 1024; found missing'],
    [{ dropout: 1 }, 'model.dropout must be in [0, 1); found 1'],
    [{ ignoreDt: 0 }, 'model.ignoreDt must be true or false; found 0'],
    [{ mlpRatio: 0 }, 'model.mlpRatio must be positive, at most 64, and mlpRatio * width (64) whole; found 0'],
    [{ lengths: { min: 2, group: 4 } }, 'model.lengths.min must be at least lengths.group (4); found 2'],
    [{ lengths: { min: 13, group: 4 } }, 'model.lengths.min must be an integer from 1 to 12; found 13'],
    [{ lengths: { min: 4, group: 4, max: 1 } }, "model.lengths.max is no field of a model's description"],
    [{ lengths: [4, 4] }, 'model.lengths must be an object; found [4,4]'],
    [{ widht: 96 }, "model.widht is no field of a model's description"],
  ];
  for (const [override, message] of refusals) {
    expect(errorOf(() => parseModelConfig({ ...PRESETS.tiny, ...override })).message).toBe(message);
  }
  expect(errorOf(() => parseModelConfig(null)).message).toBe('a model description must be an object; found null');
  expect(errorOf(() => preset('dit-z/9')).hint).toContain('dit-xl/2');
});

test('heads that attention cannot compute are refused by the description, with heads that it can', () => {
  const { message, hint } = errorOf(() => parseModelConfig({ ...PRESETS.tiny, width: 520, heads: 4 }));
  expect(message).toBe('model.width 520 in model.heads 4 gives heads of 130 features; at most 128 are supported');
  expect(hint).toBe('set heads to 5 or another divisor of width above it, or choose a smaller width');
  expect(errorOf(() => parseModelConfig({ ...PRESETS.tiny, width: 772, heads: 4 })).hint).toContain(
    'set heads to 193 ',
  );
  expect(parseModelConfig({ ...PRESETS.tiny, width: 4 * MAX_HEAD_SIZE, heads: 4 }).heads).toBe(4);
});

test('the golden field names are understood', () => {
  const config = fromGolden({
    image_size: 8,
    channels: 4,
    patch_size: 2,
    hidden_size: 48,
    num_heads: 3,
    depth: 6,
    depth_min: 2,
    depth_group: 2,
    num_classes: 5,
    mlp_ratio: 4,
    seed: 1001,
  });
  expect(config).toEqual({
    imageSize: 8,
    channels: 4,
    patch: 2,
    width: 48,
    heads: 3,
    depth: 6,
    mlpRatio: 4,
    classes: 5,
    dropout: 0,
    lengths: { min: 2, group: 2 },
    ignoreDt: false,
  });
});

test('what few models have is left out where it is as usual', () => {
  expect(parseModelConfig({ ...PRESETS.tiny, timeScale: 1, predicts: 'velocity' })).toEqual(PRESETS.tiny);
  const dit = { ...PRESETS.tiny, timeScale: 1000, predicts: 'noise' };
  expect(parseModelConfig(dit)).toEqual(dit);
  const data = { ...PRESETS.tiny, predicts: 'data' };
  expect(parseModelConfig(data)).toEqual(data);
  expect(parseModelConfig(JSON.parse(JSON.stringify(parseModelConfig(data))))).toEqual(data);
  expect(preset('tiny', { predicts: 'data' })).toEqual(data);
  for (const name of Object.keys(PRESETS)) expect(preset(name)).not.toHaveProperty('predicts');
  const without = { ...PRESETS.tiny, unconditional: true };
  expect(parseModelConfig(without)).toEqual(without);
  expect(parseModelConfig({ ...without, unconditional: false })).toEqual(PRESETS.tiny);
  expect(() => parseModelConfig({ ...without, unconditional: 1 })).toThrow(
    'model.unconditional must be true or false; found 1',
  );
  const coarse = { ...PRESETS.tiny, finest: 32 };
  expect(parseModelConfig(coarse)).toEqual(coarse);
  expect(parseModelConfig({ ...coarse, finest: 128 })).toEqual(PRESETS.tiny);
  for (const finest of [1, 24, 2.5, '32', 2 ** 60 + 2 ** 8])
    expect(() => parseModelConfig({ ...coarse, finest })).toThrow(
      'model.finest must be a power of two, 2 or more; found',
    );
  expect(usualSteps(preset('tiny'), [1, 4, 16, 256])).toEqual([1, 4, 16, 128]);
  expect(usualSteps({ ...preset('tiny'), finest: 8 }, [1, 4, 16, 64])).toEqual([1, 4, 8]);
  expect(usualSteps({ ...preset('tiny'), finest: 8, ignoreDt: true }, [1, 64])).toEqual([1, 64]);
  expect(() => parseModelConfig({ ...dit, timeScale: 0 })).toThrow(
    'model.timeScale must be positive and at most 1000000; found 0',
  );
  expect(() => parseModelConfig({ ...dit, predicts: 'image' })).toThrow(
    'model.predicts must be "velocity", "data" or "noise"; found "image"',
  );
});
