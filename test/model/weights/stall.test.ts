/** Servers that stop sending, or send a byte now and then: noticed, tried again, and reported. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import { CheckpointError, ConfigError, InterruptedError } from '../../../engine/errors.ts';
import { openModelUrl } from '../../../model/weights/source-url.ts';
import { watched } from '../../../model/weights/stall.ts';
import {
  asRange,
  block,
  expectBits,
  FIRST,
  head,
  params,
  partOf,
  quick,
  rangeOf,
  serve,
  type Trick,
  whole,
} from '../../support/weights.ts';

/** A tenth of a second: 103 bytes are enough in it. */
const soon = { ...quick, stallSeconds: 0.1 };

/** Sends these first bytes of the answer, then `every` that many milliseconds one more; notes when the other side ends it. */
function sending(first: number, closed: { count: number }, every?: number) {
  return (request: IncomingMessage, response: ServerResponse): boolean => {
    const part = partOf(whole, request, response);
    response.setHeader('content-length', part.length);
    response.write(part.subarray(0, first));
    response.flushHeaders();
    let at = first;
    const timer = every && setInterval(() => response.write(part.subarray(at, ++at)), every);
    response.on('close', () => {
      clearInterval(timer || undefined);
      closed.count++;
    });
    return true;
  };
}

const failure = (promise: Promise<unknown>) =>
  promise.then(() => null).catch((error: unknown) => error as CheckpointError);

describe('a server that stalls', () => {
  const ways: [string, (closed: { count: number }) => Trick, number][] = [
    ['before it answers', (closed) => (_, response) => !!response.on('close', () => closed.count++), 0],
    ['after the fields of its answer', (closed) => sending(0, closed), 0],
    ['in the middle of its answer', (closed) => sending(5000, closed), 4 * 5000],
    ['but for a byte now and then', (closed) => sending(0, closed, 25), -1],
  ];
  test.each(ways)('%s is asked four times, each time let go, and named', async (_, trick, bytes) => {
    const closed = { count: 0 };
    const served = await serve(whole, { trick: trick(closed) });
    const error = await failure(openModelUrl(served.url, soon));
    expect(error).toBeInstanceOf(CheckpointError);
    const [, found] =
      /^http:.* cannot be read after 4 tries: the server stalled: less than 1024 bytes per second came in 0\.1 s; (\d+) bytes had arrived$/.exec(
        error!.message,
      ) ?? [];
    if (bytes >= 0) expect(Number(found)).toBe(bytes);
    else expect(Number(found)).toBeGreaterThan(0);
    expect(error!.message).toContain(served.url);
    expect(error!.hint).toContain('`stallSeconds` allows slow servers more time');
    expect(served.asked).toEqual([FIRST, FIRST, FIRST, FIRST]);
    await expect.poll(() => closed.count).toBe(4);
  });

  test('once is taken up where it stopped', async () => {
    const closed = { count: 0 };
    const [begin, end] = rangeOf(whole, block(0));
    const stall = sending(1000, closed);
    const served = await serve(whole, { trick: (q, s, i) => i === 1 && stall(q, s) });
    const { source } = await openModelUrl(served.url, soon);
    expectBits(await source.read(block(0)), params.groups[block(0)]);
    expect(served.asked).toEqual([FIRST, asRange([begin, end]), asRange([begin + 1000, end])]);
    expect(source.bytesRead).toBe(end - begin);
    await expect.poll(() => closed.count).toBe(1);
  });

  test('without ranges is noticed, too', async () => {
    const served = await serve(whole, {
      trick: (_, response) => response.writeHead(200, { 'content-length': whole.length }).write(whole.subarray(0, 700)),
    });
    const error = await failure(openModelUrl(served.url, soon));
    expect(error?.message).toMatch(/after 4 tries: the server stalled: .*; 2800 bytes had arrived/);
  });

  test('is let go when the caller has had enough', async () => {
    const stopping = new AbortController();
    const served = await serve(whole, { trick: () => setTimeout(() => stopping.abort(), 20).hasRef() });
    const error = await failure(openModelUrl(served.url, { ...quick, stallSeconds: 1000, signal: stopping.signal }));
    expect(error).toBeInstanceOf(InterruptedError);
    expect(served.asked.length).toBe(1);
  });
});

test('a slow answer that goes on is waited for, far longer than a stall may last', async () => {
  let took = 0;
  const served = await serve(whole, {
    trick: (request, response, index) => {
      if (index === 0) return false;
      const part = partOf(whole, request, response);
      const started = performance.now();
      let at = 0;
      // In eight pieces, each of them enough for its tenth of a second.
      const timer = setInterval(() => {
        const next = at + Math.ceil(part.length / 8);
        response.write(part.subarray(at, next));
        at = next;
        if (at < part.length) return;
        clearInterval(timer);
        took = performance.now() - started;
        response.end();
      }, 50);
      return true;
    },
  });
  const { source } = await openModelUrl(served.url, soon);
  expectBits(await source.read(head), params.groups[head]);
  expect(took).toBeGreaterThan(300);
  expect(served.asked.length).toBe(2);
});

test('a thread that was busy has not waited: that is no stall', async () => {
  const done = watched(0.1, undefined, async ({ signal }) => {
    const until = performance.now() + 400;
    while (performance.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 1));
    return signal.aborted;
  });
  expect(await done).toBe(false);
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e7])('%d seconds are no period', async (stallSeconds) => {
  const error = await failure(openModelUrl('http://model.invalid/', { stallSeconds }));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error?.message).toBe(`stallSeconds is ${stallSeconds}; it must be above 0 and at most 1000000`);
});
