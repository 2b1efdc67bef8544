/** What cells cost in time by an evaluation's own solver, on a clock that evaluations of the network move. Bytes: test/cli/budget.gpu.test.ts. */
import { afterEach, expect, it, vi } from 'vitest';
import { secondsOfCells } from '../../evaluation/afford.ts';
import { measurePace } from '../../evaluation/prices.ts';
import type { StoredEvaluation } from '../../evaluation/stored.ts';
import { parseModelConfig } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { testEngine } from '../support/engine.ts';

const config = parseModelConfig({
  ...{ imageSize: 8, channels: 1, patch: 4, width: 16, heads: 2, depth: 4, mlpRatio: 2, classes: 3 },
  lengths: { min: 2, group: 2 },
});
const labels = [0, 1, 2, 0];
const evaluation = (solver: StoredEvaluation['solver']): StoredEvaluation => ({
  ...{ features: 'pca64', count: 10, solver, guidance: 1, adapter: 'another', date: '2026-01-31', floor: null },
  cells: [
    [1, 2, 1],
    [4, 2, 4],
    [4, 4, 6],
  ].map(([steps, blocks, secondsPerSample]) => ({
    ...{ steps: steps!, blocks: blocks!, secondsPerSample: secondsPerSample!, fd: { value: 1, low: 1, high: 1 } },
    ...{ peakBytes: 1, bytesRead: 1 },
  })),
});
const engine = await testEngine();
const source = memorySource(initParams(config, 0));
const settings = { precision: 'f32', batch: 4 } as const;
const drawing = { engine, config, settings, labels };

afterEach(() => vi.restoreAllMocks());

it.each([
  ['euler', 1],
  ['heun', 2],
  ['rk4', 4],
] as const)('a step of %s is timed as %i evaluations of the network', async (solver, each) => {
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  const sample = Sampler.prototype.sample;
  vi.spyOn(Sampler.prototype, 'sample').mockImplementation(async function (this: Sampler, request) {
    const found = await sample.call(this, request);
    clock += 3 + 10 * found.evaluations; // milliseconds
    return found;
  });
  const pace = await measurePace(evaluation(solver), source, drawing);
  expect(pace).toMatchObject({ blocks: 2, batch: 4 });
  expect(pace.step).toBeCloseTo((each * 0.01) / 4, 12);
  expect(pace.once).toBeCloseTo(0.003 / 4, 12);
  const costs = secondsOfCells(evaluation(solver), pace).map(({ cost }) => cost * 4);
  for (const [i, evaluations] of [1, 4, 6].entries())
    expect(costs[i]).toBeCloseTo(0.003 + evaluations * each * 0.01, 12);
});
