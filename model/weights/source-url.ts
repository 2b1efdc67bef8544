/** A model's weights at a URL, read by HTTP range requests (RFC 9110, section 14): the header first, then groups. */
import { throwIfAborted } from '../../engine/abort.ts';
import { CheckpointError, OdeltError, UnsupportedError } from '../../engine/errors.ts';
import { concatenated } from '../../formats/bytes.ts';
import { checkReadable } from '../../formats/safetensors.ts';
import { headerLength, LENGTH_BYTES, parseHeader, type SafetensorsHeader } from '../../formats/safetensors-header.ts';
import type { ModelConfig } from '../config.ts';
import { describedModel } from './model-file.ts';
import { type FetchBytes, type ModelSource, rangeSource } from './source.ts';
import { checkStallSeconds, type Watch, watched } from './stall.ts';

/** How a model at a URL is read. */
export interface UrlOptions {
  /** Instead of the global one: to add credentials, or for tests. It must heed the signal that it is given. */
  readonly fetch?: typeof fetch;
  /** Stops the opening; `read` takes its own. */
  readonly signal?: AbortSignal;
  /** Needed where the file does not describe its model. */
  readonly config?: ModelConfig;
  /** Milliseconds before the first retry; each further one waits twice as long. Default 250. */
  readonly retryDelay?: number;
  /**
   * Seconds in which at least 1 KiB per second must arrive on average, or the rest of the answer; else the request has stalled,
   * is ended, and is tried again as other failures are. Default 30.
   */
  readonly stallSeconds?: number;
}

/** Bytes of the first request: more than the headers of the presets, so that it is the only one before the data. */
const FIRST_BYTES = 64 * 1024;
/** Largest file that is read whole where the server cannot send parts. */
const WHOLE_LIMIT = 64 * 1024 * 1024;
const RETRIES = 3;

/** Where requests go, and how. */
interface Link {
  readonly url: string;
  readonly fetch: typeof fetch;
  readonly retryDelay: number;
  readonly stallSeconds: number;
}

/** What tells one content of a URL from another. */
interface Version {
  readonly bytes: number;
  readonly etag: string | null;
  readonly modified: string | null;
}

/**
 * Opens a weight file at a URL; each read of a group is one request for just its bytes. Where the server ignores ranges, a
 * file up to 64 MiB is read whole and served from memory. Network errors, broken answers, those that stall and the statuses 408,
 * 429 and 5xx are tried again three times, going on where an answer broke off.
 * @throws CheckpointError for a file that is missing, damaged, truncated, does not describe or fit its model, a server that
 * cannot be reached or stalls, or (from `read`, too) a file that changes between requests: by its length, its ETag, else
 * Last-Modified, as far as the server lets us see them, and by its groups' digests where it has them: a group that does not agree
 * is read once more, past the browser's cache. UnsupportedError for a
 * larger file without ranges; ConfigError for `stallSeconds`; InterruptedError.
 */
export async function openModelUrl(url: string | URL, options: UrlOptions = {}): Promise<ModelSource> {
  const { signal, config } = options;
  const { href, start, size, fetchBytes, fetchAnew } = await openUrl(url, options);
  const header = await readHeader(start, size, fetchBytes, href, signal);
  const described = describedModel(header, href, config);
  const source = rangeSource(header, described, fetchBytes, href, fetchAnew);
  return { config: described, metadata: header.metadata, source, close: async () => {} };
}

/**
 * All bytes of a file at a URL: its start, and the rest by one request, whose answer a `fetch` may keep.
 * @throws as `openModelUrl` for a file that is missing or changes, or a server; LimitError for one that no array holds.
 */
export async function readUrl(url: string | URL, options: Omit<UrlOptions, 'config'> = {}): Promise<Uint8Array> {
  const { href, start, size, fetchBytes } = await openUrl(url, options);
  checkReadable(href, size);
  if (start.length === size) return start;
  return concatenated([start, await fetchBytes(start.length, size, options.signal)]);
}

/** A file at a URL whose first bytes have been read, as many as there are up to `FIRST_BYTES`. */
async function openUrl(url: string | URL, options: UrlOptions) {
  const { fetch = globalThis.fetch, signal, retryDelay = 250 } = options;
  const stallSeconds = checkStallSeconds(options.stallSeconds ?? 30);
  // Called through the wrapper: browsers refuse a fetch whose `this` is not the window.
  const link: Link = { url: resolved(url), fetch: (input, init) => fetch(input, init), retryDelay, stallSeconds };
  const { start, version } = await readStart(link, signal);
  const fetchBytes: FetchBytes = version
    ? (begin, end, signal) => readRange(link, version, begin, end, signal)
    : async (begin, end) => start.subarray(begin, end);
  const past: Link = { ...link, fetch: (input, init) => link.fetch(input, { ...init, cache: 'reload' }) };
  const fetchAnew: FetchBytes | undefined = version
    ? (begin, end, signal) => readRange(past, version, begin, end, signal)
    : undefined;
  return { href: link.url, start, size: version?.bytes ?? start.length, fetchBytes, fetchAnew };
}

