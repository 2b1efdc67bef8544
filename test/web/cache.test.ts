/** Models kept range by range: asked for once, checked when they are read again, and in memory where there is no cache. */
import { describe, expect, it } from 'vitest';
import { openModelUrl } from '../../model/weights/source-url.ts';
import { cachingFetch } from '../../web/cache.ts';
import { asRange, block, expectEqualGroups, FIRST, quick, rangeOf, serve, whole } from '../support/weights.ts';

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

describe('a model that is read twice', () => {
  it('comes from the server once, but for its header', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    const fetch = cachingFetch({ caches });
    await readTwice(fetch, url);
    expect(asked).toEqual([FIRST, ...FOUR.map((group) => asRange(rangeOf(whole, group))), FIRST]);
    expect(kept.size).toBe(FOUR.length);
    await expectEqualGroups((await openModelUrl(url, { ...quick, fetch: cachingFetch({ caches }) })).source, whole);
  });

  it('comes anew where what is kept is damaged', async () => {
    const { url, asked } = await serve(whole);
    const { caches, kept } = fakeCaches();
    await readTwice(cachingFetch({ caches }), url);
    for (const [key, response] of kept) {
      const bytes = new Uint8Array(await response.arrayBuffer());
      bytes[0]! ^= 1;
      kept.set(key, new Response(bytes, { headers: response.headers }));
    }
    await expectEqualGroups((await openModelUrl(url, { ...quick, fetch: cachingFetch({ caches }) })).source, whole);
    expect(asked.filter((range) => range === asRange(rangeOf(whole, FOUR[0]!))).length).toBe(2);
  });

  it('comes anew where the file is another now', async () => {
    const { url, asked } = await serve(whole);
    const { caches } = fakeCaches();
    let version = 'one';
    const told = async (input: string | URL | Request, init?: RequestInit) => {
      const response = await globalThis.fetch(input, init);
      const headers = new Headers(response.headers);
      headers.set('etag', version);
      return new Response(response.body, { status: response.status, headers });
    };
    await readTwice(cachingFetch({ caches, fetch: told }), url);
    version = 'two';
    await readTwice(cachingFetch({ caches, fetch: told }), url);
    expect(asked.filter((range) => range === asRange(rangeOf(whole, FOUR[1]!))).length).toBe(2);
  });

  it.each([
    ['without a cache', null, /no Cache API/],
    ['where it cannot be opened', { open: async () => Promise.reject(new Error('SecurityError')) }, /SecurityError/],
    ['beyond its quota', fakeCaches(100).caches, /Quota exceeded/],
    ['where nothing can be read of it', unreadable, /InvalidStateError/],
  ])('is kept in memory %s, which is told once', async (_, caches, why) => {
    const { url, asked } = await serve(whole);
    const notices: string[] = [];
    await readTwice(cachingFetch({ caches, onNotice: (text) => notices.push(text) }), url);
    expect(asked.length).toBe(2 + FOUR.length);
    expect(notices).toEqual([expect.stringMatching(/^models are kept in memory only: /)]);
    expect(notices[0]).toMatch(why);
  });
});
