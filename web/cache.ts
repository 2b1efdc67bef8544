/**
 * A `fetch` that keeps what it reads of models in the browser's Cache API, range by range, each with its SHA-256. The first range of a
 * file, with its header, always comes from the server and says which version it is; kept ranges of that version are read no more.
 * Nothing is kept of a server that tells no version (ETag, Last-Modified), and `cache: 'reload'` reads past what is kept.
 */
import { hasSha256, sha256 } from '../formats/bytes.ts';

/** What is used of a browser's cache. */
export interface CacheOfAnswers {
  /** What was put under a URL. */
  match(url: string): Promise<Response | undefined>;
  /** Keeps an answer under a URL. */
  put(url: string, answer: Response): Promise<void>;
  /** Removes what is under a URL; whether there was something. */
  delete(url: string): Promise<boolean>;
}

/** What is used of a browser's `caches`. */
export interface Caches {
  /** The cache of a name, made where there is none. */
  open(name: string): Promise<CacheOfAnswers>;
}

/** How ranges are kept. */
export interface CacheOptions {
  /** Of the cache, to be removed with `caches.delete`. Default 'odelt-models'. */
  readonly name?: string;
  /** What reads from servers. Default: the global one. */
  readonly fetch?: typeof fetch;
  /** Where ranges are kept. Default: the global one; null, or a page without: in memory, as long as this fetch lives. */
  readonly caches?: Caches | null;
  /** Told once where the cache cannot be used: there is none, or its quota is exceeded. Default: console.warn. */
  readonly onNotice?: (text: string) => void;
}

/** A kept answer. */
interface Kept {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headers: Readonly<Record<string, string>>;
}

interface Store {
  get(key: string): Promise<Kept | null>;
  put(key: string, kept: Kept): Promise<void>;
  drop(key: string): Promise<void>;
}

const DIGEST = 'x-odelt-sha256';
const HEADERS = ['content-range', 'etag', 'last-modified'] as const;

/** What tells the file's version: kept ranges of another are not used. Undefined where the server does not say; the size alone is none. */
const versionOf = ({ etag = '', ...headers }: Readonly<Record<string, string>>): string | undefined => {
  const modified = headers['last-modified'] ?? '';
  return etag || modified ? [headers['content-range']?.split('/')[1] ?? '', etag, modified].join('|') : undefined;
};

/** The page's own; null where it has none, or may not have it, as in a sandboxed frame. */
function ownCaches(): Caches | null {
  try {
    return globalThis.caches ?? null;
  } catch {
    return null;
  }
}

/** A fetch for `openModelUrl({ fetch })`. Requests without a range, and answers that are no parts, pass through. */
export function cachingFetch(options: CacheOptions = {}): typeof fetch {
  const { name = 'odelt-models', fetch: ask = (input, init) => fetch(input, init), onNotice = console.warn } = options;
  const given: Caches | null = options.caches === undefined ? ownCaches() : options.caches;
  let store: Promise<Store> | null = null;
  const toMemory = (why: string): Store => {
    onNotice(`models are kept in memory only: ${why}`);
    const memory = memoryStore();
    store = Promise.resolve(memory);
    return memory;
  };
  const open = (): Promise<Store> => {
    store ??= !given
      ? Promise.resolve(toMemory('this page has no Cache API'))
      : given.open(name).then(cacheStore, (error: unknown) => toMemory(String(error)));
    return store;
  };
  /** By URL: the version that the server last told. */
  const versions = new Map<string, string | undefined>();

  return async (input, init) => {
    const range = new Headers(init?.headers).get('range');
    if (!range || !hasSha256()) return ask(input, init);
    const address = new URL(input instanceof Request ? input.url : input, globalThis.location?.href);
    // Caches do not tell fragments apart.
    address.hash = '';
    const url = address.href;
    const key = `${url}${url.includes('?') ? '&' : '?'}odelt-range=${range.replace('=', '-')}`;
    const version = versions.get(url);
    if (version !== undefined && init?.cache !== 'reload' && !range.startsWith('bytes=0-')) {
      const kept = await (await open()).get(key).catch((error: unknown) => toMemory(String(error)).get(key));
      if (kept && versionOf(kept.headers) === version) {
        if ((await sha256(kept.bytes)) === kept.headers[DIGEST]) {
          return new Response(kept.bytes, { status: 206, headers: kept.headers });
        }
        await (await open()).drop(key);
      }
    }
    const response = await ask(input, init);
    if (response.status !== 206) return response;
    const headers: Record<string, string> = {};
    for (const header of HEADERS) {
      const value = response.headers.get(header);
      if (value !== null) headers[header] = value;
    }
    const told = versionOf(headers);
    versions.set(url, told);
    const isPlain = headers['content-range'] && !response.headers.has('content-encoding');
    if (range.startsWith('bytes=0-') || told === undefined || !isPlain) return response;
    return keepWhole(response, async (bytes) => {
      const kept = { bytes, headers: { ...headers, [DIGEST]: await sha256(bytes) } };
      const into = await open();
      await into.put(key, kept).catch((error: unknown) => toMemory(String(error)).put(key, kept));
    });
  };
}

/** The answer as it comes, its body given to `keep` once all of it has passed; a body that breaks off is not kept. */
function keepWhole(response: Response, keep: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>): Response {
  if (!response.body) return response;
  const pieces: Uint8Array[] = [];
  const passing = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(piece, controller) {
        pieces.push(piece.slice());
        controller.enqueue(piece);
      },
      async flush() {
        await keep(new Uint8Array(await new Blob(pieces as Uint8Array<ArrayBuffer>[]).arrayBuffer()));
      },
    }),
  );
  const { status, statusText, headers } = response;
  const answer = new Response(passing, { status, statusText, headers });
  // Where it came from decides whether it is encrypted (source-url.ts).
  Object.defineProperty(answer, 'url', { value: response.url });
  return answer;
}

function memoryStore(): Store {
  const kept = new Map<string, Kept>();
  return {
    get: async (key) => kept.get(key) ?? null,
    put: async (key, value) => void kept.set(key, value),
    drop: async (key) => void kept.delete(key),
  };
}

/** Parts cannot be kept as such (status 206), so they are kept as answers of their own addresses. */
function cacheStore(cache: CacheOfAnswers): Store {
  return {
    async get(key) {
      const found = await cache.match(key);
      if (!found) return null;
      return { bytes: new Uint8Array(await found.arrayBuffer()), headers: Object.fromEntries(found.headers) };
    },
    put: (key, { bytes, headers }) => cache.put(key, new Response(bytes, { headers })),
    drop: async (key) => void (await cache.delete(key)),
  };
}
