/** The worker's calls on a real engine, over a message channel: what they give, and that training outlives any number of lost devices. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DataError } from '../../engine/errors.ts';
import { createWorker, type WorkerPort } from '../../web/client.ts';
import { serveWorker } from '../../web/serve.ts';
import { testEngine } from '../support/engine.ts';
import { ROOT } from '../support/repository.ts';
import { tinyModel, tinyTrain } from '../support/tiny.ts';

/** A worker behind a channel; `losesAt`: how many submissions each of its devices, but the last, outlives. */
function served({ losesAt = Number.POSITIVE_INFINITY, losses = 0 } = {}) {
  const { port1, port2 } = new MessageChannel();
  port1.start();
  port2.start();
  const made: unknown[] = [];
  serveWorker(port2 as never, {
    async createEngine() {
      const engine = await testEngine();
      engine.submissionBudget = Number.POSITIVE_INFINITY;
      const loses = made.push(engine) <= losses;
      const { queue } = engine.device;
      const submit = queue.submit.bind(queue);
      queue.submit = (commands) => {
        submit(commands);
        if (loses && engine.counters.submits === losesAt) engine.device.destroy();
      };
      return engine;
    },
  });
  const worker = createWorker(port1 as unknown as WorkerPort);
  onTestFinished(async () => {
    await worker.dispose();
    port1.close();
  });
  return { worker, made };
}

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
