/** Weights over HTTP: just the bytes that are needed, whatever the server does. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { CheckpointError, InterruptedError, UnsupportedError } from '../../../engine/errors.ts';
import { serializeSafetensors } from '../../../formats/safetensors.ts';
import { parseModelConfig } from '../../../model/config.ts';
import { modelMetadata, modelTensors } from '../../../model/weights/model-file.ts';
import type { ModelSource } from '../../../model/weights/source.ts';
import { openModelUrl, readUrl } from '../../../model/weights/source-url.ts';
import { formulaParams } from '../../../verify/formula-params.ts';
import {
  asRange,
  block,
  config,
  expectBits,
  expectEqualGroups,
  FIRST,
  head,
  metadata,
  ofFour,
  params,
  partOf,
  quick,
  rangeOf,
  serve,
  type Trick,
  tensorsAs,
  whole,
} from '../../support/weights.ts';

/** Opens a server's model and checks that reading a block is refused so. */
async function expectRefusal(trick: Trick, message: RegExp, asked = 2): Promise<void> {
  const served = await serve(whole, { trick });
  const { source } = await openModelUrl(served.url, quick);
  const error = await source.read(1).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(CheckpointError);
  expect((error as Error).message).toMatch(message);
  expect(served.asked.length).toBe(asked);
  expect(source.bytesRead).toBe(0);
}

/** The answer as a network gives it that fails after so many bytes. */
async function brokenOff(response: Response, bytes: number): Promise<Response> {
  const chunks = [new Uint8Array(await response.arrayBuffer()).subarray(0, bytes)];
  const pull = (stream: ReadableStreamDefaultController) => {
    const chunk = chunks.pop();
    if (chunk) stream.enqueue(chunk);
    else stream.error(new TypeError('terminated'));
  };
  return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), response);
}

