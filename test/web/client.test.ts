/** The page's side of the worker against a worker of the test's, over a message channel: order, progress, ends and data. */
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { DeviceLostError, InterruptedError, UnsupportedError, UsageError } from '../../engine/errors.ts';
import { createWorker, type WorkerPort } from '../../web/client.ts';
import { transferables } from '../../web/protocol.ts';
import { once, serveWorker } from '../../web/serve.ts';
import { silentPort } from '../support/silent-port.ts';

/** A worker behind a channel, whose engines are made by `make`. */
function served(make: () => Promise<Engine>) {
  const { port1, port2 } = new MessageChannel();
  onTestFinished(() => port1.close());
  serveWorker(port2 as never, { createEngine: make });
  return createWorker(port1 as unknown as WorkerPort);
}

/** A worker of which only events are wanted. */
function silent() {
  const port = silentPort();
  return { client: createWorker(port), port, ...port };
}

describe('the worker', () => {
  it('says what it lacks, in the class that was thrown there', async () => {
    const worker = served(async () => {
      throw new UnsupportedError('WebGPU has no adapter on this machine', { hint: 'another browser' });
    });
    const sampled = await worker.sample({ labels: [1], steps: 1, blocks: 4 }).catch((error: unknown) => error);
    expect(sampled).toBeInstanceOf(UsageError);
    expect(sampled).toMatchObject({ message: 'there is no model to sample', hint: 'call load first' });
    const data = { kind: 'nonsense' } as never;
    await expect(worker.train({ data })).rejects.toMatchObject({ code: 'config', message: /data of kind "nonsense"/ });
    const bench = await worker.bench().catch((error: unknown) => error);
    expect(bench).toBeInstanceOf(UnsupportedError);
    expect(bench).toMatchObject({ hint: 'another browser' });
    await worker.dispose();
    await expect(worker.bench()).rejects.toMatchObject({ message: 'the worker has been disposed' });
  });

  it('asks for a new engine after one that was lost or could not be made, and disposes the lost one', async () => {
    let made = 0;
    let disposed = 0;
    const lost = {
      dispose: () => disposed++,
      get device(): never {
        throw new DeviceLostError('the device was lost');
      },
    };
    const worker = served(async () => {
      if (made++ === 0) throw new UnsupportedError('not yet');
      return lost as unknown as Engine;
    });
    await expect(worker.bench()).rejects.toBeInstanceOf(UnsupportedError);
    await expect(worker.bench()).rejects.toBeInstanceOf(DeviceLostError);
    await expect(worker.bench()).rejects.toBeInstanceOf(DeviceLostError);
    expect([made, disposed]).toEqual([3, 2]);
  });

  it('asks for a new engine in place of one that was lost while nobody used it: no call fails by that', async () => {
    let made = 0;
    let disposed = 0;
    const lost = new Set<number>();
    const worker = served(async () => {
      const number = ++made;
      return {
        dispose: () => disposed++,
        check() {
          if (lost.has(number)) throw new DeviceLostError('the device was lost');
        },
        get device(): never {
          throw new UnsupportedError(`asked of engine ${number}`);
        },
      } as unknown as Engine;
    });
    await expect(worker.adapter()).rejects.toThrow('asked of engine 1');
    await expect(worker.adapter()).rejects.toThrow('asked of engine 1');
    lost.add(1);
    await expect(worker.adapter()).rejects.toThrow('asked of engine 2');
    expect([made, disposed]).toEqual([2, 1]);
  });

  it('goes on training after three lost devices in a row, and gives up after the fourth', async () => {
    let made = 0;
    const lost = new Proxy({} as Engine, {
      get(_, name) {
        if (name === 'dispose') return () => {};
        // A promise of it asks whether it is one.
        if (name === 'then') return undefined;
        throw new DeviceLostError(`device ${made} was lost`);
      },
    });
    const worker = served(async () => {
      made++;
      return lost;
    });
    const shape = { name: 'grey', height: 28, width: 28, channels: 1, classes: 1 };
    const data = { kind: 'pixels' as const, ...shape, pixels: new Uint8Array(784), labels: Uint8Array.of(0) };
    const call = worker.train({ data, train: { steps: 2, batch: 8 } });
    const told: unknown[] = [];
    const iterating = (async () => {
      for await (const event of call) told.push(event);
    })();
    await expect(iterating).rejects.toThrow('device 4 was lost');
    await expect(call).rejects.toBeInstanceOf(DeviceLostError);
    const recovered = (n: number) => ({ type: 'recovered', step: 0, message: `device ${n} was lost` });
    expect(told).toEqual([recovered(1), recovered(2), recovered(3)]);
    expect(made).toBe(4);
  });

  it('lets calls wait for their turn, and ends one that is aborted meanwhile', async () => {
    let fail: (error: Error) => void = () => {};
    const worker = served(
      () =>
        new Promise<never>((_, reject) => {
          fail = reject;
        }),
    );
    const first = worker.bench().catch((error: unknown) => error);
    const controller = new AbortController();
    const second = worker.bench({}, { signal: controller.signal }).catch((error: unknown) => error);
    const late = worker.bench({}, { signal: AbortSignal.abort('too late') });
    await expect(late).rejects.toMatchObject({ code: 'interrupted', cause: 'too late' });
    const reason = new Error('the page is left');
    controller.abort(reason);
    await expect.poll(() => fail.length).toBe(1);
    fail(new UnsupportedError('no'));
    expect(await first).toBeInstanceOf(UnsupportedError);
    const stopped = (await second) as Error;
    expect(stopped).toBeInstanceOf(InterruptedError);
    expect(stopped.cause).toBe(reason);
  });
});

