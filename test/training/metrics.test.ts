/** metrics.jsonl: read where it is torn or holds other lines, cut back to a checkpoint, averaged into curves; and what a resumed run may change. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { appendEvent, dropLinesAfter, readMetrics } from '../../training/metrics.node.ts';
import { defaultMean, lossCurves, parseMetrics, validationCurves } from '../../training/metrics.ts';
import { changesOnResume } from '../../training/resume.ts';
import type { TrainEvent } from '../../training/trainer.ts';
import { tinyModel, tinyTrain } from '../support/tiny.ts';

const scratch: string[] = [];
let path: string;
beforeEach(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'odelt-metrics-'));
  scratch.push(folder);
  path = join(folder, 'metrics.jsonl');
});
afterAll(async () => {
  for (const folder of scratch) await rm(folder, { recursive: true, force: true });
});

const event = (step: number, losses: Partial<TrainEvent['losses']> = {}): TrainEvent => ({
  step,
  lr: 1,
  losses: { loss: step, flow: step, byTime: {}, byBlocks: {}, byLevel: {}, ...losses },
  gradNorm: 1,
  seconds: 1,
  skipped: 0,
});
const lines = (...events: TrainEvent[]) => events.map((e) => `${JSON.stringify(e)}\n`).join('');
const parse = (text: string) => parseMetrics(new TextEncoder().encode(text));

describe('parseMetrics', () => {
  it('reads updates, says where others are and whether the last line is torn', () => {
    const text = `${lines(event(1))}# é note\n${lines(event(2))}\n{"step":3}\nnull\n[1]\n{"step":3,"lo`;
    const { events, ends, torn, foreign } = parse(text);
    expect(events).toEqual([event(1), event(2)]);
    expect(ends[0]).toBe(lines(event(1)).length);
    expect(Buffer.from(text).subarray(0, ends[1]).toString()).toBe(`${lines(event(1))}# é note\n${lines(event(2))}`);
    expect({ torn, foreign }).toEqual({ torn: true, foreign: [2, 4, 5, 6, 7] });
    expect(parse('')).toEqual({ events: [], ends: [], torn: false, foreign: [] });
    expect(parse(lines(event(1))).torn).toBe(false);
  });
});

describe('dropLinesAfter', () => {
  it('keeps the lines up to the checkpoint, and others among them', async () => {
    const kept = `${lines(event(1))}# a note\n${lines(event(2), event(3))}`;
    await writeFile(path, `${kept}${lines(event(4), event(5))}{"step":6`);
    expect(await dropLinesAfter(path, 3)).toEqual({ torn: true, kept: 3 });
    expect(await readFile(path, 'utf8')).toBe(kept);
    await appendEvent(path, event(4));
    expect(await dropLinesAfter(path, 9)).toEqual({ torn: false, kept: 4 });
    expect((await readMetrics(path))?.events).toEqual([1, 2, 3, 4].map((step) => event(step)));
    expect(await dropLinesAfter(path, 0)).toEqual({ torn: false, kept: 0 });
    expect(await readFile(path, 'utf8')).toBe('');
    await rm(path);
    expect(await dropLinesAfter(path, 3)).toEqual({ torn: false, kept: 0 });
  });

  it('a pipe, a device and a folder are errors, not waited for', async () => {
    execFileSync('mkfifo', [path]);
    const pipe = await readMetrics(path).catch((e: unknown) => e);
    expect(pipe).toBeInstanceOf(CheckpointError);
    expect((pipe as Error).message).toBe(`${path} is no regular file`);
    await rm(path);
    await symlink('/dev/zero', path);
    expect(await readMetrics(path).catch((e: Error) => e.message)).toBe(`${path} is no regular file`);
    await rm(path);
    await symlink('.', path);
    expect(await readMetrics(path).catch((e: Error) => e.message)).toBe(`${path} is a folder`);
  });
});

describe('lossCurves', () => {
  const events = Array.from({ length: 7 }, (_, i) => event(i + 1, i % 2 ? { time: 10 * i } : { length: 3 }));

  it('are means over so many updates, at the last of them', () => {
    expect(lossCurves(events, 3)).toEqual([
      { name: 'flow', x: [3, 6], y: [2, 5] },
      { name: 'time', x: [3, 6], y: [10, 40] },
      { name: 'length', x: [3, 6], y: [3, 3] },
    ]);
  });

  it('leave out what is no number, and a curve without points', () => {
    const some = [event(1, { flow: null as unknown as number }), event(2), event(3)];
    expect(lossCurves(some, 1)).toEqual([{ name: 'flow', x: [2, 3], y: [2, 3] }]);
  });

  it('a mean over more updates than there are is a ConfigError', () => {
    const asked = () => lossCurves(events, 8);
    expect(asked).toThrow(ConfigError);
    expect(asked).toThrow('a mean over 8 updates was asked for; there are 7');
  });

  it('have at least one point, and 20 where there are as many updates, unless a mean is given', () => {
    expect([1, 6, 39, 40, 100, 499, 500, 2700].map(defaultMean)).toEqual([1, 1, 1, 2, 5, 24, 25, 25]);
  });
});

describe('changesOnResume', () => {
  const run = { model: tinyModel, train: tinyTrain, data: 'a' };

  it('the schedule, clipping, the average, the memory and the place of the data may change, and are listed', () => {
    expect(changesOnResume(run, run)).toEqual({});
    const train = { ...tinyTrain, steps: 9, lr: 1e-3, clip: 1, emaDecay: 0.9999, recompute: 'blocks' as const };
    const now = { ...run, train, data: 'b' };
    expect(changesOnResume(run, now)).toEqual({
      'training.steps': { from: 8, to: 9 },
      'training.lr': { from: 1e-2, to: 1e-3 },
      'training.clip': { from: 0, to: 1 },
      'training.emaDecay': { from: 0.999, to: 0.9999 },
      'training.recompute': { from: 'none', to: 'blocks' },
      data: { from: 'a', to: 'b' },
    });
  });

  it('the tuning may change where that is asked for', () => {
    const choice = { family: 'product', shape: { n: 4 }, variant: 'staged' };
    const tuned = { ...run, tuning: [choice] };
    expect(changesOnResume(tuned, { ...run, tuning: [{ ...choice, shape: { n: 4 } }] })).toEqual({});
    expect(() => changesOnResume(tuned, run)).toThrow('the run has a tuning of 1 choices; this engine has no tuning');
    expect(changesOnResume(run, tuned, { otherTuning: true })).toEqual({
      'engine.tuning': { from: undefined, to: [choice] },
    });
  });

  it('everything else is a ConfigError that names it', () => {
    const now = {
      ...run,
      model: { ...tinyModel, width: 32 },
      train: { ...tinyTrain, lr: 1, batch: 16, guidance: null },
    };
    const asked = () => changesOnResume(run, now);
    expect(asked).toThrow(ConfigError);
    expect(asked).toThrow(
      'the run has model.width 16, training.batch 8, training.guidance {"weight":1.5,"distill":false}; it cannot go on with model.width 32, training.batch 16, training.guidance null',
    );
  });
});

it('validations are curves of their own: of flow, where there is such a loss, and without what is no number', () => {
  const losses = (loss: number | null, flow?: number) => ({ loss, ...(flow === undefined ? {} : { flow }) });
  const event = (step: number, average?: object, raw: object = losses(9)) => ({
    ...{ step, losses: { loss: 1 } },
    ...(average ? { validation: { pictures: 8, raw, average } } : {}),
  });
  const events = [event(1), event(2, losses(5, 4)), event(3, losses(null)), event(4, losses(2), losses(3))];
  expect(validationCurves(events as unknown as TrainEvent[])).toEqual([
    { name: 'validation', x: [2, 4], y: [4, 2] },
    { name: 'validation, raw weights', x: [2, 3, 4], y: [9, 9, 3] },
  ]);
  expect(validationCurves([event(1)] as unknown as TrainEvent[])).toEqual([]);
});
