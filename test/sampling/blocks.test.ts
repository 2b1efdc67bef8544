/** Numbers of blocks by time: how they are written, which holds when, what is refused, and the schedules that they make. */
import { describe, expect, it } from 'vitest';
import { ConfigError, UsageError } from '../../engine/errors.ts';
import { preset } from '../../model/config.ts';
import { type Blocks, blocksAt, describeBlocks, mostBlocks, parseBlocks } from '../../sampling/blocks.ts';
import { chooseSettings } from '../../sampling/budget.ts';
import { checkBlocks, checkRequest, type SampleRequest } from '../../sampling/request.ts';
import { conditionsOf, scheduleOf } from '../../sampling/schedule.ts';

const config = preset('tiny'); // 4, 8 or 12 blocks
const rising: Blocks = [
  { from: 0, blocks: 4 },
  { from: 0.5, blocks: 8 },
  { from: 0.8, blocks: 12 },
];

function refusal(run: () => unknown): Error & { hint?: string } {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was wrong');
}

it('are written in one line, and read back', () => {
  expect(parseBlocks('4@0,8@0.5,12@0.8')).toEqual(rising);
  expect(parseBlocks(' 4@0 , 8@.5,12@0.8')).toEqual(rising);
  expect(describeBlocks(rising)).toBe('4@0,8@0.5,12@0.8');
  expect(parseBlocks('8')).toBe(8);
  expect(describeBlocks(8)).toBe('8');
});

it.each(['', 'many', '4.5', '-4', '4@', '@0.5', '4@0,12', '4@0;12@0.5', '4@0,12@half', '4@0,', '4@-1'])(
  'written as %j are refused, with how they are written',
  (text) => {
    const error = refusal(() => parseBlocks(text, '--blocks'));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`--blocks is '${text}'; '`);
    expect(error.message).toContain("' is no number of blocks from a time on");
    expect(error.hint).toContain('like 8, or numbers and the times that they hold from, like 4@0,8@0.5,12@0.8');
  },
);

it('hold from their times on', () => {
  const at = [0, 0.25, 0.4999, 0.5, 0.75, 0.8, 1].map((t) => blocksAt(rising, t));
  expect(at).toEqual([4, 4, 4, 8, 8, 12, 12]);
  expect(blocksAt(8, 0.3)).toBe(8);
  expect([mostBlocks(rising), mostBlocks([...rising, { from: 0.9, blocks: 4 }]), mostBlocks(4)]).toEqual([12, 12, 4]);
});

describe('a request', () => {
  const request = (blocks: unknown, more: object = {}) => ({ labels: [0], steps: 4, blocks, ...more }) as SampleRequest;

  it('of such blocks passes', () => {
    for (const blocks of [rising, [{ from: 0, blocks: 12 }], [...rising, { from: 0.9, blocks: 4 }]]) {
      expect(() => checkRequest(request(blocks, { loadBlocks: 'along' }), config)).not.toThrow();
    }
    const whole = { ...config, lengths: null };
    expect(() => checkBlocks([{ from: 0, blocks: 12 }], whole)).not.toThrow();
    expect(() => checkBlocks(rising, whole)).toThrow('this model cannot run 4 of its 12 blocks');
  });

  const times = (...from: unknown[]) => from.map((t) => ({ from: t, blocks: 4 }));
  it.each([
    [times(0.5), ConfigError, 'blocks is 4@0.5: the first is from 0.5, not from 0'],
    [times(undefined), ConfigError, 'blocks is 4@undefined: the first is from undefined, not from 0'],
    [times(0, 0.5, 0.5), ConfigError, 'blocks is 4@0,4@0.5,4@0.5: 0.5 is not later than 0.5'],
    [times(0, 0.5, 0.2), ConfigError, 'blocks is 4@0,4@0.5,4@0.2: 0.2 is not later than 0.5'],
    [times(0, Number.NaN), ConfigError, 'blocks is 4@0,4@NaN: NaN is not later than 0'],
    [times(0, '0.5'), ConfigError, "blocks is 4@0,4@0.5: '0.5' is not later than 0"],
    [times(0, 1), ConfigError, 'blocks is 4@0,4@1: 1 is not below 1'],
    [[], ConfigError, 'blocks is an empty list'],
    ['4@0', UsageError, "blocks is '4@0', neither a number nor a list"],
    [{ from: 0, blocks: 4 }, UsageError, 'blocks is an object, neither a number nor a list'],
    [[4, 8], UsageError, 'blocks[0] is 4, not an object'],
  ])('of others is refused: %j', (blocks, kind, message) => {
    const error = refusal(() => checkRequest(request(blocks), config));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toBe(message);
    if (!message.includes('not an object')) expect(error.hint).toContain('[{ from: 0, blocks: 4 }, { from: 0.5');
  });

  it('of lengths that the model does not have, or of another way to load them, is refused', () => {
    const odd = refusal(() => checkRequest(request([rising[0], { from: 0.5, blocks: 10 }]), config));
    expect(odd).toMatchObject({
      message: 'this model cannot run 10 of its 12 blocks',
      hint: 'allowed lengths: 4, 8, 12',
    });
    expect(odd).toBeInstanceOf(ConfigError);
    const late = refusal(() => checkRequest(request(rising, { loadBlocks: 'late' }), config));
    expect(late).toBeInstanceOf(ConfigError);
    expect(late.message).toBe("loadBlocks is 'late'; it must be one of first, along, needed");
  });

  it('is refused by settings, too, before the engine is looked at', async () => {
    const wanted = { blocks: times(0.5) as Blocks, batch: 1 };
    await expect(chooseSettings(null as never, config, wanted, { labels: [0], steps: 4 }, 1e9)).rejects.toThrow(
      'blocks is 4@0.5: the first is from 0.5, not from 0',
    );
  });
});

