/** What timing does with samples, and how it waits, without an adapter. */
import { describe, expect, it, vi } from 'vitest';
import { compileRepeated, interleave, quantile, runSeconds, timingOf } from '../../bench/harness.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Program } from '../../engine/program.ts';
import { timed } from '../../engine/timed.ts';
import { add } from '../../kernels/add.ts';
import { dryGpu } from '../support/dry.ts';

vi.mock('../../engine/timed.ts');

describe('timingOf', () => {
  it('has median and quartiles, and the samples as they came', () => {
    const seconds = [5, 1, 4, 2, 3];
    expect(timingOf(seconds)).toEqual({ median: 3, q1: 2, q3: 4, samples: 5, seconds: [5, 1, 4, 2, 3] });
    expect(quantile([1, 2], 0.25)).toBe(1.25);
  });
});

describe('by the host', () => {
  it('the engine waits: a bare promise of the queue would have Dawn poll on a core that kernels need', async () => {
    const calls: string[] = [];
    // No queue: waiting on it would throw.
    const engine = { idle: async () => void calls.push('idle') } as unknown as Engine;
    const program = { run: () => void calls.push('run') } as unknown as Program;
    expect(await runSeconds({ engine, program, repeats: 1 })).toBeGreaterThanOrEqual(0);
    expect(calls).toEqual(['run', 'idle']);
  });
});

describe('what is shorter than a step of the clock', () => {
  /** A GPU on which one dispatch takes so many seconds, behind a clock that moves in steps of 100 us. */
  const repeatedOn = async (each: number, step = 1e-4) => {
    const engine = dryGpu();
    vi.mocked(timed).mockImplementation(async (_, program) => {
      const begin = Math.random() * step;
      return (
        Math.round((Math.floor((begin + each * program.dispatches) / step) - Math.floor(begin / step)) * step * 1e9) /
        1e9
      );
    });
    const x = engine.tensor('x', [64]);
    return compileRepeated(engine, 'add', 'timestamp', (ctx) => void add(ctx, x, x));
  };

  it.each([5e-6, 25e-6, 60e-6, 90e-6, 2e-3])('of %s s, is timed by as many as it takes', async (each) => {
    for (let time = 0; time < 8; time++) {
      const { repeats, roundSeconds } = await repeatedOn(each);
      expect(repeats === 400 || roundSeconds >= 0.006).toBe(true);
      expect(Math.abs(roundSeconds / repeats / each - 1)).toBeLessThan(0.06);
    }
  });
});

describe('by timestamps', () => {
  it('samples are those of one repeat', async () => {
    const times = [9, 4, 6];
    vi.mocked(timed).mockImplementation(async () => times.shift()!);
    const program = {} as Program;
    const [timing] = await interleave([{ engine: {} as Engine, program, repeats: 2, clock: 'timestamp' }], 2);
    expect(timing!.seconds).toEqual([2, 3]); // the first round is not counted
  });
});
