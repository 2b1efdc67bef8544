/** Parts of a request: how they are named, by hand and by what starts many processes, and which samples each of them has. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { parseShard, shardRange } from '../../sampling/shards.ts';

const slurm = (id: number, count: number, min: number, max: number) => ({
  SLURM_ARRAY_TASK_ID: `${id}`,
  SLURM_ARRAY_TASK_COUNT: `${count}`,
  SLURM_ARRAY_TASK_MIN: `${min}`,
  SLURM_ARRAY_TASK_MAX: `${max}`,
});

describe('the name of a part', () => {
  it.each([
    ['0/4', {}, [0, 4]],
    ['3/4', {}, [3, 4]],
    ['env', slurm(0, 4, 0, 3), [0, 4]],
    ['env', slurm(5, 5, 1, 5), [4, 5]],
    // One task that is run again: its number is that of the part.
    ['env/5', slurm(4, 1, 4, 4), [4, 5]],
    ['env/3', { JOB_COMPLETION_INDEX: '2' }, [2, 3]],
  ])('%s with %j is %j', (text, environment, [index, of]) => {
    expect(parseShard(text, '--shard', environment)).toEqual({ index, of });
  });

  it.each([
    ['4', {}, "--shard is '4'; it must be a part and the number of parts"],
    ['-1/4', {}, "--shard is '-1/4'"],
    ['4/4', {}, '--shard 4/4 is part 4 of 4'],
    ['0/0', {}, '--shard 0/0 is part 0 of 0'],
    ['env', {}, '--shard env: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set'],
    ['env', { JOB_COMPLETION_INDEX: '2' }, '--shard env: the environment does not say how many parts there are'],
    ['env/2', { JOB_COMPLETION_INDEX: '2' }, '--shard env/2 is part 2 of 2'],
    ['env/2', { JOB_COMPLETION_INDEX: 'x' }, "--shard env: JOB_COMPLETION_INDEX is 'x', not a number"],
    ['env', slurm(3, 2, 1, 3), "--shard env: the array's 2 tasks are not all of 1 to 3"],
  ])('%s with %j is refused', (text, environment, message) => {
    expect(() => parseShard(text, '--shard', environment)).toThrow(ConfigError);
    expect(() => parseShard(text, '--shard', environment)).toThrow(message);
  });
});

describe('the samples of parts', () => {
  it('are all samples, each once, in whole batches', () => {
    for (const [count, batch, of] of [
      [24, 8, 2],
      [1000, 128, 3],
      [1000, 128, 8],
      [7, 1, 7],
    ] as const) {
      const ranges = Array.from({ length: of }, (_, index) => shardRange({ index, of }, count, batch));
      expect(ranges[0]![0]).toBe(0);
      expect(ranges.at(-1)![1]).toBe(count);
      for (const [i, [from, to]] of ranges.entries()) {
        expect(from % batch).toBe(0);
        expect(to).toBeGreaterThan(from);
        if (i > 0) expect(from).toBe(ranges[i - 1]![1]);
      }
    }
  });

  it('cannot be of more parts than batches', () => {
    expect(() => shardRange({ index: 0, of: 4 }, 24, 8)).toThrow(
      '24 samples in batches of 8 are 3, which cannot be 4 parts',
    );
  });
});