describe('a schedule', () => {
  const scheduled = (request: Omit<SampleRequest, 'labels'>) =>
    scheduleOf({ labels: [0], blocks: rising, ...request }, config);
  const lengths = (request: Omit<SampleRequest, 'labels'>) =>
    scheduled(request).steps.map(({ evaluations }) => evaluations.map((e) => e.blocks));

  it('has for each evaluation the number of its own time', () => {
    expect(lengths({ steps: 4 })).toEqual([[4], [4], [8], [8]]);
    expect(lengths({ steps: 4, solver: 'consistency' })).toEqual([[4], [4], [8], [8]]);
    expect(lengths({ steps: 4, solver: 'heun' })).toEqual([
      [4, 4],
      [4, 8],
      [8, 8],
      [8, 12],
    ]);
    // A tenth has no exact number in binary: the times are those that one writes.
    const tenths = scheduleOf({ labels: [0], steps: 10, blocks: rising }, { ...config, ignoreDt: true });
    expect(tenths.steps.map(({ evaluations }) => evaluations[0]!.blocks)).toEqual([4, 4, 4, 4, 4, 8, 8, 8, 12, 12]);
    const { evaluations } = scheduled({ solver: 'dopri5' }).stepAt(0.4, 0.9);
    expect(evaluations.map((e) => e.blocks)).toEqual([4, 8, 8, 12, 12, 12, 12]);
    // One row of the tables each.
    expect(conditionsOf(evaluations).map((c) => c.blocks)).toEqual([4, 8, 8, 12, 12, 12]);
  });

  it('knows all that may occur, each once', () => {
    const kinds = (request: Omit<SampleRequest, 'labels'>) =>
      scheduled(request).variants.map(({ blocks, guided }) => `${blocks}${guided ? ' guided' : ''}`);
    expect(kinds({ steps: 8 })).toEqual(['4', '8', '12']);
    expect(kinds({ steps: 4 })).toEqual(['4', '8']);
    expect(scheduled({ steps: 4 }).mostBlocks).toBe(12);
    expect(kinds({ steps: 8, guidance: 2, guidanceInterval: [0.25, 0.5] })).toEqual([
      '4',
      '4 guided',
      '8 guided',
      '8',
      '12',
    ]);
    expect(kinds({ solver: 'tsit5' })).toEqual(['4', '8', '12']);
    expect(kinds({ solver: 'tsit5', guidance: 2 })).toEqual(['4 guided', '8 guided', '12 guided']);
    expect(kinds({ solver: 'tsit5', guidance: 2, guidanceInterval: [0, 0.5] })).toEqual([
      '4 guided',
      '8 guided',
      '8',
      '12',
    ]);
    expect(kinds({ solver: 'tsit5', guidance: 2, guidanceInterval: [0.5, 1] })).toEqual(['4', '8 guided', '12 guided']);
    const again = [...rising, { from: 0.9, blocks: 4 }];
    expect(kinds({ solver: 'tsit5', blocks: again })).toEqual(['4', '8', '12']);
  });
});
