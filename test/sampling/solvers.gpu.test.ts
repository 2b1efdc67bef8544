/** All solvers on a network: orders of convergence, what is asked is reached, guidance in an interval, memory, and refusals. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../engine/engine.ts';
import { ConvergenceError, InterruptedError, NonFiniteError } from '../../engine/errors.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { estimateSampling } from '../../sampling/budget.ts';
import { isAdaptive, type SampleProgress, type SampleRequest, type Solver } from '../../sampling/request.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { relativeError } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';

const config: ModelConfig = preset('tiny', {
  ...{ imageSize: 8, patch: 2, width: 24, heads: 2, depth: 4, lengths: { min: 2, group: 2 } },
});
const source = memorySource(formulaParams(config, 7, { strong: true }));
const labels = [3, null, 7];
const PIXELS = 64;

let engine: Engine;
let model: ResidentModel;
let sampler: Sampler;
beforeAll(async () => {
  engine = await testEngine();
  model = new ResidentModel(engine, config, source);
  sampler = new Sampler(engine, model, { batch: 3 });
});
afterAll(() => engine.dispose());

/** Adaptive solvers in the field of level 0, as `fixed` below. */
const draw = async (request: Partial<SampleRequest>) =>
  sampler.sample({
    ...{ labels, blocks: 4, seed: 4 },
    ...(request.solver && isAdaptive(request.solver) ? { level: 0 } : {}),
    ...request,
  });
/** With level 0 whatever T is, so that all of them follow the same field. */
const fixed = async (solver: Solver, steps: number, more: Partial<SampleRequest> = {}) =>
  (await draw({ solver, steps, level: 0, ...more })).values;

const truths = new Map<string, Promise<Float32Array>>();
/** Where the field leads, by steps far smaller than those under test: once for all tests that ask for the same. */
function truthOf(more: Partial<SampleRequest> = {}): Promise<Float32Array> {
  const key = JSON.stringify(more);
  const known = truths.get(key) ?? fixed('rk4', 128, more);
  truths.set(key, known);
  return known;
}

describe('fixed steps', () => {
  it.each([
    ['euler', 1, 32, 1],
    ['midpoint', 2, 16, 2],
    ['heun', 2, 16, 2],
    ['rk4', 4, 8, 4],
  ] as const)('%s: half the step divides the error by 2^%d', async (solver, order, steps, evaluations) => {
    // Without labels, where the field is smooth enough for steps so large that rounding does not count.
    const unlabelled = { guidance: 0 };
    const truth = await truthOf(unlabelled);
    const errors: number[] = [];
    for (const n of [steps, 2 * steps]) errors.push(relativeError(await fixed(solver, n, unlabelled), truth));
    // Far above the rounding of float32.
    expect(errors[1]).toBeGreaterThan(3e-6);
    expect(errors[0]).toBeLessThan(0.2);
    expect(Math.log2(errors[0]! / errors[1]!)).toBeGreaterThan(order - 0.3);
    expect(Math.log2(errors[0]! / errors[1]!)).toBeLessThan(order + 1);
    const seen: SampleProgress[] = [];
    const result = await draw({ solver, steps: 2, onProgress: (progress) => seen.push(progress) });
    expect(result.evaluations).toBe(2 * evaluations);
    expect(result.solves).toEqual([{ accepted: [0.5, 1], rejected: 0 }]);
    expect(seen).toHaveLength(2 * evaluations);
    expect(seen.at(-1)).toEqual({
      ...{ done: 2 * evaluations, total: 2 * evaluations, t: 1, accepted: 2, rejected: 0 },
    });
    expect(seen[evaluations - 1]).toMatchObject({ t: 0.5, accepted: 1 });
  });

  it('are told log2 T, like Euler: another level is another picture', async () => {
    const told = (await draw({ solver: 'rk4', steps: 4 })).values;
    expect(told).toEqual(await fixed('rk4', 4, { level: 2 }));
    expect(relativeError(await fixed('rk4', 4), told)).toBeGreaterThan(1e-3);
  });

  for (const solver of ['midpoint', 'heun', 'rk4', 'consistency'] as const) {
    it(`${solver}: a sample has the same bits whatever the batch`, async () => {
      const narrow = new Sampler(engine, model, { batch: 2 });
      const request = { solver, steps: 4, guidance: 1.5 };
      const all = await draw(request);
      const pieces = await narrow.sample({ labels, blocks: 4, seed: 4, ...request });
      expect(pieces.solves).toHaveLength(2);
      expect(pieces.values).toEqual(all.values);
      const alone = await narrow.sample({ labels: [7], blocks: 4, seed: 4, first: 2, ...request });
      expect(alone.values).toEqual(all.values.subarray(2 * PIXELS));
      narrow.dispose();
    });
  }
});

