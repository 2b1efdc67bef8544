/** The worker's calls on a real engine, over a message channel: what they give, and that training outlives any number of lost devices. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { DataError, InterruptedError, OutOfMemoryError } from '../../engine/errors.ts';
import type { Flow } from '../../evaluation/flow.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { POINT_MODEL, POINT_TRAINING, pointData, pointsOf } from '../../training/points.ts';
import { formulaParams } from '../../verify/formula-params.ts';
import type { TrainRequest } from '../../web/protocol.ts';
import { normals } from '../support/normals.ts';
import { ROOT } from '../support/repository.ts';
import { served } from '../support/served.ts';
import { bits, tinyModel, tinyTrain } from '../support/tiny.ts';

/** Points of three classes. */
const data = {
  ...{ kind: 'numbers' as const, name: 'points', height: 8, width: 8, channels: 1, classes: 3 },
  values: Float32Array.from({ length: 6 * 64 }, (_, i) => Math.sin(i)),
  labels: Uint8Array.of(0, 1, 2, 0, 1, 2),
};

it('training goes on after more lost devices than it takes in a row, as each came a checkpoint further', async () => {
  const { worker, made } = served({ losesAt: 2, losses: 4 });
  const train = { ...tinyTrain, steps: 5 };
  const call = worker.train({ model: tinyModel, train, data, saveEvery: 1 });
  const told: unknown[] = [];
  for await (const { type, step } of call) if (type === 'recovered') told.push(step);
  expect(told).toEqual([1, 2, 3, 4]);
  expect(made.length).toBe(5);
  const { step, model } = await call;
  expect(step).toBe(5);
  await worker.load(model);
  const { values } = await worker.sample({ labels: [2], steps: 1, blocks: 2 });
  expect(values.every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
});

it('a run that shows more than there is memory for goes on without, and says so once', async () => {
  const { worker } = served();
  const refused = vi.spyOn(Sampler.prototype, 'sample').mockRejectedValueOnce(new OutOfMemoryError('no room'));
  onTestFinished(() => refused.mockRestore());
  const call = worker.train({
    ...{ model: tinyModel, train: { ...tinyTrain, steps: 3 }, data },
    show: { every: 1, samples: [{ labels: [0], steps: 1, blocks: 2 }] },
  });
  const told: unknown[] = [];
  for await (const event of call) if (event.type !== 'step') told.push(event);
  expect(told).toEqual([{ type: 'unshown', step: 1, message: expect.stringContaining('no room') }]);
  expect((await call).step).toBe(3);
});

it('a run shows its flow, its checkpoint alone goes on to the same bits, and is loaded as its average', async () => {
  const { worker } = served();
  const points = pointData(pointsOf('ring', 40));
  const noise = Float32Array.from({ length: 10 }, (_, i) => Math.cos(7 * i));
  const cells = [
    { steps: 2, blocks: 1 },
    { steps: 4, blocks: 3 },
  ];
  const flow = { cells, noise, places: Float32Array.of(0, 0, 1, -1) };
  const labels = [null, null, null, null, null];
  const request = {
    model: { ...POINT_MODEL, width: 32 },
    train: { ...POINT_TRAINING, batch: 8, steps: 4, warmup: 1 },
    data: { kind: 'numbers' as const, ...points },
    show: { every: 3, flow, samples: [{ labels, noise, steps: 2, blocks: 1 }] },
  };
  const call = worker.train({ ...request, keepData: true });
  const shown = [];
  for await (const event of call) if (event.type === 'shown') shown.push(event);
  expect(shown.map(({ step }) => step)).toEqual([3, 4]);
  const whole = await call;

  const controller = new AbortController();
  const cut = worker.train({ ...request, keepData: true, show: undefined }, { signal: controller.signal });
  let bytes = new Uint8Array();
  await (async () => {
    for await (const event of cut) {
      if (event.type === 'step' && event.step === 2) controller.abort();
      if (event.type === 'checkpoint') bytes = event.bytes;
    }
  })().catch((error: unknown) => expect(error).toBeInstanceOf(InterruptedError));
  const resumed = await worker.train({ resume: bytes });
  expect(bits(new Float32Array(resumed.checkpoint.buffer))).toBe(bits(new Float32Array(whole.checkpoint.buffer)));
  const others = { kind: 'numbers' as const, ...points, values: points.values.map((x) => -x) };
  await expect(worker.train({ resume: bytes, data: others })).rejects.toMatchObject({
    name: 'ConfigError',
    message: `the run was trained on other data (${points.name}): contents of the pictures`,
    hint: 'give the data that the run began with, or start a new run; to go on with these, give otherData: true',
  });
  expect((await worker.train({ resume: bytes, data: others, otherData: true })).step).toBe(4);

  const { run, config, lengths } = await worker.load(whole.checkpoint);
  expect([run!.step, run!.train.steps, config.width, lengths.map(({ blocks }) => blocks)]).toEqual([
    4,
    4,
    32,
    [1, 2, 3],
  ]);
  expect(run!.data!.values).toEqual(points.values);
  const drawn = await worker.flow(flow);
  // The last is of the same weights.
  expect(drawn.map(({ ways }) => bits(ways))).toEqual(shown[1]!.flow.map(({ ways }) => bits(ways)));
  expect(drawn.map(({ field }) => bits(field))).toEqual(shown[1]!.flow.map(({ field }) => bits(field)));
  const [two, four] = drawn as [Flow, Flow];
  expect([two.ways.length, two.field.length, four.ways.length, four.field.length]).toEqual([30, 8, 50, 16]);
  expect([...two.ways.subarray(0, 10)]).toEqual([...noise]);
  expect(new Set([...two.field, ...four.field]).size).toBe(24);
  // The ways end where a sampler ends.
  const { values } = await worker.sample({ labels, noise, steps: 2, blocks: 1 });
  expect(bits(values)).toBe(bits(shown[1]!.samples[0]!.values));
  values.forEach((value, i) => {
    expect(two.ways[20 + i]).toBeCloseTo(value, 5);
  });
});

it("a trained flow's samples have the data's mean and spread, with few steps and blocks, too", async () => {
  const { worker } = served();
  const [mean, spread] = [
    [1, -0.5],
    [0.3, 0.6],
  ];
  const random = normals(5);
  const values = Float32Array.from({ length: 2 * 500 }, (_, i) => mean[i % 2]! + spread[i % 2]! * random());
  const noise = Float32Array.from({ length: 2 * 200 }, random);
  const { model } = await worker.train({
    model: { ...POINT_MODEL, width: 16 },
    train: { ...POINT_TRAINING, batch: 128, steps: 150, warmup: 5, lr: 1e-2 },
    data: { kind: 'numbers', ...pointData(values) },
  });
  await worker.load(model);
  const cells = [1, 3].flatMap((blocks) => [1, 16].map((steps) => ({ steps, blocks })));
  for (const { steps, blocks, ways } of await worker.flow({ cells, noise })) {
    for (const axis of [0, 1]) {
      const ends = ways.subarray(steps * noise.length).filter((_, i) => i % 2 === axis);
      const average = ends.reduce((a, b) => a + b, 0) / ends.length;
      const deviation = Math.sqrt(ends.reduce((a, b) => a + (b - average) ** 2, 0) / ends.length);
      expect(Math.abs(average - mean[axis]!), `mean, T ${steps}, L ${blocks}`).toBeLessThan(0.1);
      // One step leads to the mean at first, and learns to do more from runs of several.
      const allowed = steps === 1 ? 0.3 : 0.1;
      expect(Math.abs(deviation - spread[axis]!), `spread, T ${steps}, L ${blocks}`).toBeLessThan(allowed);
    }
  }
});

it('says what cannot be shown or carried, before anything is trained', async () => {
  const { worker, made } = served();
  const flow = { cells: [{ steps: 3, blocks: 1 }], noise: new Float32Array(2) };
  const run = { model: POINT_MODEL, data: { kind: 'numbers' as const, ...pointData(new Float32Array(8)) } };
  const refused = async (request: Partial<TrainRequest>, message: RegExp) =>
    expect(worker.train({ ...run, ...request })).rejects.toThrow(message);
  await refused({ show: { every: 0 } }, /^show.every is 0; it must be a positive integer$/);
  await refused({ show: { every: 1, flow } }, /3 steps are none of them/);
  const place = { ...flow, cells: [{ steps: 2, blocks: 1 }], places: new Float32Array(3) };
  await refused({ show: { every: 1, flow: place } }, /^places must be a Float32Array of 2 numbers each$/);
  const files = { kind: 'files' as const, files: [] };
  await refused({ keepData: true, data: files }, /no file lies|carry data of kind 'numbers', not "files"/);
  await expect(worker.flow(flow)).rejects.toThrow('there is no model to trace');
  expect(made).toEqual([]);
});

it('a model says what each number of blocks reads, and samples say what they took', async () => {
  const { worker } = served();
  const file = await readFile(join(ROOT, 'models/fashion-mnist.safetensors'));
  const { lengths } = await worker.load(file);
  expect(lengths.map(({ blocks }) => blocks)).toEqual([4, 8, 12]);
  const [few, some, all] = lengths.map(({ weightBytes }) => weightBytes);
  // Blocks are of one size, and all of them are the file but for its header.
  expect(some! - few!).toBe(all! - some!);
  expect(all).toBeLessThan(file.length);
  expect(all).toBeGreaterThan(0.98 * file.length);
  const peaks: number[] = [];
  for (const blocks of [12, 4, 4]) {
    const { milliseconds, peakBytes } = await worker.sample({ labels: [7], steps: 1, blocks });
    expect(milliseconds).toBeGreaterThan(0);
    peaks.push(peakBytes);
  }
  // Blocks are stored as f32, of halves; tables stand for their modulations. What the first had left is freed before the second counts:
  // it holds, besides, one group of weights that the tables are made with.
  expect(peaks[1]! - peaks[2]!).toBeLessThan((some! - few!) / 2);
  expect(peaks[2]).toBeLessThan(peaks[0]! - (all! - few!));

  const way = { label: 7, steps: 2, blocks: 4, seed: 3 };
  const { lengths: seen, attention, x, shape } = await worker.inspect({ ...way, at: 1, block: 3 });
  expect(seen.map(({ blocks }) => blocks)).toEqual([4, 8, 12]);
  expect([shape, attention.side, attention.weights.length]).toEqual([[28, 28, 1], 7, 4 * 49 * 49]);
  const { values } = await worker.sample({ ...way, labels: [7] });
  expect(x.map((value, i) => value + seen[0]!.velocity[i]! / 2)).toEqual(values);
  const { clock, kernels, sumSeconds } = await worker.breakdown({ blocks: 4 });
  expect(['timestamps', 'alone']).toContain(clock);
  expect(kernels.find(({ name }) => name.startsWith('attention'))?.dispatches).toBe(4);
  expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
  expect(kernels.reduce((sum, { seconds }) => sum + seconds, 0)).toBeCloseTo(sumSeconds, 9);
  expect((await worker.adapter()).name).toMatch(/./);
});

it('a model that cannot be loaded leaves the one before it, and nothing of itself', async () => {
  const { worker, made } = served();
  const fileOf = async (seed: number) => {
    const { tensors, metadata } = await modelContents(tinyModel, formulaParams(tinyModel, seed));
    return serializeSafetensors(tensors, metadata);
  };
  const request = { labels: [1], steps: 1, blocks: 2, seed: 3 };
  const refused = async () =>
    expect(worker.load(await fileOf(6), { batch: 0 })).rejects.toThrow('batch is 0; it must be a positive integer');
  await refused();
  expect(made[0]!.memory.report().byKind.weights ?? 0).toBe(0);
  await worker.load(await fileOf(5));
  const { values } = await worker.sample(request);
  await refused();
  expect(made[0]!.memory.report().byKind.weights ?? 0).toBe(0);
  expect(bits((await worker.sample(request)).values)).toBe(bits(values));
  await worker.load(await fileOf(6));
  expect(bits((await worker.sample(request)).values)).not.toBe(bits(values));
});

it('there is nothing to look into before a model is loaded', async () => {
  const { worker } = served();
  await expect(worker.inspect({ label: 0, steps: 1, at: 0 })).rejects.toMatchObject({
    message: 'there is no model to look into',
  });
  await expect(worker.breakdown()).rejects.toMatchObject({ message: 'there is no model to time' });
});

describe('recordings behind a URL', () => {
  async function golden() {
    const asked: string[] = [];
    const server = createServer(async (request, response) => {
      asked.push(request.url!);
      const bytes = await readFile(join(ROOT, 'test/fixtures/golden', request.url!)).catch(() => undefined);
      response.writeHead(bytes ? 200 : 404).end(bytes);
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    onTestFinished(() => void server.close());
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
  }

  it('are replayed, each case told', async () => {
    const { url, asked } = await golden();
    const { worker } = served();
    const call = worker.verify({ url, only: 'b/forward/' });
    const told: string[] = [];
    for await (const { model, kind, ok, error, tolerance, done, total } of call) {
      told.push(`${model}/${kind} ${ok}`);
      expect(done).toBe(told.length);
      expect(total).toBeGreaterThanOrEqual(done);
      expect(error).toBeLessThan(tolerance);
      expect(error).toBeGreaterThan(0);
    }
    expect(told.length).toBeGreaterThan(2);
    expect(new Set(told)).toEqual(new Set(['b/forward true']));
    expect(await call).toEqual({ cases: told.length, failed: 0 });
    expect(asked).toContain('/b/forward.safetensors');
  });

  it('that are not there are told by their address', async () => {
    const { url } = await golden();
    const { worker } = served();
    const error = await worker.verify({ url: `${url}/nothing/` }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toBe(`${url}/nothing/MANIFEST.json: the server answered 404 Not Found`);
  });
});

it('kernels are checked and timed', async () => {
  const { worker } = served();
  const call = worker.bench({ kernels: ['euler'], rounds: 3, shapes: ['small'] });
  const told: string[] = [];
  for await (const { text, done, total } of call) told.push(`${text.split(' ')[0]} ${done} of ${total}`);
  const report = await call;
  expect(told).toEqual(['clock 0 of 1', 'euler 0 of 1']);
  const unknown = worker.bench({ kernels: ['euler', 'eular'] });
  await expect(unknown).rejects.toMatchObject({ message: "no kernel that is timed is 'eular'" });
  expect(report.subjects.map(({ name }) => name)).toEqual(['here']);
  expect(report.kernels.length).toBeGreaterThan(0);
  for (const { kernel } of report.kernels) expect(kernel).toBe('euler');
});
