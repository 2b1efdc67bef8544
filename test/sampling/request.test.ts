/** Every field of a request and of settings is checked, with an error that says what is wrong. */
import { describe, expect, it } from 'vitest';
import { ConfigError, LimitError, UsageError } from '../../engine/errors.ts';
import { preset } from '../../model/config.ts';
import { chooseSettings, estimateSampling } from '../../sampling/budget.ts';
import { checkRequest, type SampleRequest } from '../../sampling/request.ts';

const config = preset('tiny', { classes: 3 });
const good: SampleRequest = { labels: [0, 2, null], steps: 4 };
const adaptive = { solver: 'tsit5', steps: undefined };
const pixels = config.imageSize ** 2 * config.channels;

function refusal(request: unknown): Error {
  try {
    checkRequest(request as SampleRequest, config);
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was wrong');
}

describe('a request', () => {
  it.each([
    {},
    { blocks: 4, guidance: 0, seed: 2 ** 32 - 1, first: 2 ** 32 - 3 },
    { blocks: 12, guidance: -1.5, seed: 0, first: 0, level: 2.5, steps: 5 },
    { level: 0 },
    { steps: undefined, solver: 'tsit5', level: 7 },
    { noise: new Float32Array(3 * pixels), keepBlocks: true, onProgress: () => {} },
    { steps: 128 },
    { steps: 4, stopAfter: 1 },
    { steps: 4, stopAfter: 4, solver: 'rk4' },
    { steps: 4, solver: 'rk4', guidance: 2, guidanceInterval: [0.2, 0.8] },
    { steps: undefined, solver: 'tsit5', tolerance: 1e-2, controller: 'pi', firstStep: 'auto', maxSteps: 10 },
    { steps: 2, solver: 'consistency', renoise: [new Float32Array(3 * pixels)] },
    { steps: 3, solver: 'consistency' },
  ])('of allowed fields passes: %o', (fields) => {
    expect(() => checkRequest({ ...good, ...fields } as SampleRequest, config)).not.toThrow();
  });

  it.each([
    [undefined, 'the request is undefined, not an object'],
    [null, 'the request is null, not an object'],
    [7, 'the request is 7, not an object'],
    [{ steps: 4 }, 'labels is undefined, not an array'],
    [{ ...good, labels: 3 }, 'labels is 3, not an array'],
    [{ ...good, labels: '012' }, "labels is '012', not an array"],
    [{ ...good, labels: [] }, 'labels is empty: there is nothing to sample'],
    [{ ...good, seed: -1 }, 'seed is -1; it must be an integer from 0 on, below 2^32'],
    [{ ...good, seed: 2 ** 32 }, 'seed is 4294967296; it must be'],
    [{ ...good, seed: 1.5 }, 'seed is 1.5; it must be'],
    [{ ...good, seed: '3' }, "seed is '3'; it must be"],
    [{ ...good, first: 2 ** 32 }, 'first is 4294967296; it must be an integer from 0 on, of which 3 are below 2^32'],
    [{ ...good, first: 2 ** 32 - 2 }, 'first is 4294967294; it must be'],
    [{ ...good, first: Number.NaN }, 'first is NaN; it must be'],
    [{ ...good, first: -1 }, 'first is -1; it must be'],
    [{ ...good, noise: [1, 2] }, 'noise is an array, not a Float32Array'],
    [{ ...good, noise: new Float64Array(3 * pixels) }, 'noise is an array, not a Float32Array'],
    [{ ...good, noise: new Float32Array(5) }, `noise has 5 elements; 3 samples need ${3 * pixels}`],
    [{ ...good, noise: new Float32Array(3 * pixels).fill(Number.NaN, 9) }, 'noise is not finite: element 9 is NaN'],
    [{ ...good, level: Number.NaN }, 'level is NaN, not a finite number'],
    [{ ...good, renoise: [] }, 'renoise is for the solver consistency, not euler'],
    [{ ...good, solver: 'consistency', renoise: [] }, 'renoise has 0 elements; 4 steps need 3'],
    [
      { ...good, steps: 2, solver: 'consistency', renoise: [new Float32Array(5)] },
      `renoise[0] has 5 elements; 3 samples need ${3 * pixels}`,
    ],
    [{ ...good, guidance: 2, guidanceInterval: 0.5 }, 'guidanceInterval is 0.5, not an array'],
    [{ ...good, onProgress: true }, 'onProgress is true, not a function'],
  ])('of the wrong form is a UsageError: %o', (request, message) => {
    const error = refusal(request);
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toContain(message);
  });

  it.each([
    [{ stopAfter: 0 }, 'stopAfter is 0; of 4 steps it must be one from 1 to 4'],
    [{ stopAfter: 5 }, 'stopAfter is 5; of 4 steps it must be one from 1 to 4'],
    [{ ...adaptive, stopAfter: 1 }, 'stopAfter is for fixed steps; tsit5 chooses its own'],
    [{ labels: [3] }, 'there is no class 3 (label 0)'],
    [{ labels: [0, -1] }, 'there is no class -1 (label 1)'],
    [{ labels: [0.5] }, 'there is no class 0.5'],
    [{ labels: ['1'] }, "there is no class '1'"],
    [{ labels: new Array(2) }, 'there is no class undefined (label 0)'],
    [{ steps: undefined }, 'the number of steps is undefined'],
    [{ steps: 0 }, 'the number of steps is 0; it must be a positive integer'],
    [{ steps: 3 }, '3 steps are none of them'],
    [{ steps: Number.NaN, level: 1 }, 'the number of steps is NaN'],
    [{ level: 7.5 }, 'level is 7.5; this model was trained for levels 0 to 7'],
    [{ ...adaptive, level: -1 }, 'level is -1; this model was trained for levels 0 to 7'],
    [{ blocks: 5 }, 'this model cannot run 5 of its 12 blocks'],
    [{ blocks: Number.NaN }, 'this model cannot run NaN'],
    [{ guidance: Number.POSITIVE_INFINITY }, 'guidance is Infinity; it must be a finite number'],
    [{ guidance: '2' }, "guidance is '2'; it must be a finite number"],
    [
      { solver: 'rk5' },
      "the solver is 'rk5'; it must be one of euler, midpoint, heun, rk4, dopri5, tsit5, consistency",
    ],
    [{ solver: 'tsit5' }, 'tsit5 chooses its own steps; 4 were asked for'],
    [{ tolerance: 0.1 }, 'tolerance is for adaptive solvers; euler takes fixed steps'],
    [{ solver: 'heun', maxSteps: 5 }, 'maxSteps is for adaptive solvers; heun takes fixed steps'],
    [{ solver: 'heun', steps: 3 }, '3 steps are none of them'],
    [{ ...adaptive, tolerance: 0 }, 'tolerance is 0; it must be above 0 and at most 1'],
    [{ ...adaptive, tolerance: Number.NaN }, 'tolerance is NaN'],
    [{ ...adaptive, firstStep: 'now' }, "firstStep is 'now'; it must be above 0 and at most 1"],
    [{ ...adaptive, maxSteps: 0 }, 'maxSteps is 0; it must be a positive integer'],
    [{ ...adaptive, controller: 'pid' }, "the controller is 'pid'; it must be one of integral, pi"],
    [
      { guidance: 2, guidanceInterval: [0.8, 0.2] },
      'the guidance interval is 0.8 to 0.2; it must be two times in order',
    ],
    [{ guidance: 2, guidanceInterval: [0, 1.5] }, 'the guidance interval is 0 to 1.5'],
    [{ guidance: 1, guidanceInterval: [0.2, 0.8] }, 'a guidance interval limits nothing at guidance 1'],
  ])('that the model does not allow is a ConfigError: %o', (fields, message) => {
    const error = refusal({ ...good, ...fields });
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(message);
  });

  it('of a level for a model that is told none is refused', () => {
    const untold = { ...config, ignoreDt: true };
    expect(() => checkRequest({ ...good, level: 0 }, untold)).toThrow('level is 0; this model is told no step sizes');
    expect(() => checkRequest({ ...good, steps: 3 }, untold)).not.toThrow();
  });

  it('for more than fits is a LimitError with what was asked and what there is', () => {
    expect(refusal({ ...good, labels: new Array(10 ** 6).fill(0) })).toMatchObject({
      message: expect.stringContaining('1000000 samples take 3136000000 bytes; 2147483648 are the most of one request'),
      asked: 3136000000,
      available: 2 ** 31,
    });
    expect(refusal({ ...good, steps: 1e99, level: 0 })).toBeInstanceOf(LimitError);
  });
});

describe('settings', () => {
  // Refused before the engine is looked at.
  const engine = null as never;
  const settings = { blocks: 4, precision: 'f32', batch: 2 } as const;
  const estimate = (given: unknown, request: unknown = good) =>
    estimateSampling(engine, config, given as typeof settings, request as SampleRequest);
  const choose = (wanted: unknown, limit = 1e9, request: unknown = good) =>
    chooseSettings(engine, config, wanted as typeof settings, request as SampleRequest, limit);

  it.each([
    [null, UsageError, 'is null, not an object'],
    [{ ...settings, batch: 0 }, ConfigError, 'batch is 0; it must be a positive integer'],
    [{ ...settings, batch: undefined }, ConfigError, 'batch is undefined'],
    [{ ...settings, residentBlocks: 1.5 }, ConfigError, 'residentBlocks is 1.5'],
    [{ ...settings, precision: 'f8' }, ConfigError, "precision is 'f8'; it must be one of f32, f16, int8"],
    [{ ...settings, activations: 'f8' }, ConfigError, "activations is 'f8'; it must be one of f32, f16"],
    [{ ...settings, blocks: 5 }, ConfigError, 'this model cannot run 5 of its 12 blocks'],
  ])('that make no sense are refused: %o', async (given, kind, message) => {
    for (const refused of [estimate(given), choose(given)]) {
      const error = await refused.catch((e: unknown) => e);
      expect(error).toBeInstanceOf(kind);
      expect((error as Error).message).toContain(message);
    }
  });

  it('for a request or a limit that makes no sense are refused', async () => {
    await expect(estimate(settings, null)).rejects.toThrow('the request is null, not an object');
    await expect(choose(settings, 1e9, { steps: 4 })).rejects.toThrow('labels is undefined, not an array');
    await expect(choose({ ...settings, blocks: 'auto' }, Number.NaN)).rejects.toThrow('the memory limit is NaN bytes');
  });
});
