/** What timing does with samples, and how it waits, without an adapter. */
import { describe, expect, it, vi } from 'vitest';
import { interleave, quantile, runSeconds, timingOf } from '../../bench/harness.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Program } from '../../engine/program.ts';
import { timed } from '../../engine/timed.ts';

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

describe('by timestamps', () => {
  it('samples are those of one repeat', async () => {
    const times = [9, 4, 6];
    vi.mocked(timed).mockImplementation(async () => times.shift()!);
    const program = {} as Program;
    const [timing] = await interleave([{ engine: {} as Engine, program, repeats: 2, clock: 'timestamp' }], 2);
    expect(timing!.seconds).toEqual([2, 3]); // the first round is not counted
  });
});