/** The absolute address; in a page a relative one is relative to it. */
function resolved(url: string | URL): string {
  let absolute: URL;
  try {
    absolute = new URL(url, globalThis.location?.href);
  } catch (cause) {
    throw new CheckpointError(`${url} is no URL`, { cause, hint: 'it starts with https:// or http://' });
  }
  if (absolute.username !== '' || absolute.password !== '') {
    throw new CheckpointError(
      `an address at ${absolute.host} holds a user name or password, which fetch does not allow`,
      {
        hint: 'give a `fetch` of your own that sends an Authorization header',
      },
    );
  }
  return absolute.href;
}

async function readHeader(
  start: Uint8Array,
  fileBytes: number,
  fetchBytes: FetchBytes,
  url: string,
  signal?: AbortSignal,
): Promise<SafetensorsHeader> {
  const end = LENGTH_BYTES + headerLength(start, fileBytes, url);
  const json = end <= start.length ? start.subarray(LENGTH_BYTES, end) : await fetchBytes(LENGTH_BYTES, end, signal);
  return parseHeader(json, fileBytes, url);
}

/** The file's first bytes; all of it, and no version, where the server sends no parts. */
function readStart(link: Link, signal?: AbortSignal): Promise<{ start: Uint8Array; version: Version | null }> {
  return persistently(link, signal, async (watch) => {
    const response = await ask(link, 0, FIRST_BYTES, watch.signal);
    if (response.status === 200) return { start: await readWhole(link, response, watch), version: null };
    const version = await checkPart(link, response, 0, FIRST_BYTES);
    const start = new Uint8Array(Math.min(FIRST_BYTES, version.bytes));
    await fill(link, response, watch, start, 0);
    return { start, version };
  });
}

/** Bytes [begin, end) of the version that was opened. */
async function readRange(link: Link, opened: Version, begin: number, end: number, signal?: AbortSignal) {
  const bytes = new Uint8Array(end - begin);
  let have = 0;
  await persistently(link, signal, async (watch) => {
    if (have === bytes.length) return;
    const response = await ask(link, begin + have, end, watch.signal);
    if (response.status === 200) await refuse(response, changed(link.url, 'it no longer answers range requests'));
    const version = await checkPart(link, response, begin + have, end);
    const difference = differs(opened, version);
    if (difference !== null) await refuse(response, changed(link.url, difference));
    await fill(link, response, watch, bytes, have, (at) => {
      have = at;
    });
  });
  return bytes;
}

/** Tries again what fails otherwise than by an OdeltError, which is final. */
async function persistently<T>(
  { url, retryDelay, stallSeconds }: Link,
  signal: AbortSignal | undefined,
  attempt: (watch: Watch) => Promise<T>,
): Promise<T> {
  let bytes = 0;
  const counting = (watch: Watch) =>
    attempt({
      signal: watch.signal,
      arrived: (count) => {
        bytes += count;
        watch.arrived(count);
      },
    });
  for (let tries = 0; ; tries++) {
    throwIfAborted(signal, `reading ${url} was interrupted`);
    try {
      return await watched(stallSeconds, signal, counting);
    } catch (cause) {
      throwIfAborted(signal, `reading ${url} was interrupted`);
      if (cause instanceof OdeltError) throw cause;
      if (tries === RETRIES) {
        const message = `${url} cannot be read after ${RETRIES + 1} tries: ${reasonOf(cause)}; ${bytes} bytes had arrived`;
        throw new CheckpointError(message, {
          cause,
          hint: 'check the address, the server and the network, then try again; `stallSeconds` allows slow servers more time',
        });
      }
      await pause(retryDelay * 2 ** tries, signal);
    }
  }
}

/** What an error says, and what lies behind it: Node's fetch hides "connection refused" there. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  const behind =
    error instanceof TypeError && cause instanceof Error ? cause.message || (cause as { code?: string }).code : '';
  return behind ? `${error.message} (${behind})` : error.message;
}

/** Waits; an aborted signal ends the wait early. */
function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', done);
  });
}

/** Throws the error after letting go of the answer's body, which nobody will read. */
async function refuse(response: Response, error: Error): Promise<never> {
  await response.body?.cancel().catch(() => undefined);
  throw error;
}

const changed = (url: string, difference: string) =>
  new CheckpointError(`${url} changed while it was being read: ${difference}`, { hint: 'open the model again' });

