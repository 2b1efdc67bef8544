/** Options declared once: what their records accept, what refusals say, and the nearest name. */
import { describe, expect, expectTypeOf, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import {
  choice,
  defaultsOf,
  integer,
  nearest,
  parseOptions,
  real,
  toggle,
  type ValuesOf,
} from '../../formats/options.ts';
import { parseTrainConfig, TRAIN_DEFAULTS, TRAIN_OPTIONS } from '../../training/config.ts';

const OPTIONS = {
  count: integer(4, { min: 1, max: 9, also: (x) => x !== 7, rule: 'in 1 to 9, not 7', help: 'how many' }),
  rate: real(0.5, { above: 0, max: 1, rule: 'in (0, 1]', help: 'how fast' }),
  mode: choice('slow', ['slow', 'fast', 'faster'], { help: 'how' }),
  loud: toggle(false, 'whether'),
};
const errorOf = (body: () => unknown): ConfigError => {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('nothing was thrown');
};
const parse = (given: object) => parseOptions(OPTIONS, given, { section: 'toy', noun: 'toy' });

describe('a set of options', () => {
  it('has the types and the defaults of its records', () => {
    expectTypeOf<ValuesOf<typeof OPTIONS>>().toEqualTypeOf<{
      readonly count: number;
      readonly rate: number;
      readonly mode: 'slow' | 'fast' | 'faster';
      readonly loud: boolean;
    }>();
    expect(defaultsOf(OPTIONS)).toEqual({ count: 4, rate: 0.5, mode: 'slow', loud: false });
    expect(parse({ rate: 1, mode: 'faster' })).toEqual({ count: 4, rate: 1, mode: 'faster', loud: false });
  });

  it.each<[object, string]>([
    [{ count: 7 }, 'toy.count is 7; it must be in 1 to 9, not 7'],
    [{ count: 0 }, 'toy.count is 0; it must be in 1 to 9, not 7'],
    [{ count: 10 }, 'toy.count is 10; it must be in 1 to 9, not 7'],
    [{ count: 1.5 }, 'toy.count is 1.5; it must be in 1 to 9, not 7'],
    [{ count: '4' }, 'toy.count is "4"; it must be in 1 to 9, not 7'],
    [{ rate: 0 }, 'toy.rate is 0; it must be in (0, 1]'],
    [{ rate: undefined }, 'toy.rate is undefined; it must be in (0, 1]'],
    [{ mode: 'quick' }, `toy.mode is "quick"; it must be 'slow', 'fast' or 'faster'`],
    [{ loud: 1 }, 'toy.loud is 1; it must be true or false'],
    [[], 'toy options are []; they must be an object'],
  ])('refuses %j', (given, message) => {
    expect(errorOf(() => parse(given)).message).toBe(message);
  });

  it('names the nearest known option to an unknown one, in any case and spelling of words', () => {
    const known = Object.keys(TRAIN_OPTIONS);
    expect(errorOf(() => parse({ raet: 1 })).message).toBe("unknown toy option 'raet'");
    expect(errorOf(() => parse({ raet: 1 })).hint).toBe('did you mean rate? known: count, rate, mode, loud');
    expect(errorOf(() => parse({ elephant: 1 })).hint).toBe('known: count, rate, mode, loud');
    expect(nearest('weight_decay', known)).toBe('weightDecay');
    expect(nearest('EMA-decy', known)).toBe('emaDecay');
    expect(nearest('bacth', known)).toBe('batch');
    expect(nearest('x'.repeat(1e6), known)).toBeUndefined();
    expect(errorOf(() => parse(JSON.parse('{"__proto__": 1}'))).message).toBe("unknown toy option '__proto__'");
  });
});

describe('the options of training', () => {
  it('keep what the checks said before they were declared', () => {
    const said = (given: object) => errorOf(() => parseTrainConfig(given)).message;
    expect(said({ lr: -1 })).toBe('training.lr is -1; it must be positive');
    expect(said({ finest: 96 })).toBe('training.finest is 96; it must be a power of two, 2 or more');
    expect(said({ seed: 2 ** 32 })).toBe('training.seed is 4294967296; it must be an integer in [0, 2^32)');
    expect(said({ recompute: 'all' })).toBe(`training.recompute is "all"; it must be 'none' or 'blocks'`);
    expect(said({ emaDecay: 1 })).toBe('training.emaDecay is 1; it must be in [0, 1)');
    expect(said({ guidance: { weight: 'x' } })).toBe(
      'training.guidance is {"weight":"x"}; it must be null or { weight, distill }',
    );
    expect(said({ guidance: 3 })).toBe('training.guidance is 3; it must be null or { weight, distill }');
    expect(said({ lrr: 1 })).toBe("unknown training option 'lrr'");
  });

  it('refuse a warm-up that the run has no room for; one that nobody gave fits', () => {
    const error = errorOf(() => parseTrainConfig({ steps: 50, warmup: 100 }));
    expect(error.message).toBe(
      'training.warmup is 100; a run of 50 updates has room for 45, as the rate falls in its last tenth',
    );
    expect(error.hint).toBe('give a smaller training.warmup, or more training.steps');
    expect(parseTrainConfig({ steps: 50, warmup: 45 }).warmup).toBe(45);
    expect(parseTrainConfig({ steps: 50 }).warmup).toBe(45);
    expect(parseTrainConfig({ steps: 1 }).warmup).toBe(1);
    expect(parseTrainConfig({ steps: 112 }).warmup).toBe(100);
  });

  it('have defaults that keep their own rules, and each says what it does', () => {
    expect(parseTrainConfig({})).toEqual(TRAIN_DEFAULTS);
    for (const [name, { help, rule }] of Object.entries(TRAIN_OPTIONS)) {
      expect([name, help.length > 8, rule.length > 0]).toEqual([name, true, true]);
    }
  });
});
