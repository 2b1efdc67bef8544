/** That verify would see it: recordings replaced by what a faulty sampler would have made fail, however small the fault. */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { parseSafetensors, type Tensors } from '../../formats/safetensors.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { relativeError, TOLERANCES, worstSample } from '../../verify/case.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { openGolden } from '../../verify/golden.node.ts';
import { Network } from '../../verify/network.ts';
import { caseId, verify } from '../../verify/replay.ts';
import { testEngine } from '../support/engine.ts';
import { FIXTURES, goldenModel, goldenTensors } from '../support/golden.ts';

const MODEL = 'a';
/** Seed of the averaged parameters, which the reference samples with. */
const SEED = 1002;

let engine: Engine;
let scratch: string;
let f: Tensors;
beforeAll(async () => {
  engine = await testEngine();
  scratch = await mkdtemp(join(tmpdir(), 'odelt-mutations-'));
  f = await goldenTensors(await goldenModel(MODEL), 'sampling');
});
afterAll(async () => {
  engine.dispose();
  await rm(scratch, { recursive: true });
});

/** Cases that fail, with their errors, once tensors of the recording hold these values. */
async function failures(name: string, mutated: Readonly<Record<string, Float32Array>>): Promise<Map<string, number>> {
  const directory = join(scratch, name);
  await mkdir(join(directory, MODEL), { recursive: true });
  for (const file of ['config.json', 'sampling.json'])
    await cp(join(FIXTURES, MODEL, file), join(directory, MODEL, file));
  const bytes = await readFile(join(FIXTURES, MODEL, 'sampling.safetensors'));
  const { tensors } = parseSafetensors(bytes).header;
  for (const [tensor, values] of Object.entries(mutated)) {
    const { begin, end } = tensors.get(tensor)!;
    expect(values.byteLength).toBe(end - begin);
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), begin);
  }
  await writeFile(join(directory, MODEL, 'sampling.safetensors'), bytes);
  const failed = new Map<string, number>();
  for await (const result of verify(engine, await openGolden(directory), { only: '/sampling/' })) {
    if (!result.ok) failed.set(caseId(result), result.error);
  }
  return failed;
}

const idsOf = (tensors: readonly string[]) => tensors.map((tensor) => `${MODEL}/sampling/${tensor}`).sort();
const recorded = (pattern: RegExp) => f.names().filter((name) => pattern.test(name));

/** Euler's method on the network, its times off by `shift` steps. */
async function euler(network: Network, tensor: string, shift: number): Promise<Float32Array> {
  const [, blocks, steps] = /\/l(\d+)_t(\d+)_cfg1$/.exec(tensor)!.map(Number) as [number, number, number];
  const x = f.floats('x_0').slice();
  const labels = f.integers('labels');
  const all = (value: number) => new Array<number>(labels.length).fill(value);
  const level = Math.trunc(Math.log2(steps));
  for (let i = 0; i < steps; i++) {
    const t = Math.fround((i + shift) / steps);
    const v = await network.velocity({ x, t: all(t), step: all(level), labels, lengths: all(blocks) });
    for (let e = 0; e < x.length; e++) x[e] = x[e]! + v[e]! / steps;
  }
  return x;
}

describe('a recording that is not what a right sampler makes fails', () => {
  it('as it is, it passes', async () => {
    expect(await failures('unchanged', {})).toEqual(new Map());
  });

  it('times off by a tenth of a step', async () => {
    const { config } = await goldenModel(MODEL);
    const network = new Network(engine, config);
    network.load(SEED, false);
    const tensors = recorded(/^euler\/l\d+_t\d+_cfg1$/);
    const mutated: Record<string, Float32Array> = {};
    for (const tensor of tensors) {
      // The fault alone makes the difference: without it, this is the recording.
      expect(relativeError(await euler(network, tensor, 0), f.floats(tensor)), tensor).toBeLessThan(1e-6);
      mutated[tensor] = await euler(network, tensor, 0.1);
    }
    network.dispose();
    const failed = await failures('times', mutated);
    expect([...failed.keys()].sort()).toEqual(idsOf(tensors));
    expect(tensors.length).toBeGreaterThan(5);
  });

  it('guidance off by one per cent', async () => {
    const { config } = await goldenModel(MODEL);
    const model = new ResidentModel(engine, config, memorySource(formulaParams(config, SEED)));
    const labels = Array.from(f.integers('labels'), (y) => (y === config.classes ? null : y));
    const sampler = new Sampler(engine, model, { batch: labels.length });
    const tensors = recorded(/^euler\/l\d+_t\d+_cfg1\.5$/);
    const mutated: Record<string, Float32Array> = {};
    for (const tensor of tensors) {
      const [, blocks, steps] = /\/l(\d+)_t(\d+)_/.exec(tensor)!.map(Number) as [number, number, number];
      const level = Math.trunc(Math.log2(steps));
      const request = { labels, steps, blocks, level, noise: f.floats('x_0'), guidance: 1.5 * 1.01 };
      mutated[tensor] = (await sampler.sample(request)).values;
    }
    sampler.dispose();
    model.dispose();
    const failed = await failures('guidance', mutated);
    expect([...failed.keys()].sort()).toEqual(idsOf(tensors));
    expect(tensors.length).toBeGreaterThan(5);
  });

  it('one sample of the batch off by as little as twice the tolerance', async () => {
    const tensors = recorded(/^euler\/l4_t4_/);
    const samples = f.integers('labels').length;
    const mutated: Record<string, Float32Array> = {};
    for (const [i, tensor] of tensors.entries()) {
      const values = f.floats(tensor).slice();
      const size = values.length / samples;
      const spoiled = values.subarray((i % samples) * size, ((i % samples) + 1) * size);
      spoiled.forEach((x, e) => {
        spoiled[e] = x * (1 + 2 * TOLERANCES.sampling);
      });
      mutated[tensor] = values;
      // In the norm of the whole batch it would pass.
      expect(relativeError(values, f.floats(tensor))).toBeLessThan(1.3 * TOLERANCES.sampling);
    }
    const failed = await failures('sample', mutated);
    expect([...failed.keys()].sort()).toEqual(idsOf(tensors));
    for (const error of failed.values()) expect(error).toBeCloseTo(2 * TOLERANCES.sampling, 6);
  });
});

describe('worstSample', () => {
  it('finds the one that is off', () => {
    const expected = Float32Array.of(1, 0, 0, 2, 3, 4);
    expect(worstSample(expected.slice(), expected, 3)).toEqual({ error: 0, detail: 'all samples' });
    const { error, detail } = worstSample(Float32Array.of(1, 0, 0, 2.5, 3, 4), expected, 3);
    expect([error, detail]).toEqual([0.25, 'sample 1']);
    expect(worstSample(Float32Array.of(1, 0, 0, Number.NaN, 3, 4), expected, 3).error).toBeNaN();
    expect(worstSample(Float32Array.of(1), expected, 3).error).toBeNaN();
  });

  it('takes a sample of nearly nothing by the norm of the others', () => {
    const { error } = worstSample(Float32Array.of(1e-9, 0, 3, 4), Float32Array.of(0, 0, 3, 4), 2);
    expect(error).toBeLessThan(1e-6);
  });
});
