/** The sampler: batch independence, residency of blocks, guidance, and its refusals. Agreement with the reference is test/verify/verify.gpu.test.ts's. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dryEngine } from '../../engine/dry-device.ts';
import { eager } from '../../engine/eager.ts';
import type { Engine } from '../../engine/engine.ts';
import { ConfigError, InterruptedError, UsageError } from '../../engine/errors.ts';
import { attention } from '../../kernels/attention/attention.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Inspector, type InspectRequest } from '../../sampling/inspect.ts';
import { jaxNoise } from '../../sampling/jax-draws.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';

const config: ModelConfig = preset('tiny', {
  imageSize: 8,
  patch: 2,
  width: 24,
  heads: 2,
  depth: 6,
  lengths: { min: 2, group: 2 },
});
let engine: Engine;
let model: ResidentModel;
beforeAll(async () => {
  engine = await testEngine();
  model = new ResidentModel(engine, config, memorySource(formulaParams(config, 7, { strong: true })));
});
afterAll(() => engine.dispose());

const labels = [3, null, 7, 0, 9];

describe('a sample is the same', () => {
  for (const guidance of [1, 2.5]) {
    it(`whatever the batch it is drawn in (guidance ${guidance})`, async () => {
      const request = { labels, steps: 4, blocks: 4, guidance, seed: 11 };
      const wide = new Sampler(engine, model, { batch: 5 });
      const narrow = new Sampler(engine, model, { batch: 2 });
      const all = await wide.sample(request);
      const pieces = await narrow.sample(request);
      expect(Buffer.from(pieces.values.buffer).equals(Buffer.from(all.values.buffer))).toBe(true);
      const alone = await narrow.sample({ ...request, labels: [labels[3]!], first: 3 });
      expect(alone.values).toEqual(all.values.subarray(3 * 64, 4 * 64));
      wide.dispose();
      narrow.dispose();
    });
  }

  it('after other lengths have run in the same memory', async () => {
    const sampler = new Sampler(engine, model, { batch: 5 });
    const request = { labels, steps: 2, blocks: 6, seed: 1 };
    const before = await sampler.sample(request);
    await sampler.sample({ ...request, blocks: 2 });
    await sampler.sample({ ...request, blocks: 4, guidance: 3 });
    expect((await sampler.sample(request)).values).toEqual(before.values);
    sampler.dispose();
  });
});

it("starts from the reference's noise where it is asked to, whatever the batch", async () => {
  const sampler = new Sampler(engine, model, { batch: 2 });
  const request = { labels, steps: 2, blocks: 4, seed: 42 };
  const noise = jaxNoise(42, 0, [labels.length, 8, 8, 1]);
  const expected = (await sampler.sample({ ...request, noise })).values;
  expect((await sampler.sample({ ...request, rng: 'jax' })).values).toEqual(expected);
  const tail = await sampler.sample({ ...request, labels: labels.slice(3), first: 3, rng: 'jax' });
  expect(tail.values).toEqual(expected.subarray(3 * 64));
  expect((await sampler.sample(request)).values).not.toEqual(expected);
  expect((await sampler.sample({ ...request, rng: 'odelt' })).values).not.toEqual(expected);
  await expect(sampler.sample({ ...request, rng: 'numpy' as never })).rejects.toThrow(
    "rng is 'numpy'; it must be one of odelt, jax",
  );
  sampler.dispose();
});

it('depends on the seed, the blocks, the steps and the label', async () => {
  const sampler = new Sampler(engine, model, { batch: 1 });
  const base = { labels: [3], steps: 2, blocks: 4, seed: 1 };
  const values = await Promise.resolve(sampler.sample(base)).then((s) => s.values);
  for (const other of [{ seed: 2 }, { blocks: 6 }, { steps: 4 }, { labels: [4] }]) {
    const changed = (await sampler.sample({ ...base, ...other })).values;
    const difference = Math.sqrt(changed.reduce((s, v, i) => s + (v - values[i]!) ** 2, 0) / changed.length);
    expect(difference, JSON.stringify(other)).toBeGreaterThan(1e-4);
  }
  sampler.dispose();
});

it('guidance 0 is "no class", 1 the label, w the line through both', async () => {
  const sampler = new Sampler(engine, model, { batch: 2 });
  const at = async (guidance: number, asked: (number | null)[]) =>
    (await sampler.sample({ labels: asked, steps: 1, blocks: 6, seed: 5, guidance })).values;
  const none = await at(1, [null, null]);
  const label = await at(1, [2, 8]);
  expect(await at(0, [2, 8])).toEqual(none);
  const guided = await at(1.5, [2, 8]);
  for (let i = 0; i < guided.length; i++) expect(guided[i]!).toBeCloseTo(none[i]! + 1.5 * (label[i]! - none[i]!), 4);
  sampler.dispose();
});

it('holds the weights of the blocks in use, and no buffer is left behind', async () => {
  const before = engine.memory.report();
  const sampler = new Sampler(engine, model, { batch: 1, ahead: false });
  const bytes = new Map<number, number>();
  const expected = (blocks: number) => {
    const { groups } = model.weights.layout;
    // patches, condition, two groups per block, two of the head.
    return [...groups.slice(0, 2 + 2 * blocks), ...groups.slice(-2)].reduce((s, g) => s + 4 * g.length, 0);
  };
  // Each number of blocks has a program (its uniforms stay); after that only the weights come and go.
  for (const blocks of [2, 4, 6]) await sampler.sample({ labels: [1], steps: 1, blocks });
  for (const blocks of [6, 2, 4, 6, 2]) {
    await sampler.sample({ labels: [1], steps: 1, blocks });
    expect(model.weights.bytes).toBe(expected(blocks));
    const { live } = engine.memory.report();
    expect(bytes.get(blocks) ?? live).toBe(live);
    bytes.set(blocks, live);
  }
  expect(bytes.get(6)! - bytes.get(2)!).toBe(expected(6) - expected(2));
  await sampler.sample({ labels: [1], steps: 1, blocks: 6 });
  await sampler.sample({ labels: [1], steps: 1, blocks: 2, keepBlocks: true });
  expect(model.weights.bytes).toBe(expected(6));
  sampler.dispose();
  model.weights.release();
  expect(engine.memory.report().byKind.activations ?? 0).toBe(before.byKind.activations ?? 0);
});

it('refuses what makes no sense, naming the remedy', async () => {
  const sampler = new Sampler(engine, model, { batch: 1 });
  const refusal = async (request: object): Promise<string> => {
    try {
      await sampler.sample({ labels: [1], steps: 2, ...request });
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return `${(error as Error).message} ${(error as ConfigError).hint}`;
    }
    throw new Error(`nothing refused ${JSON.stringify(request)}`);
  };
  expect(await refusal({ steps: 3 })).toMatch(
    /1, 2, 4, 8, 16, 32, 64, 128 steps; 3 steps are none of them.*one of those/s,
  );
  expect(await refusal({ steps: 256 })).toMatch(/256/);
  expect(await refusal({ steps: 0 })).toMatch(/positive/);
  expect(await refusal({ blocks: 3 })).toMatch(/3 of its 6 blocks.*2, 4, 6/s);
  expect(await refusal({ labels: [10] })).toMatch(/class 10.*0 to 9/s);
  expect(await refusal({ guidance: Number.NaN })).toMatch(/finite/);
  sampler.dispose();
});

it('takes no more samples at once than could be bound, and refuses numbers beyond 2^32 before it computes', async () => {
  // Where nothing is allocated: the largest binding may be more memory than there is.
  const dry = dryEngine(engine);
  const counted = new ResidentModel(dry, config, memorySource(formulaParams(config, 7)));
  expect(new Sampler(dry, counted, { batch: 1e15 }).batch).toBe(Math.floor(engine.largestBinding / (4 * 64)));
  const small = new Sampler(engine, model, { batch: 2 });
  const request = { labels: [3], steps: 1, blocks: 2, seed: 5 };
  const { values } = await small.sample(request);
  const last = await small.sample({ ...request, first: 2 ** 32 - 1 });
  expect(last.values).not.toEqual(values);
  // On the GPU these would be the numbers of sample 0.
  for (const first of [2 ** 32, Number.NaN]) {
    await expect(small.sample({ ...request, first })).rejects.toThrow(`first is ${first}; it must be an integer`);
  }
  for (const nothing of [null, undefined, {}]) {
    await expect(small.sample(nothing as never)).rejects.toThrow(UsageError);
  }
  small.dispose();
});

it('stops at an abort with InterruptedError, and samples again afterwards', async () => {
  const sampler = new Sampler(engine, model, { batch: 1 });
  const controller = new AbortController();
  const seen: number[] = [];
  const request = { labels: [1, 2], steps: 4, seed: 9 };
  const aborted = sampler.sample({
    ...request,
    signal: controller.signal,
    onProgress: ({ done, total }) => {
      expect(total).toBe(8);
      seen.push(done);
      if (done === 3) controller.abort(new Error('enough'));
    },
  });
  await expect(aborted).rejects.toThrow(InterruptedError);
  await expect(aborted).rejects.toMatchObject({ cause: { message: 'enough' } });
  expect(seen).toEqual([1, 2, 3]);
  const fresh = new Sampler(engine, model, { batch: 1 });
  expect((await sampler.sample(request)).values).toEqual((await fresh.sample(request)).values);
  sampler.dispose();
  fresh.dispose();
});

describe('modulations computed ahead and streamed blocks', () => {
  const relative = (got: Float32Array, want: Float32Array) =>
    Math.sqrt(got.reduce((s, v, i) => s + (v - want[i]!) ** 2, 0) / want.reduce((s, v) => s + v * v, 0));

  for (const guidance of [1, 2]) {
    it(`give the same pictures to rounding, with fewer bytes (guidance ${guidance})`, async () => {
      const fresh = () => new ResidentModel(engine, config, memorySource(formulaParams(config, 7, { strong: true })));
      const request = { labels: [3, null, 7], steps: 4, seed: 2, guidance };
      const live: Record<string, number> = {};
      const results: Record<string, Float32Array> = {};
      for (const [name, options] of Object.entries({
        inline: { ahead: false },
        ahead: { ahead: true },
        streamed: { residentBlocks: 2 },
        single: { residentBlocks: 1 },
      })) {
        const one = fresh();
        const sampler = new Sampler(engine, one, { batch: 2, ...options });
        for (const blocks of [6, 2, 4, 6]) {
          const { values } = await sampler.sample({ ...request, blocks });
          const key = `${name}/${blocks}`;
          if (results[key]) expect(values, `${key} again`).toEqual(results[key]);
          results[key] = values;
        }
        live[name] = one.weights.bytes;
        const resident = one.weights.layout.groups.filter(
          (g, i) => /^block\d+$/.test(g.name) && one.weights.isResident(i),
        );
        expect(resident.length).toBe(name === 'streamed' ? 2 : name === 'single' ? 1 : 6);
        if (name !== 'inline') {
          const modulations = one.weights.layout.groups.filter(
            (g, i) => /modulation|condition/.test(g.name) && one.weights.isResident(i),
          );
          expect(modulations).toEqual([]);
        }
        sampler.dispose();
        one.dispose();
      }
      for (const blocks of [2, 4, 6]) {
        for (const name of ['ahead', 'streamed', 'single']) {
          expect(
            relative(results[`${name}/${blocks}`]!, results[`inline/${blocks}`]!),
            `${name}/${blocks}`,
          ).toBeLessThan(1e-5);
        }
      }
      expect(live.ahead!).toBeLessThan(0.72 * live.inline!);
      expect(live.streamed!).toBeLessThan(0.45 * live.ahead!);
    });
  }

  for (const options of [{ ahead: false }, { residentBlocks: 2 }]) {
    it(`keep live bytes flat over 90 changes of length and 256 steps (${JSON.stringify(options)})`, async () => {
      const one = new ResidentModel(engine, config, memorySource(formulaParams(config, 7)));
      const sampler = new Sampler(engine, one, { batch: 1, ...options });
      const live = async (blocks: number, steps: number) => {
        await sampler.sample({ labels: [1], steps, blocks });
        return engine.memory.report().live;
      };
      // Programs, and tables for one step, are made when first used and kept.
      for (const blocks of [2, 4, 6]) for (const steps of [128, 1]) await live(blocks, steps);
      const settled = new Map<number, number>();
      for (const blocks of [2, 4, 6]) settled.set(blocks, await live(blocks, 1));
      for (let i = 0; i < 90; i++) {
        const blocks = 2 + 2 * (i % 3);
        expect(await live(blocks, 1), `change ${i}`).toBe(settled.get(blocks));
      }
      const many = await live(6, 128);
      expect(await live(6, 128)).toBe(many);
      expect(await live(2, 1)).toBe(settled.get(2));
      sampler.dispose();
      one.dispose();
    });
  }
});

describe('looking inside', () => {
  const way = { label: 3, steps: 4, blocks: 4, seed: 11, first: 2, at: 1 };
  let sampler: Sampler;
  let inspector: Inspector;
  beforeAll(() => {
    sampler = new Sampler(engine, model, { batch: 2 });
    inspector = new Inspector(engine, sampler);
  });
  afterAll(() => {
    inspector.dispose();
    sampler.dispose();
  });
  /** x + v / steps in single precision: steps is a power of two, so that only the sum is rounded. */
  const step = (x: Float32Array, v: Float32Array, steps: number) => x.map((value, i) => value + v[i]! / steps);

  for (const guidance of [1, 2.5]) {
    it(`velocities are those that sampling takes, to the bit (guidance ${guidance})`, async () => {
      const draw = async (steps: number, blocks: number, stopAfter?: number) => {
        const { label, seed, first } = way;
        return (await sampler.sample({ labels: [label], steps, blocks, seed, first, guidance, stopAfter })).values;
      };
      const { from, to, x, lengths } = await inspector.look({ ...way, guidance });
      expect([from, to]).toEqual([0.25, 0.5]);
      expect(x).toEqual(await draw(4, 4, 1));
      expect(lengths.map(({ blocks }) => blocks)).toEqual([2, 4, 6]);
      const own = lengths[1]!;
      expect(step(x, own.velocity, 4)).toEqual(await draw(4, 4, 2));
      expect(own.picture).toEqual(x.map((value, i) => value + 0.75 * own.velocity[i]!));
      const start = await inspector.look({ ...way, guidance, steps: 1, at: 0 });
      for (const { blocks, velocity } of start.lengths)
        expect(step(start.x, velocity, 1)).toEqual(await draw(1, blocks));
      expect(start.lengths[0]!.velocity).not.toEqual(start.lengths[2]!.velocity);
    });
  }

  it('attention is the softmax of what another path makes of the same point, and what the kernel weighs by', async () => {
    const { x, attention: seen } = await inspector.look({ ...way, block: 2 });
    expect([seen.block, seen.heads, seen.side]).toEqual([2, 2, 4]);
    const network = new Network(engine, config);
    network.load(7, true);
    const rows = { x, t: [0.25], step: [2], labels: [3], lengths: [4] };
    const inside = await network.inside(rows);
    network.dispose();
    const [q, k] = ['queries', 'keys'].map((name) => inside.get(`block2/attention/${name}`)!);
    const [tokens, head] = [16, 12];
    const of = (all: Float32Array, h: number, i: number) => all.subarray(i * 24 + h * head, i * 24 + (h + 1) * head);
    const worst = { sum: 0, weight: 0 };
    for (let h = 0; h < 2; h++) {
      for (let i = 0; i < tokens; i++) {
        const powers = Array.from({ length: tokens }, (_, j) =>
          Math.exp(of(q!, h, i).reduce((sum, value, e) => sum + value * of(k!, h, j)[e]!, 0) / head),
        );
        const total = powers.reduce((a, b) => a + b);
        const row = seen.weights.subarray((h * tokens + i) * tokens, (h * tokens + i + 1) * tokens);
        worst.sum = Math.max(worst.sum, Math.abs(row.reduce((a, b) => a + b) - 1));
        powers.forEach((power, j) => {
          worst.weight = Math.max(worst.weight, Math.abs(row[j]! - power / total));
        });
      }
    }
    expect(worst.sum).toBeLessThan(1e-6);
    expect(worst.weight).toBeLessThan(1e-7);
    // Rows differ, and not every patch weighs the same.
    expect(Math.max(...seen.weights)).toBeGreaterThan(1.5 / tokens);
    const values = Float32Array.from(q!, (_, i) => Math.cos(i));
    const out = await eager(engine, (ctx) => {
      const [queries, keys, given] = [q!, k!, values].map((data, i) =>
        engine.tensor(`t${i}`, [1, tokens, 24], { data }),
      );
      return engine.read(attention(ctx, queries!, keys!, given!, { heads: 2, scale: 1 / head }));
    });
    const weighed = Float32Array.from(out, (_, at) => {
      const [i, h, e] = [Math.floor(at / 24), Math.floor((at % 24) / head), at % head];
      const row = seen.weights.subarray((h * tokens + i) * tokens, (h * tokens + i + 1) * tokens);
      return row.reduce((sum, weight, j) => sum + weight * of(values, h, j)[e]!, 0);
    });
    expect(Math.max(...out.map((value, i) => Math.abs(value - weighed[i]!)))).toBeLessThan(2e-6);
  });

  it('refuses steps and blocks that there are not', async () => {
    const look = (change: Partial<InspectRequest>) => inspector.look({ ...way, ...change }).catch((e: unknown) => e);
    for (const [change, message] of [
      [{ at: 4 }, 'there is no step 4'],
      [{ at: -1 }, 'there is no step -1'],
      [{ block: 4 }, 'block 4 does not run with 4 blocks'],
      [{ label: 10 }, 'there is no class 10 (label 0)'],
    ] as const) {
      const error = await look(change);
      expect(error).toBeInstanceOf(ConfigError);
      expect((error as Error).message).toBe(message);
    }
  });
});