describe('from a URL', () => {
  test('each group is one request for its bytes after one for the header', async () => {
    const served = await serve(whole);
    const opened: ModelSource = await openModelUrl(new URL(served.url));
    expect(opened.config).toEqual(config);
    expect(opened.metadata.get('odelt.step')).toBe('7');
    for (const group of ofFour) expectBits(await opened.source.read(group), params.groups[group]);
    const ranges = ofFour.map((group) => rangeOf(whole, group));
    expect(served.asked).toEqual([FIRST, ...ranges.map(asRange)]);
    const data = ranges.reduce((sum, [begin, end]) => sum + end - begin, 0);
    expect(served.sent).toBe(65536 + data);
    expect(opened.source.bytesRead).toBe(data);
    await opened.close();
  });

  test('all groups agree; a header beyond the first request takes a second; a file shorter than it is fine', async () => {
    const long = serializeSafetensors(tensorsAs('F16'), { ...metadata, notes: 'n'.repeat(70_000) });
    const served = await serve(long);
    await expectEqualGroups((await openModelUrl(served.url)).source, long);
    expect(served.asked.slice(0, 2)).toEqual([FIRST, asRange([8, rangeOf(long, 0)[0]])]);
    const smallest = parseModelConfig({ ...config, width: 4, heads: 1, lengths: null });
    const few = formulaParams(smallest, 3);
    const short = serializeSafetensors(modelTensors(few), modelMetadata(smallest));
    expect(short.length).toBeLessThan(65536);
    const { source } = await openModelUrl((await serve(short)).url);
    expectBits(await source.read(2), few.groups[2]);
  });

  test('a server without ranges gives the whole file once, if it is small', async () => {
    const served = await serve(whole, { ranges: false });
    const { source } = await openModelUrl(served.url);
    await expectEqualGroups(source, whole);
    expect(served.asked).toEqual([FIRST]);
  });

  test('a file that is wanted whole takes one more request for the rest, and none where there is no rest', async () => {
    const long = await serve(whole);
    expect(Buffer.compare(await readUrl(long.url), whole)).toBe(0);
    expect(long.asked).toEqual([FIRST, asRange([65536, whole.length])]);
    const short = whole.subarray(0, 1000);
    const few = await serve(short);
    expect(Buffer.compare(await readUrl(few.url), short)).toBe(0);
    const plain = await serve(whole, { ranges: false });
    expect(Buffer.compare(await readUrl(plain.url), whole)).toBe(0);
    expect([few.asked, plain.asked]).toEqual([[FIRST], [FIRST]]);
  });

  test('a large file without ranges is refused, by its stated length or when it turns out large', async () => {
    const stated = await serve(whole, {
      trick: (_, response) => {
        response.writeHead(200, { 'content-length': 10 ** 9 });
        response.write(whole);
        return true;
      },
    });
    await expect(openModelUrl(stated.url)).rejects.toThrow(UnsupportedError);
    await expect(openModelUrl(stated.url)).rejects.toThrow(/the file has 1000000000 bytes/);
    const chunked = await serve(whole, {
      trick: (_, response) => {
        response.end(Buffer.alloc(65 * 2 ** 20));
        return true;
      },
    });
    const viaStream = openModelUrl(chunked.url, {
      // Without its length, as a chunked answer comes.
      fetch: async (...args) => {
        const { body, status } = await fetch(...args);
        return new Response(body, { status });
      },
    });
    await expect(viaStream).rejects.toThrow(/the file has more than 67108864 bytes/);
  });

  test('an answer that breaks off is taken up where it ended', async () => {
    const [begin, end] = rangeOf(whole, block(0));
    const served = await serve(whole);
    const { source } = await openModelUrl(served.url, {
      ...quick,
      fetch: async (...args) => {
        const response = await fetch(...args);
        return served.asked.length === 2 ? brokenOff(response, 1000) : response;
      },
    });
    expectBits(await source.read(block(0)), params.groups[block(0)]);
    expect(served.asked).toEqual([FIRST, asRange([begin, end]), asRange([begin + 1000, end])]);
    expect(source.bytesRead).toBe(end - begin);
  });

  test('an answer that always ends early is an error after four tries, at the header as at a group', async () => {
    const cut: Trick = (request, response) => {
      const part = partOf(whole, request, response);
      // Chunked and properly ended, so that only counting tells.
      response.write(part.subarray(0, 10));
      response.end();
      return true;
    };
    await expectRefusal((q, s, i) => i > 0 && cut(q, s, i), /after 4 tries: the answer ended \d+ bytes early/, 5);
    const served = await serve(whole, { trick: cut });
    await expect(openModelUrl(served.url, quick)).rejects.toThrow(CheckpointError);
    expect(served.asked).toEqual([FIRST, FIRST, FIRST, FIRST]);
    const unranged = await serve(whole, {
      trick: (_, response) => {
        response.setHeader('content-length', whole.length);
        response.write(whole.subarray(0, 5000), () => response.destroy());
        return true;
      },
    });
    await expect(openModelUrl(unranged.url, quick)).rejects.toThrow(CheckpointError);
    expect(unranged.asked.length).toBe(4);
  });

  test('a file that changes between requests is refused', async () => {
    const field =
      (name: string, value: (index: number) => string): Trick =>
      (_, response, index) => {
        response.setHeader(name, value(index));
        return false;
      };
    await expectRefusal(
      field('etag', (i) => `"v${i}"`),
      /changed .*its ETag was "v0" and is "v1"/,
    );
    await expectRefusal(
      field('last-modified', (i) => `Sat, 0${i + 1} Nov 2025 00:00:00 GMT`),
      /last modified Sat, 01/,
    );
    const longer = new Uint8Array([...whole, 0]);
    const grown: Trick = (request, response, index) => {
      if (index > 0) response.end(partOf(longer, request, response));
      return index > 0;
    };
    await expectRefusal(grown, new RegExp(`it had ${whole.length} bytes and has ${longer.length}`));
    const unranged: Trick = (_, response, index) => {
      if (index > 0) response.end(whole);
      return index > 0;
    };
    await expectRefusal(unranged, /it no longer answers range requests/);
    const shrunk: Trick = (_, response, index) => {
      if (index > 0) response.writeHead(416).end();
      return index > 0;
    };
    await expectRefusal(shrunk, /it is empty or was truncated/);
    // The same ETag vouches for the content, whenever a mirror says that it was written.
    const mirrors = await serve(whole, {
      trick: (_, response, index) => {
        response.setHeader('etag', '"same"').setHeader('last-modified', `day ${index}`);
        return false;
      },
    });
    expectBits(await (await openModelUrl(mirrors.url)).source.read(2), params.groups[2]);
  });

  test('answers other than asked for are refused', async () => {
    const range =
      (value: (begin: number, last: number) => string | null): Trick =>
      (request, response, index) => {
        if (index === 0) return false;
        const part = partOf(whole, request, response);
        const found = /=(\d+)-(\d+)/.exec(request.headers.range!)!.slice(1).map(Number) as [number, number];
        const text = value(...found);
        if (text === null) response.removeHeader('content-range');
        else response.setHeader('content-range', text);
        response.end(part);
        return true;
      };
    const bytes = whole.length;
    await expectRefusal(
      range((b, l) => `bytes ${b + 1}-${l + 1}/${bytes}`),
      /the answer's Content-Range is bytes/,
    );
    await expectRefusal(
      range((b, l) => `bytes ${b}-${l - 1}/${bytes}`),
      /the answer's Content-Range is bytes/,
    );
    await expectRefusal(
      range((b, l) => `bytes ${b}-${l}/*`),
      /the answer's Content-Range is bytes/,
    );
    await expectRefusal(
      range(() => null),
      /the answer's Content-Range is missing/,
    );
    const more: Trick = (request, response, index) => {
      if (index === 0) return false;
      response.write(partOf(whole, request, response));
      response.end('more');
      return true;
    };
    await expectRefusal(more, /sent more than was asked for/);
    const encoded = await serve(whole, {
      trick: (_, response) => {
        response.setHeader('content-encoding', 'br');
        return false;
      },
    });
    await expect(openModelUrl(encoded.url, quick)).rejects.toThrow(UnsupportedError);
    expect(encoded.asked.length).toBe(1);
  });

  test('statuses that may pass are tried again, others are not', async () => {
    const status = (code: number, which: (index: number) => boolean) => ({
      trick: (_: IncomingMessage, response: ServerResponse, index: number) => {
        if (which(index)) response.writeHead(code).end('sorry');
        return which(index);
      },
    });
    const busy = await serve(
      whole,
      status(503, (i) => i < 2 || i === 4),
    );
    const { source } = await openModelUrl(busy.url, quick);
    expectBits(await source.read(head), params.groups[head]);
    expectBits(await source.read(3), params.groups[3]);
    const ranges = [head, 3, 3].map((group) => asRange(rangeOf(whole, group)));
    expect(busy.asked).toEqual([FIRST, FIRST, FIRST, ...ranges]);
    const down = await serve(
      whole,
      status(500, () => true),
    );
    await expect(openModelUrl(down.url, quick)).rejects.toThrow(/after 4 tries: the server answered 500/);
    expect(down.asked.length).toBe(4);
    for (const code of [401, 403, 404, 410, 204]) {
      const none = await serve(
        whole,
        status(code, () => true),
      );
      await expect(openModelUrl(none.url, quick)).rejects.toThrow(new RegExp(`the server answered ${code}`));
      expect(none.asked.length).toBe(1);
    }
    const empty = await serve(new Uint8Array());
    await expect(openModelUrl(empty.url, quick)).rejects.toThrow(/it is empty/);
    let calls = 0;
    const unreachable = openModelUrl('http://model.invalid/', {
      ...quick,
      fetch: async () => {
        calls++;
        throw new TypeError('fetch failed');
      },
    });
    await expect(unreachable).rejects.toThrow(/model\.invalid\/ cannot be read after 4 tries: fetch failed/);
    expect(calls).toBe(4);
    await expect(openModelUrl('not a url')).rejects.toThrow(CheckpointError);
  });

  test('what lies behind a failed fetch is said; addresses with passwords are refused unsaid', async () => {
    const gone = await serve(whole);
    const { port } = new URL(gone.url);
    const refused = openModelUrl(`http://127.0.0.1:${port === '1' ? 2 : 1}/`, quick);
    await expect(refused).rejects.toThrow(/after 4 tries: fetch failed \(.+\); 0 bytes had arrived$/);
    const circle = await serve(whole, {
      trick: (_, response) => !!response.writeHead(302, { location: '/again' }).end(),
    });
    await expect(openModelUrl(circle.url, quick)).rejects.toThrow(/fetch failed \(redirect count exceeded\)/);
    const secret = await openModelUrl('https://me:hush@model.invalid/w').catch((error: unknown) => error as Error);
    expect(secret).toBeInstanceOf(CheckpointError);
    expect((secret as Error).message).toContain('an address at model.invalid holds a user name or password');
    expect(`${secret} ${(secret as CheckpointError).hint}`).not.toContain('hush');
  });

  test('a compressed answer is read where it is whole, and refused where it is a part', async () => {
    const packed = gzipSync(whole);
    const gzipped = (status: number) => ({
      trick: (request: IncomingMessage, response: ServerResponse) => {
        if (status === 206) partOf(whole, request, response);
        response.writeHead(status, { 'content-encoding': 'gzip', 'content-length': packed.length }).end(packed);
        return true;
      },
    });
    await expectEqualGroups((await openModelUrl((await serve(whole, gzipped(200))).url)).source, whole);
    const part = await serve(whole, gzipped(206));
    const error = await openModelUrl(part.url, quick).catch((error: unknown) => error as Error);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect((error as Error).message).toBe(`${part.url}: the server sends parts in the encoding gzip`);
    expect(part.asked.length).toBe(1);
  });

  test('redirects are followed with the range, but not out of encryption', async () => {
    const target = await serve(whole);
    const trick: Trick = (_, response) => {
      response.writeHead(302, { location: target.url }).end();
      return true;
    };
    const { source } = await openModelUrl((await serve(whole, { trick })).url);
    expectBits(await source.read(4), params.groups[4]);
    expect(target.asked).toEqual([FIRST, asRange(rangeOf(whole, 4))]);
    const downgrade = openModelUrl('https://model.invalid/', {
      fetch: (_, init) => fetch(target.url, init),
    });
    await expect(downgrade).rejects.toThrow(/which is not encrypted/);
  });

  test('damaged and hostile files are refused when they are opened', async () => {
    await expect(openModelUrl((await serve(whole.subarray(0, -4))).url)).rejects.toThrow(/is truncated/);
    await expect(openModelUrl((await serve(Uint8Array.of(1, 2, 3))).url)).rejects.toThrow(/has 3 bytes/);
    const hostile = whole.slice();
    hostile.fill(0xff, 0, 8);
    await expect(openModelUrl((await serve(hostile)).url)).rejects.toThrow(/claims a header/);
    const unnamed = serializeSafetensors(modelTensors(params));
    await expect(openModelUrl((await serve(unnamed)).url)).rejects.toThrow(/does not describe its model/);
    const { source } = await openModelUrl((await serve(unnamed)).url, { config });
    expectBits(await source.read(head), params.groups[head]);
  });

  test('an aborted signal ends an answer that does not come, one under way, and the wait for a retry', async () => {
    const stopping = new AbortController();
    const mute: Trick = () => {
      setTimeout(() => stopping.abort(), 10);
      return true;
    };
    const served = await serve(whole, { trick: mute });
    const { signal } = stopping;
    for (let turn = 0; turn < 2; turn++) {
      const opened = await openModelUrl(served.url, { signal }).catch((error: unknown) => error);
      expect(opened).toBeInstanceOf(InterruptedError);
      expect((opened as InterruptedError).cause).toBe(signal.reason);
    }
    expect(served.asked.length).toBe(1);

    const reading = new AbortController();
    const slow = await serve(whole, {
      trick: (request, response, index) => {
        if (index === 0) return false;
        response.write(partOf(whole, request, response).subarray(0, 100), () => setTimeout(() => reading.abort(), 10));
        return true;
      },
    });
    const { source } = await openModelUrl(slow.url);
    await expect(source.read(block(0), reading.signal)).rejects.toThrow(InterruptedError);
    expect(source.bytesRead).toBe(0);

    const waiting = new AbortController();
    const busy = await serve(whole, {
      trick: (_, response) => {
        response.writeHead(503).end(() => setTimeout(() => waiting.abort(), 50));
        return true;
      },
    });
    const options = { signal: waiting.signal, retryDelay: 1e8 };
    await expect(openModelUrl(busy.url, options)).rejects.toThrow(InterruptedError);
    expect(busy.asked.length).toBe(1);
  });
});
