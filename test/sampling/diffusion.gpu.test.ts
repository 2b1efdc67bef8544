/** Models that predict noise: Euler's steps against DDIM's in float64, however the sampler runs them, and other solvers. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { type ModelConfig, preset } from '../../model/config.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import type { SampleRequest } from '../../sampling/request.ts';
import { Sampler, type SamplerOptions } from '../../sampling/sampler.ts';
import { relativeError } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { Network } from '../../verify/network.ts';
import { testEngine } from '../support/engine.ts';

const sizes = { imageSize: 8, patch: 4, width: 16, heads: 2, depth: 2, classes: 10, lengths: null, ignoreDt: true };
const config: ModelConfig = { ...preset('tiny', sizes), timeScale: 1000, predicts: 'noise' };
const source = memorySource(formulaParams(config, 7, { strong: true }));
const labels = [3, null, 7];
const PIXELS = 64;
const noise = Float32Array.from({ length: 3 * PIXELS }, (_, i) => 1.5 * Math.sin(i * i));

let engine: Engine;
let network: Network;
beforeAll(async () => {
  engine = await testEngine();
  network = new Network(engine, config);
  network.load(7, true);
});
afterAll(() => engine.dispose());

async function draw(request: Partial<SampleRequest>, options: SamplerOptions = {}): Promise<Float32Array> {
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 3, ...options });
  const { values } = await sampler.sample({ labels, noise, ...request });
  sampler.dispose();
  return values;
}

/** DDPM's step, not always a whole one, with the same ratio of data to noise as the straight path at t; from its own products. */
function stepAt(t: number): { step: number; alpha: number; sigma: number } {
  const wanted = Math.log(t / (1 - t));
  let [product, before] = [1, Number.POSITIVE_INFINITY];
  for (let s = 0; s < 1000; s++) {
    product *= 1 - (1e-4 + ((0.02 - 1e-4) * s) / 999);
    const ratio = Math.log(Math.sqrt(product / (1 - product)));
    if (ratio <= wanted) {
      const step = s === 0 ? 0 : s - (wanted - ratio) / (before - ratio);
      return { step, alpha: t / Math.hypot(t, 1 - t), sigma: (1 - t) / Math.hypot(t, 1 - t) };
    }
    before = ratio;
  }
  const sigma = Math.sqrt(1 - product);
  return { step: 999, alpha: Math.sqrt(product), sigma };
}

/** DDIM (arXiv 2010.02502, eq. 12 without noise of its own) from the input at step 999, at the steps of even times. */
async function ddim(steps: number, guidance = 1): Promise<Float32Array> {
  const { alpha, sigma } = stepAt(0);
  let x = Float64Array.from(noise, (value) => value / Math.hypot(alpha / (alpha + sigma), sigma / (alpha + sigma)));
  const predicted = async (classes: number[], step: number) => {
    const all = (value: number) => [value, value, value];
    return network.velocity({ x: Float32Array.from(x), t: all(step / 1000), step: all(0), labels: classes });
  };
  for (let i = 0; i < steps; i++) {
    const now = stepAt(i / steps);
    const c = await predicted([3, config.classes, 7], now.step);
    const u = guidance === 1 ? c : await predicted([config.classes, config.classes, config.classes], now.step);
    const end = i + 1 === steps ? { alpha: 1, sigma: 0 } : stepAt((i + 1) / steps);
    // The first step starts at time 0, before the last of the diffusion: from there its time is longer by as much.
    const early = i === 0 ? now.alpha / (now.alpha + now.sigma) : 0;
    x = x.map((value, e) => {
      const eps = u[e]! + guidance * (c[e]! - u[e]!);
      const data = (value - now.sigma * eps) / now.alpha;
      return end.alpha * data + end.sigma * eps + early * (data - eps) * (end.alpha + end.sigma);
    });
  }
  return Float32Array.from(x);
}

const ways: SamplerOptions[] = [{ ahead: false }, { ahead: true }, { residentBlocks: 1 }];

it.each([
  [2, 1],
  [8, 1],
  [5, 2.5],
])('%i steps of Euler are those of DDIM (guidance %d)', async (steps, guidance) => {
  const expected = await ddim(steps, guidance);
  for (const options of ways) {
    // The first step divides by the least time, 0.0063: rounding grows a hundredfold.
    const found = await draw({ steps, guidance }, options);
    expect(relativeError(found, expected), JSON.stringify(options)).toBeLessThan(5e-5);
  }
  const other = await ddim(steps + 1, guidance);
  expect(relativeError(other, expected)).toBeGreaterThan(1e-3);
});

it('other solvers reach the same end', async () => {
  const end = await draw({ solver: 'tsit5', tolerance: 1e-5 });
  const away = async (request: Partial<SampleRequest>) => relativeError(await draw(request), end);
  const [coarse, fine] = [await away({ steps: 256 }), await away({ steps: 1024 })];
  // Of an arbitrary network the field is steep near t = 0, by which its noise is divided.
  expect(fine).toBeLessThan(0.45 * coarse);
  expect(await away({ solver: 'heun', steps: 256 })).toBeLessThan(0.8 * coarse);
  expect(await away({ solver: 'dopri5', tolerance: 1e-4 })).toBeLessThan(0.01);
});

it('a batch may be of any size, and a model must say how many steps it knows', async () => {
  const all = await draw({ steps: 4 });
  expect(await draw({ steps: 4 }, { batch: 2 })).toEqual(all);
  const few = { ...config, timeScale: 1 };
  const make = () => new Sampler(engine, new ResidentModel(engine, few, source));
  expect(make).toThrow('a model that predicts noise is told steps, and its timeScale is 1: no number of steps');
});
