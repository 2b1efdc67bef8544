/** Memory: what is estimated is what is allocated, plans are tight, limits are kept, and running out of memory leaves nothing behind. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  estimateMemory,
  MEMORY_OPTIONS,
  measureMemory,
  memorySettings,
  randomSource,
} from '../../bench/memory.bench.ts';
import { Engine } from '../../engine/engine.ts';
import { LimitError, OutOfMemoryError } from '../../engine/errors.ts';
import { allowedLengths, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { plotMemory } from '../../pictures/memory-plot.ts';
import { chooseSettings, estimateSampling, type Settings } from '../../sampling/budget.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { testEngine } from '../support/engine.ts';

const config = preset('tiny', { depth: 6, lengths: { min: 2, group: 2 } });
const request = { labels: [3], steps: 2 };
const SLOW = 300_000;

let engine: Engine;
beforeAll(async () => {
  engine = await testEngine();
});
afterAll(() => engine.dispose());

describe('an estimate equals what is allocated, to the byte', () => {
  for (const option of MEMORY_OPTIONS) {
    for (const blocks of option.residentBlocks ? [4, 6] : [4]) {
      it(`L=${blocks} ${option.name}`, { timeout: SLOW }, async () => {
        const fresh = new Engine(engine.device, engine.adapterClass, { ownsDevice: false });
        const [setting, size] = [
          { blocks, option },
          { batch: 2, steps: 2 },
        ];
        const row = await estimateMemory(fresh, config, setting, size);
        expect(fresh.memory.report().created).toBe(0);
        const { peak, live } = await measureMemory(fresh, config, setting, size);
        expect({ peak, live }).toEqual({ peak: row.peak, live: row.total });
        expect(row.weights + row.activations + row.other).toBe(row.total);
        fresh.dispose();
      });
    }
  }
});

describe('activations are planned within 1.10 times what no plan can do without', () => {
  for (const name of ['dit-b/2', 'dit-xl/2']) {
    for (const batch of [1, 4, 16]) {
      it(`${name}, batch ${batch}`, { timeout: SLOW }, async () => {
        const model = preset(name);
        const lengths = allowedLengths(model);
        const asked = { labels: new Array<number>(batch).fill(1), steps: 4 };
        for (const settings of [
          { blocks: lengths[0]!, ahead: false },
          { blocks: lengths.at(-1)!, ahead: false },
          { blocks: lengths.at(-1)!, ahead: true },
          { blocks: lengths.at(-1)!, residentBlocks: 2 },
        ]) {
          const found = await estimateSampling(engine, model, { ...settings, precision: 'f32', batch }, asked);
          expect(found.planned / found.lowerBound, JSON.stringify(settings)).toBeLessThanOrEqual(1.1);
          // The hidden features of one MLP alone: a bound that does not come from the planner.
          const tokens = batch * (model.imageSize / model.patch) ** 2;
          expect(found.lowerBound).toBeGreaterThanOrEqual(4 * tokens * model.mlpRatio * model.width);
        }
      });
    }
  }
});

describe('DiT-B/2 at batch 1 and DiT-XL/2, on any adapter', () => {
  beforeAll(() => {
    engine.mirrors = false;
  });
  afterAll(() => {
    engine.mirrors = true;
  });
  const peaks = async (name: string, setting: string) => {
    const model = preset(name);
    const [one] = memorySettings(model, setting);
    return (await estimateMemory(engine, model, one!, { batch: 1, steps: 4 })).peak;
  };

  for (const { name, residentBlocks } of MEMORY_OPTIONS) {
    if (residentBlocks !== undefined) continue;
    it(`${name}: a third of the blocks takes about a third of the memory`, { timeout: SLOW }, async () => {
      const [few, all] = [await peaks('dit-b/2', `L=4 ${name}`), await peaks('dit-b/2', `L=12 ${name}`)];
      expect(few / all).toBeLessThanOrEqual(0.37);
    });
  }

  it('fit small GPUs with packed weights', { timeout: SLOW }, async () => {
    expect(await peaks('dit-b/2', 'L=4 f16 + ahead')).toBeLessThan(80e6);
    expect(await peaks('dit-b/2', 'L=12 f16 + ahead')).toBeLessThan(195e6);
    expect(await peaks('dit-xl/2', 'L=28 f16 + 2 resident')).toBeLessThan(130e6);
  });
});

it('the slabs of activations serve every number of blocks', { timeout: SLOW }, async () => {
  const model = new ResidentModel(engine, config, randomSource(config));
  const sampler = new Sampler(engine, model, { batch: 1, ahead: false });
  const activations: (number | undefined)[] = [];
  for (const blocks of [6, 4, 2, 6]) {
    await sampler.sample({ ...request, blocks });
    activations.push(engine.memory.report().byKind.activations);
  }
  expect(activations[0]).toBeGreaterThan(0);
  expect(new Set(activations).size).toBe(1);
  sampler.dispose();
  model.dispose();
});

it('the same request again reads nothing, another reads the modulations anew', { timeout: SLOW }, async () => {
  const source = randomSource(config);
  const asked: number[] = [];
  const counting = {
    ...source,
    read: (group: number) => {
      asked.push(group);
      return source.read(group);
    },
  };
  const model = new ResidentModel(engine, config, counting);
  const sampler = new Sampler(engine, model, { batch: 1, ahead: true });
  const draw = async (steps: number, label: number) => {
    const { values } = await sampler.sample({ labels: [label], steps, blocks: 4 });
    return { values, read: asked.splice(0).length };
  };
  const first = await draw(4, 1);
  expect(first.read).toBe(4 + 4 + 4); // embedders, condition and the head's two; of each block its modulation and itself
  expect(await draw(4, 1)).toEqual({ values: first.values, read: 0 });
  const other = await draw(4, 2);
  expect(other.read).toBe(4 + 2);
  expect(other.values).not.toEqual(first.values);
  expect((await draw(2, 2)).read).toBe(4 + 2);
  expect(await draw(4, 1)).toEqual({ values: first.values, read: 4 + 2 });
  await sampler.sample({ labels: [1], steps: 4, blocks: 6 });
  await draw(4, 1);
  expect(await draw(4, 1)).toEqual({ values: first.values, read: 0 });
  sampler.dispose();
  model.dispose();
});

it('going down frees the tables of modulations with the blocks, and coming back makes them again', {
  timeout: SLOW,
}, async () => {
  const model = new ResidentModel(engine, config, randomSource(config));
  const sampler = new Sampler(engine, model, { batch: 1, ahead: true });
  const at = async (blocks: number, keepBlocks = false) => {
    const { values } = await sampler.sample({ labels: [3], steps: 8, blocks, keepBlocks });
    return { values, bytes: engine.memory.report().byKind.activations! };
  };
  await at(6, true);
  const [few, kept] = [await at(2), await at(6)];
  const table = 4 * 8 * 6 * config.width; // eight steps of one label
  expect(kept.bytes - few.bytes).toBe(4 * table);
  expect((await at(2, true)).bytes).toBe(kept.bytes);
  expect(await at(2)).toEqual(few);
  expect(await at(6)).toEqual(kept);
  const fresh = new Sampler(engine, model, { batch: 1, ahead: true });
  expect((await fresh.sample({ labels: [3], steps: 8, blocks: 6 })).values).toEqual(kept.values);
  for (const s of [fresh, sampler]) s.dispose();
  model.dispose();
});

describe('out of memory', () => {
  const kinds: Record<string, Omit<Settings, 'blocks' | 'batch'>> = {
    inline: { precision: 'f32', ahead: false },
    ahead: { precision: 'f16', ahead: true },
    streamed: { precision: 'f32', residentBlocks: 2 },
  };
  for (const [name, options] of Object.entries(kinds)) {
    it(`names what was asked for, leaks nothing, and ends (${name})`, { timeout: SLOW }, async () => {
      const run = async (labels: number[]) => {
        const model = new ResidentModel(engine, config, randomSource(config), { precision: options.precision });
        try {
          const sampler = new Sampler(engine, model, { batch: 1, ...options });
          try {
            return await sampler.sample({ ...request, labels });
          } finally {
            sampler.dispose();
          }
        } finally {
          model.dispose();
        }
      };
      const before = await run([3]); // The engine keeps its read-back buffer from here on.
      const { live } = engine.memory.report();
      const { peak } = await estimateSampling(engine, config, { blocks: 6, batch: 1, ...options }, request);
      // From the first buffers, which are small, to the last.
      const limits = [1000, ...Array.from({ length: 24 }, (_, i) => 12_000 + 300 * i)];
      for (let part = 1; part < 24; part++) limits.push(Math.floor((peak * part) / 24));
      for (const limit of limits) {
        engine.memory.limit = live + limit - 4096;
        const error = await run([3]).catch((e: unknown) => e);
        expect(error, `limit ${limit}`).toBeInstanceOf(OutOfMemoryError);
        expect((error as Error).message).toMatch(/'.+' needs \d+ bytes with \d+ live/);
        expect(engine.memory.report().live, `limit ${limit}`).toBe(live);
      }
      engine.memory.limit = Number.POSITIVE_INFINITY;
      expect((await run([3])).values).toEqual(before.values);
      expect(engine.memory.report().live).toBe(live);
    });
  }

  it('leaves a sampler that samples when there is memory again', { timeout: SLOW }, async () => {
    const model = new ResidentModel(engine, config, randomSource(config));
    const sampler = new Sampler(engine, model, { batch: 1, ahead: true });
    const few = await sampler.sample({ ...request, blocks: 2 });
    engine.memory.limit = engine.memory.report().live + 100_000;
    await expect(sampler.sample({ labels: [1], steps: 128, blocks: 6 })).rejects.toThrow(OutOfMemoryError);
    engine.memory.limit = Number.POSITIVE_INFINITY;
    expect((await sampler.sample({ ...request, blocks: 2 })).values).toEqual(few.values);
    sampler.dispose();
    model.dispose();
  });
});

describe('a budget', () => {
  const peakOf = async (settings: Omit<Settings, 'batch'>) =>
    (await estimateSampling(engine, config, { batch: 1, ...settings }, request)).peak;
  const choose = (blocks: number | 'auto', limit: number) =>
    chooseSettings(engine, config, { blocks, batch: 1 }, request, limit);

  it('takes the best that fits: f32, then f16, then fewer blocks resident', { timeout: SLOW }, async () => {
    const [f32, f16] = [await peakOf({ blocks: 6, precision: 'f32' }), await peakOf({ blocks: 6, precision: 'f16' })];
    const halves = { blocks: 6, precision: 'f16', activations: 'f16' } as const;
    const short = await peakOf(halves);
    const four = await peakOf({ ...halves, residentBlocks: 4 });
    const two = await peakOf({ ...halves, residentBlocks: 2 });
    const peaks = [f32, f16, short, four, two];
    expect(peaks).toEqual([...peaks].sort((a, b) => b - a));
    expect((await choose(6, f32)).settings).toEqual({ blocks: 6, precision: 'f32', batch: 1 });
    expect((await choose(6, f32 - 1)).settings).toEqual({ blocks: 6, precision: 'f16', batch: 1 });
    expect((await choose(6, f16 - 1)).settings).toEqual({ ...halves, batch: 1 });
    expect((await choose(6, short - 1)).settings).toEqual({ ...halves, residentBlocks: 4, batch: 1 });
    const choice = await choose(6, four - 1);
    expect(choice.settings.residentBlocks).toBe(2);
    expect(choice.peak).toBe(two);
    expect(choice.why).toMatch(
      /f16 weights and f16 activations, 2 blocks resident at a time, L=6, 1 at once: .* does not fit/,
    );
  });

  it('computes fewer samples at once before it streams, and keeps what was asked for', { timeout: SLOW }, async () => {
    const many = { ...request, labels: new Array<number>(8).fill(3) };
    const choose = (wanted: object, limit: number) =>
      chooseSettings(engine, config, { blocks: 6, batch: 8, ...wanted }, many, limit);
    const halves = { blocks: 6, precision: 'f16', activations: 'f16' } as const;
    const two = await estimateSampling(engine, config, { ...halves, batch: 2 }, many);
    expect((await choose({}, two.peak)).settings).toEqual({ ...halves, batch: 2 });
    const asked = { precision: 'int8', activations: 'f32', residentBlocks: 3 } as const;
    const one = await estimateSampling(engine, config, { blocks: 6, ...asked, batch: 1 }, many);
    expect((await choose(asked, one.peak)).settings).toEqual({ blocks: 6, ...asked, batch: 1 });
    await expect(choose(asked, one.peak - 1)).rejects.toThrow(LimitError);
  });

  it('takes fewer blocks only where that is allowed', { timeout: SLOW }, async () => {
    const limit = (await peakOf({ blocks: 6, precision: 'f16', activations: 'f16', residentBlocks: 1 })) - 1;
    expect((await choose('auto', limit)).settings.blocks).toBe(4);
    await expect(choose(6, limit)).rejects.toMatchObject({ hint: expect.stringMatching(/let --blocks auto choose/) });
  });

  it('that nothing fits names the smallest that would', { timeout: SLOW }, async () => {
    const smallest = await peakOf({ blocks: 6, precision: 'f16', activations: 'f16', residentBlocks: 1 });
    const error = await choose(6, 50_000).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(LimitError);
    expect(error).toMatchObject({ asked: smallest, available: 50_000 });
    expect((error as LimitError).message).toContain(String(smallest));
    expect((await choose(6, smallest)).peak).toBe(smallest);
  });
});

it('the plot shows every bar at its length', async () => {
  const settings = memorySettings(config, 'f32');
  const size = { batch: 1, steps: 1 };
  const rows = await Promise.all(settings.map((setting) => estimateMemory(engine, config, setting, size)));
  const svg = plotMemory({ model: 'a<b', ...size, machine: 'here', rows });
  expect(svg).toContain('a&lt;b');
  const bars = [...svg.matchAll(/width="([\d.]+)" height="16" fill="#0072b2"/g)].map(([, width]) => Number(width));
  expect(bars.length).toBe(rows.length);
  const longest = rows.reduce((a, b) => (b.peak > a.peak ? b : a));
  const scale = bars[rows.indexOf(longest)]! / longest.weights;
  for (const [i, row] of rows.entries()) expect(bars[i]).toBeCloseTo(row.weights * scale, 0);
});
