/** Numbers of blocks by time, on a network: the same bits as a number that holds throughout, the right lengths at the right times, memory. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { InterruptedError } from '../../engine/errors.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { type GroupSource, memorySource } from '../../model/weights/source.ts';
import { type Blocks, LOADING } from '../../sampling/blocks.ts';
import { chooseSettings, estimateSampling } from '../../sampling/budget.ts';
import type { SampleProgress, SampleRequest } from '../../sampling/request.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { relativeError } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';

const config: ModelConfig = preset('tiny', {
  ...{ imageSize: 8, patch: 2, width: 24, heads: 2, depth: 6, lengths: { min: 2, group: 2 } },
});
const source = memorySource(formulaParams(config, 7, { strong: true }));
const labels = [3, null, 7];
const PIXELS = 64;
const rising: Blocks = [
  { from: 0, blocks: 2 },
  { from: 0.5, blocks: 6 },
];
const falling: Blocks = [
  { from: 0, blocks: 6 },
  { from: 0.5, blocks: 2 },
];
const throughout = (blocks: number): Blocks => [0, 0.3, 0.5].map((from) => ({ from, blocks }));

let engine: Engine;
let model: ResidentModel;
let sampler: Sampler;
beforeAll(async () => {
  engine = await testEngine();
  model = new ResidentModel(engine, config, source);
  sampler = new Sampler(engine, model, { batch: 3 });
});
afterAll(() => engine.dispose());

const draw = (request: Partial<SampleRequest>, by = sampler) => by.sample({ labels, seed: 4, ...request });
const noise = Float32Array.from({ length: 3 * PIXELS }, (_, i) => Math.sin(i * i));

describe('the same number at all times gives the bits of the number', () => {
  it.each<Partial<SampleRequest>>([
    { steps: 4 },
    { steps: 4, guidance: 2.5 },
    { steps: 4, guidance: 2.5, guidanceInterval: [0.2, 0.6] },
    { solver: 'heun', steps: 4 },
    { solver: 'rk4', steps: 2 },
    { solver: 'consistency', steps: 4 },
    { solver: 'tsit5', tolerance: 1e-2 },
    { solver: 'dopri5', tolerance: 1e-2, guidance: 2 },
  ])('%o', async (request) => {
    for (const blocks of [2, 6]) {
      const expected = await draw({ ...request, blocks });
      for (const loadBlocks of LOADING) {
        const got = await draw({ ...request, blocks: throughout(blocks), loadBlocks });
        expect(got.values).toEqual(expected.values);
        expect(got.solves).toEqual(expected.solves);
      }
    }
  });
});

describe('another number from a time on', () => {
  /** Euler's steps by the network itself; no class and the label where guided. */
  async function steps(lengths: readonly number[], guidance = 1): Promise<Float32Array> {
    const network = new Network(engine, config);
    network.load(7, true);
    const all = (value: number) => [value, value, value];
    const velocity = (x: Float32Array, t: number, blocks: number, classes: number[]) =>
      network.velocity({ x, t: all(t), step: all(2), labels: classes, lengths: all(blocks) });
    const x = noise.slice();
    for (const [i, blocks] of lengths.entries()) {
      const c = await velocity(x, i / 4, blocks, [3, config.classes, 7]);
      const u = guidance === 1 ? c : await velocity(x, i / 4, blocks, all(config.classes));
      for (let e = 0; e < x.length; e++) x[e] = x[e]! + (u[e]! + guidance * (c[e]! - u[e]!)) / 4;
    }
    network.dispose();
    return x;
  }

  const ways: SamplerOptions[] = [{ ahead: false }, { ahead: true }, { residentBlocks: 4 }, { residentBlocks: 1 }];
  for (const guidance of [1, 2.5]) {
    it.each([
      [rising, [2, 2, 6, 6]],
      [falling, [6, 6, 2, 2]],
    ] as const)(
      `takes the steps of each, ahead, inline and streamed (guidance ${guidance}): %j`,
      async (blocks, lengths) => {
        const expected = await steps(lengths, guidance);
        for (const options of ways) {
          const one = new Sampler(engine, model, { batch: 3, ...options });
          for (const loadBlocks of LOADING) {
            const { values, evaluations } = await draw({ steps: 4, noise, guidance, blocks, loadBlocks }, one);
            expect(relativeError(values, expected), JSON.stringify(options)).toBeLessThan(1e-5);
            expect(evaluations).toBe(4);
          }
          one.dispose();
        }
        // And the lengths are no detail.
        for (const other of [2, 6]) {
          const { values } = await draw({ steps: 4, noise, guidance, blocks: other });
          expect(relativeError(values, expected)).toBeGreaterThan(1e-3);
        }
      },
    );
  }

  it('gives a sample the same bits whatever the batch, and again', async () => {
    const narrow = new Sampler(engine, model, { batch: 2 });
    for (const solver of ['euler', 'heun', 'consistency'] as const) {
      const request = { solver, steps: 4, blocks: rising, guidance: 1.5 };
      const all = await draw(request);
      for (const loadBlocks of LOADING) {
        expect((await draw({ ...request, loadBlocks }, narrow)).values).toEqual(all.values);
      }
      const alone = await narrow.sample({ ...request, labels: [7], seed: 4, first: 2 });
      expect(alone.values).toEqual(all.values.subarray(2 * PIXELS));
    }
    narrow.dispose();
  });

  it('is followed by adaptive solvers to their tolerance', async () => {
    const truth = (await draw({ solver: 'rk4', steps: 128, level: 0, blocks: rising })).values;
    for (const options of ways) {
      const one = new Sampler(engine, model, { batch: 3, ...options });
      const { values } = await draw(
        { solver: 'tsit5', tolerance: 1e-4, level: 0, blocks: rising, loadBlocks: 'along' },
        one,
      );
      // The field jumps at the time, which costs accuracy there.
      expect(relativeError(values, truth)).toBeLessThan(0.02);
      one.dispose();
    }
    const shallow = (await draw({ solver: 'rk4', steps: 128, level: 0, blocks: 2 })).values;
    expect(relativeError(shallow, truth)).toBeGreaterThan(0.05);
  });
});

