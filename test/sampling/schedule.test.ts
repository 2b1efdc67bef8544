/** Schedules: which evaluations a request becomes, without a device. */
import { describe, expect, it } from 'vitest';
import { preset } from '../../model/config.ts';
import type { SampleRequest } from '../../sampling/request.ts';
import { conditionsOf, scheduleOf } from '../../sampling/schedule.ts';

const config = preset('tiny');
const scheduled = (request: Omit<SampleRequest, 'labels'>, of = config) => scheduleOf({ labels: [0], ...request }, of);
const times = (request: Omit<SampleRequest, 'labels'>) =>
  scheduled(request).steps.map(({ evaluations }) => evaluations.map(({ t }) => t));

describe('fixed steps', () => {
  it('end where they are to stop, told the size of all', () => {
    const { steps, level, evaluations } = scheduled({ solver: 'heun', steps: 4, stopAfter: 2 });
    expect(steps.map(({ to }) => to)).toEqual([0.25, 0.5]);
    expect([level, evaluations]).toEqual([2, 4]);
  });

  it.each([
    ['euler', [[0], [0.25], [0.5], [0.75]]],
    ['consistency', [[0], [0.25], [0.5], [0.75]]],
    [
      'midpoint',
      [
        [0, 0.125],
        [0.25, 0.375],
        [0.5, 0.625],
        [0.75, 0.875],
      ],
    ],
    [
      'heun',
      [
        [0, 0.25],
        [0.25, 0.5],
        [0.5, 0.75],
        [0.75, 1],
      ],
    ],
    [
      'rk4',
      [
        [0, 0.125, 0.125, 0.25],
        [0.25, 0.375, 0.375, 0.5],
        [0.5, 0.625, 0.625, 0.75],
        [0.75, 0.875, 0.875, 1],
      ],
    ],
  ] as const)('of %s are evaluated at their stages', (solver, expected) => {
    expect(times({ solver, steps: 4 })).toEqual(expected);
    const { evaluations, kept, blocks, steps } = scheduled({ solver, steps: 4, blocks: 8 });
    expect(evaluations).toBe(expected.flat().length);
    expect(kept).toBe(expected[0].length === 1 ? 0 : expected[0].length);
    expect(blocks).toBe(8);
    expect(steps.map(({ from, to, h }) => [from, to, h])).toEqual([0, 1, 2, 3].map((i) => [i / 4, (i + 1) / 4, 1 / 4]));
    expect(steps.flatMap((s) => s.evaluations).every((e) => e.blocks === 8 && !e.guided)).toBe(true);
  });

  it('share conditions: a stage that ends a step is where the next begins', () => {
    const different = (solver: 'heun' | 'rk4' | 'midpoint', steps: number) =>
      conditionsOf(scheduled({ solver, steps, level: 0 }).steps.flatMap(({ evaluations }) => evaluations)).length;
    // 3, 7 and 100 steps are not exact in binary.
    for (const steps of [1, 3, 7, 64, 100]) {
      expect(different('heun', steps)).toBe(steps + 1);
      expect(different('rk4', steps)).toBe(2 * steps + 1);
      expect(different('midpoint', steps)).toBe(2 * steps);
    }
  });
});

describe('the step index that the network is told', () => {
  it.each([
    [{ steps: 16 }, 4],
    [{ steps: 16, solver: 'rk4' }, 4],
    [{ steps: 16, solver: 'consistency' }, 0],
    [{ solver: 'dopri5' }, 7],
    [{ solver: 'tsit5', level: 3 }, 3],
    [{ steps: 5, level: 2.5 }, 2.5],
  ] as const)('of %o is %d', (request, level) => {
    expect(scheduled(request).level).toBe(level);
    expect(scheduled(request, { ...config, ignoreDt: true }).level).toBe(0);
  });
});

describe('guidance', () => {
  const guided = (request: Partial<SampleRequest>) =>
    scheduled({ steps: 4, guidance: 2, ...request }).steps.map(({ evaluations }) => evaluations.map((e) => e.guided));

  it('holds at all times, or in an interval with its ends', () => {
    expect(guided({}).flat()).toEqual([true, true, true, true]);
    expect(guided({ guidance: 0 }).flat()).toEqual([false, false, false, false]);
    expect(guided({ guidanceInterval: [0.25, 0.5] }).flat()).toEqual([false, true, true, false]);
    expect(guided({ solver: 'heun', guidanceInterval: [0.3, 1] })).toEqual([
      [false, false],
      [false, true],
      [true, true],
      [true, true],
    ]);
  });

  it('decides what is compiled', () => {
    const kinds = (request: Partial<SampleRequest>) =>
      scheduled({ guidance: 2, ...request }).variants.map((v) => v.guided);
    expect(kinds({ steps: 4 })).toEqual([true]);
    expect(kinds({ steps: 4, guidance: 1 })).toEqual([false]);
    expect(kinds({ steps: 4, guidanceInterval: [0.4, 0.6] })).toEqual([false, true]);
    expect(kinds({ steps: 4, guidanceInterval: [0.6, 0.7] })).toEqual([false]);
    expect(kinds({ solver: 'tsit5' })).toEqual([true]);
    expect(kinds({ solver: 'tsit5', guidance: 1 })).toEqual([false]);
    // Where steps will fall is not known.
    expect(kinds({ solver: 'tsit5', guidanceInterval: [0.6, 0.7] })).toEqual([true, false]);
    expect(kinds({ solver: 'tsit5', guidanceInterval: [0, 1] })).toEqual([true]);
  });
});

it('adaptive solvers have no steps ahead, and any step when it comes', () => {
  const schedule = scheduled({ solver: 'dopri5', blocks: 4 });
  expect(schedule.steps).toEqual([]);
  expect(schedule.evaluations).toBeNull();
  expect(schedule.kept).toBe(7);
  const { evaluations, h } = schedule.stepAt(0.11, 0.61);
  expect(h).toBe(0.5);
  const expected = [0.11, 0.21, 0.26, 0.51, 0.11 + 4 / 9, 0.61, 0.61];
  evaluations.forEach(({ t }, i) => {
    expect(t).toBeCloseTo(expected[i]!, 12);
  });
  // Exactly where the next step starts: its first stage is this one's last.
  expect(evaluations.slice(-2).map(({ t }) => t)).toEqual([0.61, 0.61]);
  expect(conditionsOf(evaluations)).toHaveLength(6);
});
