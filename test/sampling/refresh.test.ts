/** Late blocks in some steps only: how that is written, what is refused, and which steps run them. */
import { describe, expect, it } from 'vitest';
import { ConfigError, UsageError } from '../../engine/errors.ts';
import { preset } from '../../model/config.ts';
import { parseRefresh } from '../../sampling/blocks.ts';
import { checkRequest, type SampleRequest } from '../../sampling/request.ts';
import { scheduleOf } from '../../sampling/schedule.ts';

const config = preset('tiny'); // 4, 8 or 12 blocks
const good: SampleRequest = { labels: [0], steps: 8, blocks: 4, refresh: { blocks: 12, every: 2 } };

it('is written as blocks and steps', () => {
  expect(parseRefresh('12:2')).toEqual({ blocks: 12, every: 2 });
  for (const text of ['12', '12:', ':2', '12:2:3', '12:1.5', 'all:2', '']) {
    const parse = () => parseRefresh(text, '--refresh');
    expect(parse).toThrow(ConfigError);
    expect(parse).toThrow(`--refresh is '${text}', which is no number of blocks and of steps`);
  }
});

it('passes where it makes sense', () => {
  for (const more of [{}, { blocks: 8 }, { refresh: { blocks: 8, every: 1 } }, { guidance: 2 }, { solver: 'euler' }]) {
    expect(() => checkRequest({ ...good, ...more } as SampleRequest, config)).not.toThrow();
  }
});

it.each([
  [{ refresh: '12:2' }, UsageError, "refresh is '12:2', not an object"],
  [{ refresh: { blocks: 12, every: 0 } }, ConfigError, 'refresh is to be every 0 steps; it must be a positive integer'],
  [{ refresh: { blocks: 12 } }, ConfigError, 'refresh is to be every undefined steps'],
  [{ refresh: { blocks: 10, every: 2 } }, ConfigError, 'this model cannot run 10 of its 12 blocks'],
  [{ solver: 'heun' }, ConfigError, 'refresh is for the solver euler, not heun'],
  [{ solver: 'tsit5', steps: undefined }, ConfigError, 'refresh is for the solver euler, not tsit5'],
  [{ blocks: undefined }, ConfigError, 'refresh needs blocks, the number of those in the steps between'],
  [{ blocks: 12 }, ConfigError, 'refresh with 12 blocks runs no more than the 12 of other steps'],
  [{ blocks: [{ from: 0, blocks: 4 }] }, ConfigError, 'refresh goes with one number of blocks, not with 4@0'],
])('is refused: %j', (fields, kind, message) => {
  const check = () => checkRequest({ ...good, ...fields } as SampleRequest, config);
  expect(check).toThrow(kind as typeof ConfigError);
  expect(check).toThrow(message);
});

describe('a schedule', () => {
  const hows = (more: Partial<SampleRequest>) =>
    scheduleOf({ ...good, ...more }, config).steps.map(({ evaluations }) =>
      evaluations.map((e) => e.late!.how[0]).join(),
    );

  it('keeps in every so many steps, from the first, and tells the network the same length throughout', () => {
    expect(hows({}).join('')).toBe('krkrkrkr');
    expect(hows({ refresh: { blocks: 12, every: 3 } }).join('')).toBe('krrkrrkr');
    expect(hows({ refresh: { blocks: 12, every: 1 } }).join('')).toBe('kkkkkkkk');
    expect(hows({ refresh: { blocks: 12, every: 99 } }).join('')).toBe('krrrrrrr');
    const { variants, mostBlocks, evaluations, steps } = scheduleOf(good, config);
    expect(variants).toEqual([
      { blocks: 12, guided: false, late: { after: 4, how: 'kept' } },
      { blocks: 12, guided: false, late: { after: 4, how: 'reused' } },
    ]);
    expect([mostBlocks, evaluations]).toEqual([12, 8]);
    expect(steps.flatMap((s) => s.evaluations).map(({ t, blocks }) => [t, blocks])).toEqual(
      Array.from({ length: 8 }, (_, i) => [i / 8, 12]),
    );
  });

  it('keeps anew where guidance begins or ends: what was kept is of other rows', () => {
    // Guided are steps 2 to 4.
    const more = { guidance: 2, guidanceInterval: [0.25, 0.5] } as const;
    expect(hows({ ...more, refresh: { blocks: 12, every: 99 } }).join('')).toBe('krkrrkrr');
  });
});
