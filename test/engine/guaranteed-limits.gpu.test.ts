/**
 * WebGPU's guaranteed limits and none of its features: every kernel, one picture and two training steps on a device that was asked for
 * nothing, with the variants that GPUs take.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requestNodeDevice } from '../../engine/adapters.node.ts';
import { Engine } from '../../engine/engine.ts';
import { checkCase } from '../../kernels/check.ts';
import type { Contract } from '../../kernels/contract.ts';
import { contracts } from '../../kernels/registry.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { memorySource } from '../../model/weights/source.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import { sparingOptimisation } from '../support/engine.ts';
import { relativeError } from '../support/golden.ts';
import { tinyModel, tinyStep } from '../support/tiny.ts';

const GUARANTEED = {
  maxStorageBuffersPerShaderStage: 8,
  maxStorageBufferBindingSize: 128 * 2 ** 20,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
  maxBufferSize: 256 * 2 ** 20,
};

let all: Engine;
let least: Engine;
beforeAll(async () => {
  sparingOptimisation();
  const { device: whole, adapter, gpu } = await requestNodeDevice({ onError: () => {} });
  all = new Engine(whole, adapter.kind);
  const device = await (await gpu.requestAdapter())!.requestDevice();
  least = new Engine(device, 'gpu');
});
afterAll(() => {
  least.dispose();
  all.dispose();
});

it('the device has the guaranteed limits and no features', () => {
  const { limits, features } = least.device;
  for (const [name, value] of Object.entries(GUARANTEED))
    expect(limits[name as keyof GPUSupportedLimits], name).toBe(value);
  expect([...features].filter((feature) => feature !== 'core-features-and-limits')).toEqual([]);
});

describe('kernels', () => {
  /** Elements of a case's inputs: what its reference takes follows them. */
  const size = (c: Contract, k: object) =>
    Object.values(c.inputs(k)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  // What an MLP consists of is among the others, and in the training step below.
  const apart = contracts.filter(({ name }) => name !== 'gatedMlp');
  it.each(apart)('$name agrees with float64', async (c) => {
    const [smallest] = [...c.cases].sort((a, b) => size(c, a) - size(c, b));
    await expect(checkCase(least, c, smallest!)).resolves.toBeDefined();
  });
});

it('a picture and two training steps are those of a device with all that the adapter has', async () => {
  const made: { values: Float32Array; losses: number[] }[] = [];
  for (const engine of [least, all]) {
    const model = new ResidentModel(engine, tinyModel, memorySource(formulaParams(tinyModel, 5)));
    const sampler = new Sampler(engine, model);
    const { values } = await sampler.sample({ labels: [0, 2], steps: 2, blocks: 4, guidance: 2, seed: 3 });
    sampler.dispose();
    const { step, run } = await tinyStep(engine);
    const losses = await run(0, 2);
    step.dispose();
    made.push({ values, losses: losses.flatMap(({ loss, gradNorm }) => [loss, gradNorm]) });
  }
  const [few, many] = made;
  expect(relativeError(few!.values, many!.values)).toBeLessThan(2e-5);
  expect(few!.losses.length).toBe(4);
  expect(relativeError(few!.losses, many!.losses)).toBeLessThan(2e-5);
});