describe('consistency', () => {
  it("goes to the end and back with new noise of the seed, or the caller's", async () => {
    const noise = Float32Array.from({ length: 3 * PIXELS }, (_, i) => Math.sin(i));
    const eps = noise.map((x) => Math.cos(7 * x));
    const given = { noise, solver: 'consistency', steps: 2 } as const;
    const { values } = await draw({ ...given, renoise: [eps] });
    // One step of length 1 is the first half; from what is mixed, another goes on.
    const predicted = (await draw({ noise, steps: 1, level: 0 })).values;
    const network = new Network(engine, config);
    network.load(7, true);
    const x = predicted.map((value, i) => 0.5 * value + 0.5 * eps[i]!);
    const rows = { t: [0.5, 0.5, 0.5], step: [0, 0, 0], labels: [3, config.classes, 7], lengths: [4, 4, 4] };
    const v = await network.velocity({ x, ...rows });
    network.dispose();
    expect(
      relativeError(
        values,
        x.map((value, i) => value + 0.5 * v[i]!),
      ),
    ).toBeLessThan(1e-5);
    const [one, other] = [await draw({ ...given }), await draw({ ...given, seed: 5 })];
    expect(relativeError(other.values, one.values)).toBeGreaterThan(0.01);
    expect((await draw({ ...given })).values).toEqual(one.values);
    // Noise is mixed in with its own deviation of one.
    const spread = one.values.map((value, i) => value - values[i]!);
    expect(Math.sqrt(spread.reduce((s, d) => s + d * d, 0) / spread.length)).toBeGreaterThan(0.3);
  });
});