describe('memory', () => {
  const fresh = async (request: Partial<SampleRequest>, options: SamplerOptions = {}) => {
    const own = await testEngine();
    const one = new Sampler(own, new ResidentModel(own, config, source), { batch: 2, ...options });
    await one.sample({ labels, steps: 4, ...request });
    const { peak, live, byKind } = own.memory.report();
    own.dispose();
    return { peak, live, byKind };
  };

  it('is that of the longest, but for the uniforms of one more program', async () => {
    for (const options of [{ ahead: false }, { ahead: true }]) {
      const [deep, changing] = [await fresh({ blocks: 6 }, options), await fresh({ blocks: rising }, options)];
      const shallow = await fresh({ blocks: 2 }, options);
      for (const kind of ['weights', 'activations'] as const) expect(changing.byKind[kind]).toBe(deep.byKind[kind]);
      expect(changing.peak).toBeGreaterThanOrEqual(deep.peak);
      expect(changing.peak - deep.peak).toBeLessThan(0.2 * (deep.peak - shallow.peak));
    }
  });

  it('is estimated to the byte', async () => {
    for (const request of [
      { steps: 4, loadBlocks: 'first' },
      { steps: 4, loadBlocks: 'along' },
      { steps: 4, loadBlocks: 'needed' },
      { steps: 4, guidance: 2, guidanceInterval: [0.3, 0.6] },
      { steps: undefined, solver: 'tsit5' },
    ] as const) {
      for (const options of [{}, { ahead: true }, { residentBlocks: 3 }]) {
        const settings = { blocks: rising, precision: 'f32', batch: 2, ...options } as const;
        const { peak, live, planned } = await estimateSampling(engine, config, settings, { labels, ...request });
        expect(await fresh({ ...request, blocks: rising }, options), JSON.stringify(options)).toMatchObject({
          peak,
          live,
        });
        const deep = await estimateSampling(engine, config, { ...settings, blocks: 6 }, { labels, ...request });
        expect(planned).toBe(deep.planned);
      }
    }
  });

  it('that is limited is kept to, with the same numbers of blocks', async () => {
    const settings = { blocks: rising, precision: 'f32', batch: 3 } as const;
    const { peak } = await estimateSampling(engine, config, settings, { labels, steps: 4 });
    const chosen = await chooseSettings(engine, config, { blocks: rising, batch: 3 }, { labels, steps: 4 }, peak - 1);
    expect(chosen.settings).toMatchObject({ blocks: rising, precision: 'f16' });
    expect(chosen.why).toContain('L=2@0,6@0.5');
  });

  /** A sampler of its own model, which notes what is read and, as evaluations are done, how many bytes of weights are on the GPU. */
  function watched(options: SamplerOptions) {
    const reads: string[] = [];
    const noting: GroupSource = {
      ...source,
      read: (group, signal) => {
        reads.push(source.layout.groups[group]!.name);
        return source.read(group, signal);
      },
    };
    const own = new ResidentModel(engine, config, noting);
    return { own, reads, one: new Sampler(engine, own, { batch: 3, ...options }) };
  }

  for (const ahead of [false, true]) {
    it(`along the way is that of the few blocks until more are needed (${ahead ? 'ahead' : 'inline'})`, async () => {
      const { own, reads, one } = watched({ ahead });
      const bytes = async (blocks: Blocks, more: Partial<SampleRequest> = {}) => {
        const seen: number[] = [];
        const onProgress = () => void seen.push(own.weights.bytes);
        await draw({ steps: 8, blocks, onProgress, ...more }, one);
        return seen;
      };
      const [shallow] = await bytes(2);
      reads.length = 0;
      const along = await bytes(rising, { loadBlocks: 'along' });
      const read = reads.filter((name) => /^block\d$/.test(name));
      expect(read).toEqual(['block2', 'block3', 'block4', 'block5']);
      const first = await bytes(rising);
      const [deep] = await bytes(6);
      expect(deep!).toBeGreaterThan(1.5 * shallow!);
      // One evaluation is submitted while the one before it runs: the fourth is known to be done after the fifth's weights have come.
      expect(along).toEqual([...new Array(3).fill(shallow), ...new Array(5).fill(deep)]);
      expect(first).toEqual(new Array(8).fill(deep));
      // The weights are there now, and go before the next starts.
      expect((await bytes(rising, { loadBlocks: 'along' })).slice(0, 3)).toEqual(new Array(3).fill(shallow));
      const kept = await bytes(rising, { loadBlocks: 'along', keepBlocks: true });
      expect(kept).toEqual(new Array(8).fill(deep));
      // Those that are no longer needed go before the fifth evaluation, when the third is known to be done.
      const needed = await bytes(falling, { loadBlocks: 'needed' });
      expect(needed).toEqual([...new Array(3).fill(deep), ...new Array(5).fill(shallow)]);
      expect(await bytes(falling, { loadBlocks: 'along' })).toEqual(new Array(8).fill(deep));
      one.dispose();
      own.dispose();
    });
  }

  it('an abort along the way leaves a sampler that samples again', async () => {
    const { own, one } = watched({ ahead: false });
    const request = { steps: 8, blocks: rising, loadBlocks: 'along' } as const;
    const expected = (await draw({ ...request, loadBlocks: 'first' }, one)).values;
    const controller = new AbortController();
    const onProgress = ({ done }: SampleProgress) => void (done === 3 && controller.abort());
    await expect(draw({ ...request, signal: controller.signal, onProgress }, one)).rejects.toThrow(InterruptedError);
    expect((await draw(request, one)).values).toEqual(expected);
    one.dispose();
    own.dispose();
  });
});
