/**
 * Tuning on both software drivers, by a clock of the test's own: variants that compute wrong or not at all are named and never chosen,
 * the fastest of the others is, and what is known is not measured again.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createNodeEngine } from '../../engine/engine.node.ts';
import { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, UnsupportedError } from '../../engine/errors.ts';
import { checkCase } from '../../kernels/check.ts';
import type { TuningProblem } from '../../tuning/problem.ts';
import type { TuningResult } from '../../tuning/table.ts';
import { type TimeEntrants, tune } from '../../tuning/tune.ts';
import { rejection } from '../support/programs.ts';
import { squareFamily } from '../support/square-family.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

/** A clock by which each variant takes the seconds given. */
function clockOf(seconds: Readonly<Record<string, number>>) {
  const asked: { ids: string[]; rounds: number }[] = [];
  const time: TimeEntrants = async (entrants, rounds) => {
    asked.push({ ids: entrants.map(({ id }) => id), rounds });
    return entrants.map(({ id, timed }) => timed.map(() => Array.from({ length: rounds }, () => seconds[id]!)));
  };
  return { asked, time };
}

const both = (name: 'lavapipe' | 'swiftshader') => {
  let engine: Engine | undefined;
  beforeAll(async () => {
    engine = (
      await createNodeEngine({ adapter: name, onError: () => {} }).catch((error: unknown) => {
        if (error instanceof UnsupportedError) return undefined;
        throw error;
      })
    )?.engine;
  });
  afterAll(() => engine?.dispose());

  /** Tunes one problem of a family of these variants. */
  const tuneSquares = async (ids: readonly string[], seconds: Readonly<Record<string, number>>) => {
    const { tuned, problem } = squareFamily(ids);
    const clock = clockOf(seconds);
    const told: TuningResult[] = [];
    const { results } = await tune(engine!, [problem], {
      ...{ families: [tuned], batches: [1, 16], time: clock.time },
      onResult: (result) => void told.push(result),
    });
    expect(told).toEqual(results);
    return { result: results[0]!, asked: clock.asked };
  };

  const wrong = {
    'one-element-off': /^square \{"rows":6\}, y: element 17 is .* expected \(error /,
    'late-element-off': /^square \{"rows":129\}, y: element 3000 is /,
    'gradient-off': /^square \{"rows":6\}, d\(x\): element \d+ is /,
    unwritten: /^square \{"rows":6\}, d\(x\): element 40 is NaN/,
    'no-wgsl': /^kernel square-no-wgsl\/square does not compile:[\s\S]*undeclared/,
    'too-large': /^kernel square-too-large\/square does not compile/,
  };
  it.each(Object.entries(wrong))(
    '%s is named with its error and never chosen, though it is the fastest',
    async (id, said) => {
      if (!engine) return;
      const before = engine.memory.report().live;
      const { result, asked } = await tuneSquares(['plain', id, 'power'], { plain: 1, power: 0.9, [id]: 0.001 });
      expect(result.rejected).toEqual([{ variant: id, error: expect.stringMatching(said) }]);
      expect(result).toMatchObject({ variant: 'power', reviewed: 'plain', candidates: ['plain', id, 'power'] });
      expect(asked.flatMap(({ ids }) => ids)).not.toContain(id);
      // Nothing is left behind: no memory but for reading back, no error, no tuning.
      const { live, byKind } = engine.memory.report();
      expect(live - (byKind.staging ?? 0)).toBeLessThanOrEqual(before);
      expect(engine.tuning).toBeUndefined();
      await engine.idle();
      const { tuned, problem } = squareFamily(['plain']);
      const trial = tuned.trial(problem.shape, { samples: 2, tokens: 5 });
      expect((await checkCase(engine, trial.contract, trial.case)).forward).toBeLessThan(1e-6);
    },
  );

  it('where the reviewed one computes wrong, the fastest that does not takes its place without having to beat it', async () => {
    if (!engine) return;
    const { result } = await tuneSquares(['unwritten', 'plain', 'power'], { plain: 1, power: 0.999, unwritten: 0.1 });
    expect(result).toMatchObject({ variant: 'plain', reviewed: 'unwritten', rejected: [{ variant: 'unwritten' }] });
    const none = await tuneSquares(['unwritten', 'no-wgsl'], {});
    expect(none.result).toMatchObject({ variant: null, seconds: null, challenger: null });
    expect(none.result.rejected.map(({ variant }) => variant)).toEqual(['unwritten', 'no-wgsl']);
  });

  it('the reviewed one stays where nothing beats it by more than the noise', async () => {
    if (!engine) return;
    const slower = await tuneSquares(['plain', 'power'], { plain: 1, power: 1.5 });
    expect(slower.result).toMatchObject({
      variant: 'plain',
      rejected: [],
      seconds: { reviewed: [1, 1], variant: [1, 1] },
      challenger: { variant: 'power', ratio: { ratio: 1.5 } },
    });
    const hardly = await tuneSquares(['plain', 'power'], { plain: 1, power: 0.98 });
    expect(hardly.result.variant).toBe('plain');
  });

  it('what takes twice as long is out after one round', async () => {
    if (!engine) return;
    const { result, asked } = await tuneSquares(['plain', 'power'], { plain: 1, power: 2.1 });
    expect(asked).toEqual([{ ids: ['plain', 'power'], rounds: 1 }]);
    expect(result).toMatchObject({ variant: 'plain', challenger: null, seconds: { reviewed: [1, 1] } });
  });
};

describe('on lavapipe', () => both('lavapipe'));
describe('on SwiftShader', () => both('swiftshader'));

describe('a run', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = (await createNodeEngine({ onError: () => {} })).engine;
  });
  afterAll(() => engine.dispose());

  const { tuned } = squareFamily(['plain', 'power']);
  const families = [tuned];
  const problem = (width: number, uses: number): TuningProblem => ({
    ...{ family: 'square', shape: { width }, tokens: 4, uses },
  });
  const problems = [problem(24, 1)];
  const { time } = clockOf({ plain: 1, power: 0.5 });

  it('leaves out what is known, unless the kernels, the variants or the reviewed choice are others', async () => {
    const first = await tune(engine, problems, { families, time });
    expect(first.results).toHaveLength(1);
    const second = await tune(engine, problems, { families, time, known: first.results });
    expect(second).toEqual({ results: [], known: problems, single: [], left: [], uncovered: [] });
    const [result] = first.results as [TuningResult];
    for (const known of [
      { ...result, kernels: '0123456789abcdef' },
      { ...result, reviewed: 'power' },
      { ...result, candidates: ['plain'] },
    ]) {
      expect((await tune(engine, problems, { families, time, known: [known] })).results).toEqual(first.results);
    }
  });

  it('has nothing to choose where there is one variant', async () => {
    const one = squareFamily(['plain']);
    const done = await tune(engine, problems, { families: [one.tuned], time });
    expect(done).toMatchObject({ results: [], single: problems });
  });

  it('says which problems no trial exercises, and measures nothing for them', async () => {
    const [other] = [problem(25, 1)];
    const done = await tune(engine, [other!], { families, time });
    expect(done).toMatchObject({ results: [], uncovered: [other] });
  });

  it('ends when the budget is spent, also within a problem, but not before the first is done', async () => {
    let seconds = 0;
    const wide = squareFamily(['plain', 'power'], 48);
    const both = {
      ...tuned,
      trial: (shape: TuningProblem['shape'], size: { samples: number; tokens: number }) =>
        (shape.width === 48 ? wide.tuned : tuned).trial(shape, size),
    };
    const three = [problem(24, 1), problem(48, 3), problem(24, 2)];
    const begun = new Set<number>();
    const options = {
      ...{ families: [both], time, now: () => seconds },
      onProgress({ index }: { index: number }) {
        begun.add(index);
        seconds += 10;
      },
    };
    const done = await tune(engine, three, { ...options, budget: 5 });
    // What weighs most comes first.
    expect(done.results.map(({ shape }) => shape)).toEqual([{ width: 48 }]);
    expect(done.left).toEqual([three[2], three[0]]);
    expect([...begun]).toEqual([0]);
    // In the middle of the second.
    const first = seconds;
    begun.clear();
    seconds = 0;
    const more = await tune(engine, three, { ...options, budget: first + 5 });
    expect(more.results).toHaveLength(1);
    expect(more.left).toEqual([three[2], three[0]]);
    expect([...begun]).toEqual([0, 1]);
    expect(engine.tuning).toBeUndefined();
  });

  it('whose budget is spent within a problem keeps what it found, and the next goes on with the variants that are left', async () => {
    const { tuned: three, problem: one } = squareFamily([
      'plain',
      'late-element-off',
      'power',
      'unwritten',
      'plain-too',
    ]);
    const clock = clockOf({ plain: 1, power: 0.5, 'plain-too': 0.25 });
    const options = { families: [three], batches: [1], time: clock.time, budget: 0 };
    let known: readonly TuningResult[] = [];
    const steps: unknown[] = [];
    for (let run = 0; run < 5; run++) {
      const done = await tune(engine, [one], { ...options, known });
      const [result] = done.results;
      steps.push([result?.variant, result?.untried, done.left.length, result?.rejected.map(({ variant }) => variant)]);
      known = result ? done.results : known;
    }
    expect(steps).toEqual([
      ['plain', ['power', 'unwritten', 'plain-too'], 1, ['late-element-off']],
      ['power', ['unwritten', 'plain-too'], 1, ['late-element-off']],
      // What was found before is timed again, and one that is left beside it.
      ['power', ['plain-too'], 1, ['late-element-off', 'unwritten']],
      ['plain-too', [], 0, ['late-element-off', 'unwritten']],
      [undefined, undefined, 0, undefined],
    ]);
  });

  it('runs what is far slower at a small size at no larger one that would take long', async () => {
    const run = async (flops: number) => {
      const { tuned: some, problem: one } = squareFamily(['plain', 'slow', 'power']);
      const clock = clockOf({ plain: 1, power: 0.5, slow: 0.1 });
      const trial: typeof some.trial = (shape, size) => {
        const { contract: c, case: k } = some.trial(shape, size);
        const cost = (of: object) => ({ flops: (of as { rows: number }).rows > 100 ? flops : 1, bytes: 1 });
        return { contract: { ...c, bench: { cases: [], cost } }, case: k };
      };
      const { results } = await tune(engine, [one], { families: [{ ...some, trial }], time: clock.time });
      expect(results).toMatchObject([{ rejected: [] }]);
      return results[0]!.variant;
    };
    expect(await run(1)).toBe('slow');
    expect(await run(1e12)).toBe('power');
  });

  it('says what it is about to run, and rejects what a device was lost with without running it', async () => {
    const { tuned: some, problem: one } = squareFamily(['plain', 'power', 'plain-too']);
    const tried: string[] = [];
    const { results } = await tune(engine, [one], {
      ...{ families: [some], time: clockOf({ plain: 1, power: 0.1, 'plain-too': 0.5 }).time },
      suspects: [
        { ...one, variant: 'power' },
        { ...one, variant: 'plain' }, // what is taken without tuning is run all the same
        { ...one, shape: { width: 25 }, variant: 'plain-too' },
      ],
      onTry: ({ variant }) => void tried.push(variant),
    });
    expect(tried).toEqual(['plain', 'plain-too']);
    expect(results[0]).toMatchObject({
      variant: 'plain-too',
      rejected: [{ variant: 'power', error: expect.stringContaining('was lost while it was tried') }],
    });
  });

  it('makes inputs and references once, however many candidates there are', async () => {
    const counted = async (ids: readonly string[]) => {
      const { tuned: some, problem: one } = squareFamily(ids);
      const made = { inputs: 0, references: 0 };
      const trial: typeof some.trial = (shape, size) => {
        const { contract: c, case: k } = some.trial(shape, size);
        const fill = (_: number, normal: () => number) => {
          made.inputs++;
          return normal();
        };
        const inputs = (of: object) => ({ x: { ...c.inputs(of).x!, fill } });
        const reference: typeof c.reference = (from, of) => {
          made.references++;
          return c.reference(from, of);
        };
        return { contract: { ...c, inputs, reference }, case: k };
      };
      const seconds = { plain: 1, power: 0.5, 'plain-too': 0.9 };
      const { results } = await tune(engine, [one], {
        families: [{ ...some, trial }],
        time: clockOf(seconds).time,
      });
      expect(results).toMatchObject([{ variant: 'power', rejected: [] }]);
      return made;
    };
    const [two, three] = [await counted(['plain', 'power']), await counted(['plain', 'power', 'plain-too'])];
    expect(two.references).toBeGreaterThan(0);
    expect(three).toEqual(two);
  });

  it('that is interrupted has told what it found', async () => {
    const wide = squareFamily(['plain', 'power'], 48);
    const both = {
      ...tuned,
      trial: (shape: TuningProblem['shape'], size: { samples: number; tokens: number }) =>
        (shape.width === 48 ? wide.tuned : tuned).trial(shape, size),
    };
    const controller = new AbortController();
    const kept: TuningResult[] = [];
    const onResult = (result: TuningResult) => {
      kept.push(result);
      controller.abort();
    };
    const interrupted = tune(engine, [problem(24, 1), problem(48, 3)], {
      ...{ families: [both], time, onResult, signal: controller.signal },
    });
    expect((await rejection(interrupted, InterruptedError)).message).toBe(
      'tuning was interrupted after 1 of 2 problems',
    );
    expect(kept).toMatchObject([{ shape: { width: 48 }, variant: 'power' }]);
    expect(engine.tuning).toBeUndefined();
  });

  it('leaves out batches whose tensors the device cannot bind', async () => {
    // Rows of 24 floats, four a sample: 16 samples take 6,144 bytes.
    const small = new Engine(engine.device, engine.adapterClass, { ownsDevice: false, largestBinding: 6000 });
    const done = await tune(small, problems, { families, time });
    expect(done.results).toMatchObject([{ batches: [1], rejected: [], seconds: { reviewed: [1] } }]);
    const none = await tune(small, problems, { families, time, batches: [16] });
    expect(none).toMatchObject({ results: [], uncovered: problems });
  });

  it('refuses batches that make no sense', async () => {
    for (const batches of [[], [0], [1.5]]) {
      await rejection(tune(engine, problems, { families, time, batches }), ConfigError);
    }
  });

  it('times by the real clock where none is given', async () => {
    const { results } = await tune(engine, problems, { families, batches: [1] });
    expect(results[0]!.rejected).toEqual([]);
    const { seconds, challenger } = results[0]!;
    expect(seconds === null || seconds.reviewed.every((s) => s > 0)).toBe(true);
    expect(challenger === null || challenger.ratio.low <= challenger.ratio.high).toBe(true);
  });
});