/**
 * The answer, 200 or 206, to a request for bytes [begin, end). Whether the file is still the same is compared afterwards:
 * an If-Range field would make browsers ask the server for leave first when it is of another origin.
 */
async function ask({ url, fetch }: Link, begin: number, end: number, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(url, { headers: { Range: `bytes=${begin}-${end - 1}` }, signal });
  const { status } = response;
  if (status >= 500 || status === 408 || status === 429) {
    return refuse(response, new Error(`the server answered ${status} ${response.statusText}`));
  }
  if (url.startsWith('https:') && response.url.startsWith('http:')) {
    return refuse(response, new CheckpointError(`${url} leads to ${response.url}, which is not encrypted`));
  }
  if (status === 416) {
    return refuse(response, new CheckpointError(`${url} has no bytes from ${begin} on: it is empty or was truncated`));
  }
  if (status !== 200 && status !== 206) {
    const error = new CheckpointError(`${url}: the server answered ${status} ${response.statusText}`, {
      hint: 'check the address and whether reading it needs a permission',
    });
    return refuse(response, error);
  }
  return response;
}

/** Checks that a 206 answer holds bytes [begin, end), as far as the file goes, as they are. Gives the file's version. */
async function checkPart({ url }: Link, response: Response, begin: number, end: number): Promise<Version> {
  const { headers } = response;
  const found = headers.get('content-range');
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(found?.trim() ?? '');
  const [from, last, bytes] = (match ?? []).slice(1).map(Number) as [number?, number?, number?];
  if (from !== begin || bytes === undefined || last !== Math.min(end, bytes) - 1) {
    const error = new CheckpointError(
      `${url}: asked for bytes ${begin} to ${end - 1}; the answer's Content-Range is ${found ?? 'missing'}`,
      { hint: 'a server of another origin must send Access-Control-Expose-Headers: Content-Range, ETag' },
    );
    return refuse(response, error);
  }
  const encoding = headers.get('content-encoding') ?? 'identity';
  if (encoding !== 'identity') {
    return refuse(response, new UnsupportedError(`${url}: the server sends parts in the encoding ${encoding}`));
  }
  return { bytes, etag: headers.get('etag'), modified: headers.get('last-modified') };
}

/** How the two contents differ; null if they are the same, as far as the server tells. */
function differs(a: Version, b: Version): string | null {
  if (a.bytes !== b.bytes) return `it had ${a.bytes} bytes and has ${b.bytes}`;
  if (a.etag !== null && b.etag !== null) return a.etag === b.etag ? null : `its ETag was ${a.etag} and is ${b.etag}`;
  if (a.modified === null || b.modified === null || a.modified === b.modified) return null;
  return `it was last modified ${a.modified} and then ${b.modified}`;
}

/** Pieces of a body as they arrive. (Not every browser can iterate over a stream.) */
async function* pieces(response: Response, watch: Watch): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      watch.arrived(piece.value.length);
      yield piece.value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Reads a body into `bytes` from element `at` to the end, exactly; `onBytes` is told how far it got. */
async function fill(
  { url }: Link,
  response: Response,
  watch: Watch,
  bytes: Uint8Array,
  at: number,
  onBytes?: (at: number) => void,
): Promise<void> {
  let have = at;
  for await (const piece of pieces(response, watch)) {
    if (have + piece.length > bytes.length)
      throw new CheckpointError(`${url}: the server sent more than was asked for`);
    bytes.set(piece, have);
    have += piece.length;
    onBytes?.(have);
  }
  if (have < bytes.length) throw new Error(`the answer ended ${bytes.length - have} bytes early`);
}

/** A whole file from a server that ignores ranges. */
async function readWhole({ url }: Link, response: Response, watch: Watch): Promise<Uint8Array> {
  const { headers } = response;
  const stated = headers.get('content-length');
  const tooLarge = (bytes: string) =>
    new UnsupportedError(`${url}: the server does not answer range requests, and the file has ${bytes} bytes`, {
      hint: `serve it with range requests, or download it and give its path; up to ${WHOLE_LIMIT} bytes are read whole`,
    });
  if (stated !== null && Number(stated) > WHOLE_LIMIT) return refuse(response, tooLarge(stated));
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const piece of pieces(response, watch)) {
    length += piece.length;
    if (length > WHOLE_LIMIT) throw tooLarge(`more than ${WHOLE_LIMIT}`);
    parts.push(piece);
  }
  // The length of a compressed body says nothing about the file's.
  if (stated !== null && !headers.has('content-encoding') && length < Number(stated)) {
    throw new Error(`the answer ended ${Number(stated) - length} bytes early`);
  }
  return concatenated(parts);
}