describe('a call', () => {
  it('gives what came before somebody iterated, then ends', async () => {
    const { client, answer } = silent();
    const call = client.bench();
    answer({ id: 1, progress: 'first' });
    answer({ id: 1, progress: 'second' });
    answer({ id: 7, progress: 'of another' });
    answer({ id: 1, result: 42 });
    const told: unknown[] = [];
    for await (const progress of call) told.push(progress);
    expect(told).toEqual(['first', 'second']);
    expect(await call).toBe(42);
  });

  it('keeps the last of what is large, and the small, while nobody iterates', async () => {
    const { client, answer } = silent();
    const call = client.train({});
    for (let step = 1; step <= 1200; step++) {
      answer({ id: 1, progress: { type: 'step', step } });
      if (step % 400 !== 0) continue;
      answer({ id: 1, progress: { type: 'checkpoint', step, bytes: new Uint8Array(1) } });
      answer({ id: 1, progress: { type: 'shown', step, samples: [], flow: [] } });
    }
    answer({ id: 1, result: 42 });
    const told: string[] = [];
    for await (const { type, step } of call) told.push(`${type} ${step}`);
    expect(told.length).toBe(1000);
    expect(told.filter((each) => !each.startsWith('step'))).toEqual(['checkpoint 1200', 'shown 1200']);
    expect(told.at(-3)).toBe('step 1200');
  });

  it('throws where somebody iterates, and to whoever awaits', async () => {
    const { client, answer } = silent();
    const call = client.bench();
    const told: unknown[] = [];
    const iterating = (async () => {
      for await (const progress of call) told.push(progress);
    })();
    answer({ id: 1, progress: 'first' });
    answer({ id: 1, error: { name: 'ConfigError', code: 'config', message: 'no', fields: {} } });
    await expect(iterating).rejects.toMatchObject({ code: 'config', message: 'no' });
    await expect(call).rejects.toMatchObject({ code: 'config' });
    expect(told).toEqual(['first']);
  });

  it('is aborted once, by its number, and not after its end', async () => {
    const { client, sent, answer } = silent();
    const controller = new AbortController();
    const call = client.bench({}, { signal: controller.signal });
    controller.abort();
    expect(sent).toEqual([
      { id: 1, call: 'bench', args: {} },
      { id: 1, abort: true },
    ]);
    answer({ id: 1, result: 0 });
    await call;
    const other = new AbortController();
    const ended = client.bench({}, { signal: other.signal });
    answer({ id: 2, result: 0 });
    await ended;
    other.abort();
    expect(sent.length).toBe(3);
  });

  it('fails where the worker cannot be loaded, which is then ended', async () => {
    const { client, port } = silent();
    const call = client.bench();
    port.tell(new Event('error'));
    expect(port.ends).toBe(1);
    const error = await call.catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error).toMatchObject({
      message: 'the worker could not be started or has failed: its module could not be loaded',
      hint: /worker-src 'self'/,
    });
    await expect(client.bench()).rejects.toBe(error);
  });
});

it('what could not be made once is made anew, and then kept', async () => {
  let tries = 0;
  const make = once(async () => {
    if (++tries === 1) throw new TypeError('Failed to fetch dynamically imported module');
    return { tries };
  });
  await expect(make()).rejects.toThrow('Failed to fetch');
  const made = await make();
  expect(made.tries).toBe(2);
  expect(await make()).toBe(made);
});

describe('what is handed over', () => {
  it('is each buffer once, never that of a part', () => {
    const whole = new Float32Array(4);
    const part = new Uint8Array(8).subarray(2);
    expect(transferables({ id: 1, result: { values: whole, again: [whole], part, text: 'x', none: null } })).toEqual([
      whole.buffer,
    ]);
  });
});

it('where trusted types are required, its address comes from a policy, and the page keeps its Worker', () => {
  const made: unknown[] = [];
  let attempts = 0;
  class Worker {
    constructor(...given: unknown[]) {
      attempts++;
      if (typeof given[0] !== 'object' || given[0] instanceof URL) throw new TypeError('requires a TrustedScriptURL');
      made.push(given);
    }
    addEventListener() {}
  }
  vi.stubGlobal('Worker', Worker);
  onTestFinished(() => void vi.unstubAllGlobals());
  expect(() => createWorker()).toThrow('requires a TrustedScriptURL');
  const taken = new Set<string>();
  vi.stubGlobal('trustedTypes', {
    createPolicy(name: string, rules: { createScriptURL(url: string): string }) {
      if (taken.has(name)) throw new TypeError(`Policy with name "${name}" already exists.`);
      taken.add(name);
      return { createScriptURL: (url: string) => ({ name, url: rules.createScriptURL(url) }) };
    },
  });
  // The second has the policy of the first, whose name cannot be taken again.
  createWorker();
  createWorker();
  const url = new URL('../../web/module.js', import.meta.url).href;
  const started = [{ name: 'odelt', url }, { type: 'module' }];
  expect(made).toEqual([started, started]);
  // The browser would tell of an attempt without a policy.
  expect(attempts).toBe(3);
  expect(globalThis.Worker).toBe(Worker);
});

it('without web workers there is no worker of its own', () => {
  expect(() => createWorker()).toThrow(UnsupportedError);
});