describe('adaptive solvers', () => {
  for (const solver of ['dopri5', 'tsit5'] as const) {
    it(`${solver} is as exact as asked, guided by any weight`, async () => {
      for (const guidance of [0, 1, 2.5]) {
        const truth = await truthOf({ guidance });
        let before = 0;
        for (const tolerance of [1e-2, 1e-3, 1e-4]) {
          const { values, solves, evaluations } = await draw({ solver, tolerance, guidance });
          const [{ accepted, rejected }] = solves as [(typeof solves)[0]];
          expect(relativeError(values, truth), `${guidance} ${tolerance}`).toBeLessThan(10 * tolerance);
          expect(evaluations).toBe(1 + 6 * (accepted.length + rejected));
          expect(accepted.at(-1)).toBe(1);
          expect(accepted.length + rejected).toBeGreaterThanOrEqual(before);
          before = accepted.length + rejected;
        }
      }
    });

    it(`${solver} tells accepted and rejected steps, and comes through rejections`, async () => {
      const seen: SampleProgress[] = [];
      const options = { solver, tolerance: 1e-4, guidance: 2.5, firstStep: 1 } as const;
      const result = await draw({ ...options, onProgress: (progress) => seen.push(progress) });
      const [{ accepted, rejected }] = result.solves as [(typeof result.solves)[0]];
      expect(rejected).toBeGreaterThan(0);
      expect(seen.at(-1)).toEqual({
        ...{ done: result.evaluations, total: null, t: 1, accepted: accepted.length, rejected },
      });
      expect(Math.max(...seen.map((p) => p.done))).toBe(result.evaluations);
      expect(seen.map(({ t }) => t)).toEqual(seen.map(({ t }) => t).sort((a, b) => a - b));
      expect(relativeError(result.values, await truthOf({ guidance: 2.5 }))).toBeLessThan(5e-4);
      // Nothing of a rejected step is left: again, and after other solvers, the same bits.
      await draw({ solver: 'rk4', steps: 2 });
      await draw({ steps: 2 });
      expect((await draw(options)).values).toEqual(result.values);
    });

    it(`${solver} takes other controllers and finds a first step`, async () => {
      const truth = await truthOf();
      for (const more of [{ controller: 'pi' }, { firstStep: 'auto' }] as const) {
        const { values, solves } = await draw({ solver, tolerance: 1e-4, ...more });
        expect(relativeError(values, truth)).toBeLessThan(1e-3);
        if ('firstStep' in more) expect(solves[0]!.accepted[0]).not.toBe(0.01);
      }
    });
  }

  it('judge all samples of a batch together, so that other batches take other steps', async () => {
    const narrow = new Sampler(engine, model, { batch: 1 });
    const request = { solver: 'tsit5', tolerance: 1e-3, level: 0 } as const;
    const { solves, values } = await narrow.sample({ labels, blocks: 4, seed: 4, ...request });
    const together = await draw(request);
    expect(new Set([...solves, ...together.solves].map(({ accepted }) => accepted.join())).size).toBeGreaterThan(1);
    expect(relativeError(values, together.values)).toBeLessThan(5e-3);
    narrow.dispose();
  });

  it('that do not reach the end say how far they came, and the sampler goes on', async () => {
    const options = { solver: 'dopri5', tolerance: 1e-4 } as const;
    const error = await draw({ ...options, tolerance: 1e-2, maxSteps: 2 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ConvergenceError);
    expect(error).toMatchObject({ t: expect.closeTo(0.11, 6), accepted: 2, rejected: 0, tolerance: 1e-2 });
    expect((error as Error).message).toMatch(/^the solver reached t = 0\.11 of 1 in 2 accepted and 0 rejected steps/);
    const huge = draw({ ...options, noise: new Float32Array(3 * PIXELS).fill(3e38) });
    await expect(huge).rejects.toThrow(NonFiniteError);
    await expect(huge).rejects.toThrow('the step from t = 0 to 0.01 is not finite');
    const controller = new AbortController();
    const aborted = draw({ ...options, signal: controller.signal, onProgress: () => controller.abort() });
    await expect(aborted).rejects.toThrow(InterruptedError);
    await expect(aborted).rejects.toThrow(/interrupted after \d+ evaluations/);
    expect((await draw(options)).values).toEqual((await draw(options)).values);
  });
});

describe('guidance in an interval', () => {
  it('guides there, and takes the label elsewhere', async () => {
    const network = new Network(engine, config);
    network.load(7, true);
    const all = (value: number) => [value, value, value];
    const velocity = (x: Float32Array, t: number, classes: number[]) =>
      network.velocity({ x, t: all(t), step: all(2), labels: classes, lengths: all(4) });
    const noise = Float32Array.from({ length: 3 * PIXELS }, (_, i) => Math.sin(i * i));
    const x = noise.slice();
    for (const [i, guided] of [false, true, true, false].entries()) {
      const c = await velocity(x, i / 4, [3, 1, 7]);
      const u = guided ? await velocity(x, i / 4, all(config.classes)) : c;
      for (let e = 0; e < x.length; e++) x[e] = x[e]! + (u[e]! + 2.5 * (c[e]! - u[e]!)) / 4;
    }
    network.dispose();
    // Guided by 2.5 with u = c is c itself.
    const request = { noise, labels: [3, 1, 7], steps: 4, guidance: 2.5 };
    for (const options of [{ ahead: false }, { ahead: true }, { residentBlocks: 1 }]) {
      const one = new Sampler(engine, model, { batch: 3, ...options });
      const { values } = await one.sample({ ...request, blocks: 4, guidanceInterval: [0.2, 0.6] });
      expect(relativeError(values, x), JSON.stringify(options)).toBeLessThan(1e-5);
      one.dispose();
    }
    const everywhere = await draw({ ...request, guidanceInterval: [0, 1] });
    expect(everywhere.values).toEqual((await draw(request)).values);
    expect(relativeError(x, everywhere.values)).toBeGreaterThan(1e-3);
  });

  it('holds for adaptive solvers too', async () => {
    const request = { guidance: 2.5, guidanceInterval: [0.25, 0.75] } as const;
    const { values } = await draw({ solver: 'tsit5', tolerance: 1e-4, ...request });
    // The field jumps at the ends of the interval, which costs accuracy there.
    expect(relativeError(values, await truthOf(request))).toBeLessThan(0.02);
    expect(relativeError(values, await truthOf({ guidance: 2.5 }))).toBeGreaterThan(0.1);
  });
});

describe('memory', () => {
  const requests: Partial<SampleRequest>[] = [
    { solver: 'heun', steps: 4 },
    { solver: 'rk4', steps: 2, guidance: 2 },
    { solver: 'consistency', steps: 4 },
    { solver: 'dopri5' },
    { solver: 'tsit5', guidance: 2, guidanceInterval: [0.3, 0.6] },
    { solver: 'tsit5', firstStep: 'auto' },
    { steps: 4, guidance: 2, guidanceInterval: [0.3, 0.6] },
  ];
  const ways: SamplerOptions[] = [{}, { ahead: true }, { residentBlocks: 1 }];
  it.each(requests)('estimates equal what is allocated: %o', async (part) => {
    for (const options of ways) {
      const fresh = new Engine(engine.device, engine.adapterClass, { ownsDevice: false });
      const request = { labels, ...part };
      const settings = { blocks: 4, precision: 'f32', batch: 2, ...options } as const;
      const { peak, live } = await estimateSampling(fresh, config, settings, request);
      const one = new Sampler(fresh, new ResidentModel(fresh, config, source), { batch: 2, ...options });
      await one.sample({ ...request, blocks: 4 });
      const found = fresh.memory.report();
      expect({ peak: found.peak, live: found.live }, JSON.stringify(options)).toEqual({ peak, live });
      fresh.dispose();
    }
  });

  it('what a solver keeps goes with the next request, and comes again', async () => {
    const one = new Sampler(engine, model, { batch: 2 });
    const live = async (request: Partial<SampleRequest>) => {
      await one.sample({ labels: [1, 2], blocks: 4, ...request });
      return engine.memory.report().byKind.activations!;
    };
    const few = await live({ steps: 2 });
    const many = await live({ solver: 'dopri5' });
    // The state and seven velocities of two samples; the slabs may have grown by the error.
    expect(many - few).toBeGreaterThanOrEqual(8 * 2 * PIXELS * 4);
    for (let i = 0; i < 5; i++) {
      expect(await live({ steps: 2 })).toBe(few + (many - few - 8 * 2 * PIXELS * 4));
      expect(await live({ solver: 'dopri5' })).toBe(many);
    }
    one.dispose();
  });

  it('modulations ahead and streamed blocks give the same to rounding', async () => {
    for (const request of [
      { solver: 'rk4', steps: 4 },
      { solver: 'dopri5', tolerance: 1e-2, level: 0 },
    ] as const) {
      const inline = (await draw(request)).values;
      for (const options of [{ ahead: true }, { residentBlocks: 1 }]) {
        const one = new Sampler(engine, model, { batch: 3, ...options });
        const { values } = await one.sample({ labels, blocks: 4, seed: 4, ...request });
        expect(relativeError(values, inline), JSON.stringify(options)).toBeLessThan(1e-5);
        one.dispose();
      }
    }
  });
});

describe('a part of a request', () => {
  it.each([
    // By itself the first part, of one class, would compute its modulations ahead, and round otherwise.
    { solver: 'euler', steps: 16, level: 0 },
    { solver: 'tsit5', tolerance: 1e-2, level: 0 },
  ] as const)('has the samples of the whole, to the bit: $solver', async (how) => {
    const request = { labels: [1, 1, 1, 2, 3, 4, 5], blocks: 4, seed: 4, ...how };
    const one = new Sampler(engine, model, { batch: 3 });
    const whole = await one.sample(request);
    expect(whole.range).toEqual([0, 7]);
    const parts = [];
    for (const index of [1, 0]) parts[index] = await one.sample({ ...request, shard: { index, of: 2 } });
    expect(parts.map(({ range }) => range)).toEqual([
      [0, 3],
      [3, 7],
    ]);
    expect(parts.flatMap(({ values }) => [...values])).toEqual([...whole.values]);
    expect(parts.flatMap(({ solves }) => solves)).toEqual(whole.solves);
    expect(parts[1]!.shape).toEqual([4, 8, 8, 1]);
    await expect(one.sample({ ...request, shard: { index: 0, of: 4 } })).rejects.toThrow(
      '7 samples in batches of 3 are 3, which cannot be 4 parts',
    );
    await expect(one.sample({ ...request, shard: { index: 2, of: 2 } })).rejects.toThrow('shard is {"index":2,"of":2}');
    one.dispose();
  });
});
