/** Models kept range by range: asked for once, checked when they are read again, and in memory where there is no cache. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { modelContents } from '../../model/weights/model-file.ts';
import { openModelUrl } from '../../model/weights/source-url.ts';
import { cachingFetch } from '../../web/cache.ts';
import {
  asRange,
  block,
  config,
  expectEqualGroups,
  FIRST,
  params,
  partOf,
  quick,
  rangeOf,
  serve,
  whole,
} from '../support/weights.ts';

/** A browser's cache as far as it is used; `quota`: most bytes, beyond which it refuses. */
function fakeCaches(quota = Number.POSITIVE_INFINITY) {
  const kept = new Map<string, Response>();
  let used = 0;
  const cache = {
    match: async (key: string) => kept.get(key)?.clone(),
    async put(key: string, response: Response) {
      used += (await response.clone().arrayBuffer()).byteLength;
      if (used > quota) throw new DOMException('Quota exceeded.', 'QuotaExceededError');
      kept.set(key, response);
    },
    delete: async (key: string) => kept.delete(key),
  };
  return { kept, caches: { open: async () => cache as unknown as Cache } };
}

/** A cache whose storage is gone. */
const unreadable = {
  open: async () => ({
    ...(await fakeCaches().caches.open()),
    match: () => Promise.reject(new Error('InvalidStateError')),
  }),
};

const FOUR = [block(0), block(1)];

async function readTwice(fetch: typeof globalThis.fetch, url: string) {
  for (let time = 0; time < 2; time++) {
    const { source } = await openModelUrl(url, { ...quick, fetch });
    for (const group of FOUR) await source.read(group);
  }
}

/** A server's answers with a version, unless `headers` takes it away. */
const versioned =
  (headers: () => Readonly<Record<string, string>> = () => ({ etag: 'one' })): typeof globalThis.fetch =>
  async (input, init) => {
    const response = await globalThis.fetch(input, init);
    const { status, body } = response;
    return new Response(body, { status, headers: { ...Object.fromEntries(response.headers), ...headers() } });
  };
const ask = versioned();

describe('a model that is read twice', () => {
  it('comes from the server once, but for its header', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    const fetch = cachingFetch({ caches, fetch: ask });
    await readTwice(fetch, url);
    expect(asked).toEqual([FIRST, ...FOUR.map((group) => asRange(rangeOf(whole, group))), FIRST]);
    expect(kept.size).toBe(FOUR.length);
    await expectEqualGroups(
      (await openModelUrl(url, { ...quick, fetch: cachingFetch({ caches, fetch: ask }) })).source,
      whole,
    );
  });

  it('comes anew where what is kept is damaged', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    await readTwice(cachingFetch({ caches, fetch: ask }), url);
    for (const [key, response] of kept) {
      const bytes = new Uint8Array(await response.arrayBuffer());
      bytes[0]! ^= 1;
      kept.set(key, new Response(bytes, { headers: response.headers }));
    }
    await expectEqualGroups(
      (await openModelUrl(url, { ...quick, fetch: cachingFetch({ caches, fetch: ask }) })).source,
      whole,
    );
    expect(asked.filter((range) => range === asRange(rangeOf(whole, FOUR[0]!))).length).toBe(2);
  });

  it('comes anew where the file is another now', async () => {
    const { url, asked } = await serve(whole);
    const { caches } = fakeCaches();
    let version = 'one';
    const told = versioned(() => ({ etag: version }));
    await readTwice(cachingFetch({ caches, fetch: told }), url);
    version = 'two';
    await readTwice(cachingFetch({ caches, fetch: told }), url);
    expect(asked.filter((range) => range === asRange(rangeOf(whole, FOUR[1]!))).length).toBe(2);
  });

  it('comes from the server each time where that tells no version', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    await readTwice(cachingFetch({ caches }), url);
    expect([asked.length, kept.size]).toEqual([2 * (1 + FOUR.length), 0]);
  });

  it('is kept apart from its own other blocks where its address has a fragment', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    const fetch = cachingFetch({ caches, fetch: ask });
    await readTwice(fetch, `${url}#first`);
    await readTwice(fetch, `${url}#second`);
    expect(asked.length).toBe(4 + FOUR.length);
    expect([...kept.keys()].every((key) => !key.includes('#'))).toBe(true);
    expect(kept.size).toBe(FOUR.length);
  });

  it('comes anew, once, where what is kept is another file of the same version and size', async () => {
    const { tensors, metadata } = await modelContents(config, params);
    const good = serializeSafetensors(tensors, metadata);
    const stale = good.slice();
    for (const group of FOUR) stale[rangeOf(good, group)[0]]! ^= 1;
    let isStale = true;
    const { url, asked } = await serve(good, {
      trick(request, response, index) {
        if (!isStale || index === 0) return false;
        response.end(partOf(stale, request, response));
        return true;
      },
    });
    const { caches } = fakeCaches();
    const open = async () =>
      (await openModelUrl(url, { ...quick, fetch: cachingFetch({ caches, fetch: ask }) })).source;
    await expect((await open()).read(FOUR[0]!)).rejects.toThrow(/is damaged/);
    // A damaged file is asked for twice, and no more.
    expect(asked.length).toBe(3);
    isStale = false;
    await expectEqualGroups(await open(), good);
    const before = asked.length;
    await expectEqualGroups(await open(), good);
    expect(asked.length).toBe(before + 1);
  });

  it('is kept in memory where a page may not even ask for its caches', async () => {
    const sandboxed = () => {
      throw new DOMException('The operation is insecure.', 'SecurityError');
    };
    Object.defineProperty(globalThis, 'caches', { get: sandboxed, configurable: true });
    onTestFinished(() => void Reflect.deleteProperty(globalThis, 'caches'));
    const { url, asked } = await serve(whole);
    const notices: string[] = [];
    await readTwice(cachingFetch({ fetch: ask, onNotice: (text) => notices.push(text) }), url);
    expect(asked.length).toBe(2 + FOUR.length);
    expect(notices.length).toBe(1);
  });

  it.each([
    ['without a cache', null, /no Cache API/],
    ['where it cannot be opened', { open: async () => Promise.reject(new Error('SecurityError')) }, /SecurityError/],
    ['beyond its quota', fakeCaches(100).caches, /Quota exceeded/],
    ['where nothing can be read of it', unreadable, /InvalidStateError/],
  ])('is kept in memory %s, which is told once', async (_, caches, why) => {
    const { url, asked } = await serve(whole);
    const notices: string[] = [];
    await readTwice(cachingFetch({ caches, fetch: ask, onNotice: (text) => notices.push(text) }), url);
    expect(asked.length).toBe(2 + FOUR.length);
    expect(notices).toEqual([expect.stringMatching(/^models are kept in memory only: /)]);
    expect(notices[0]).toMatch(why);
  });
});
