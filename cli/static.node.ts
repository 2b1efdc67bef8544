/** A server of a fixed list of files: what is not in the list is not there, so that no path leads out of it. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';
import { pipeline } from 'node:stream';
import { ConfigError } from '../engine/errors.ts';

/** Loopback alone: nobody else's machine can connect. */
const HOST = '127.0.0.1';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.safetensors': 'application/octet-stream',
  '.gz': 'application/gzip',
};

/** Scripts, styles and requests of this server alone; no eval, and no address of a script but the worker's own; drawings are made of texts. */
const POLICY = [
  "default-src 'none'",
  ...['script-src', 'worker-src', 'style-src', 'img-src', 'connect-src'].map((what) => `${what} 'self'`),
  ...['base-uri', 'form-action', 'frame-ancestors'].map((what) => `${what} 'none'`),
  "require-trusted-types-for 'script'",
  'trusted-types odelt odelt-drawings',
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-cache',
};

/**
 * Serves `files`, paths on disk by paths of URLs that begin with a slash, on this machine's loopback; port 0 is any that is free.
 * @returns the address.
 * @throws ConfigError for a port that cannot be had.
 */
export async function serveFiles(files: ReadonlyMap<string, string>, port: number): Promise<string> {
  const server = createServer((request, response) => {
    answer(files, request, response).catch(() => response.destroy());
  });
  await listen(server, port);
  const { port: had } = server.address() as AddressInfo;
  return `http://${HOST}:${had}/`;
}

const listen = (server: Server, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = { EADDRINUSE: 'another program has it', EACCES: 'this user may not have it' }[cause.code ?? ''];
      const hint = 'give another with --port, or --port 0 for any that is free';
      reject(new ConfigError(`port ${port} cannot be listened to${why ? `: ${why}` : ''}`, { cause, hint }));
    });
    server.listen(port, HOST, resolve);
  });

async function answer(files: ReadonlyMap<string, string>, request: IncomingMessage, response: ServerResponse) {
  const say = (status: number, text: string, headers: Record<string, string> = {}) => {
    response.writeHead(status, { ...HEADERS, ...headers, 'content-type': 'text/plain; charset=utf-8' });
    response.end(`${text}\n`);
  };
  // Another site's name that leads here (DNS rebinding) gets nothing.
  const name = /^(?:127\.0\.0\.1|localhost)(?::\d+)?$/i;
  if (!name.test(request.headers.host ?? '')) return say(403, 'this server answers to 127.0.0.1 and localhost');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return say(405, 'only GET and HEAD are answered', { allow: 'GET, HEAD' });
  }
  const file = files.get((request.url ?? '').split('?')[0]!);
  if (file === undefined) return say(404, 'not found');
  const { size, mtimeMs } = await stat(file);
  const etag = `"${size.toString(16)}-${Math.floor(mtimeMs).toString(16)}"`;
  const headers = {
    ...HEADERS,
    etag,
    'accept-ranges': 'bytes',
    'content-type': TYPES[extname(file)] ?? TYPES['.safetensors'],
  };
  if (request.headers['if-none-match'] === etag) return void response.writeHead(304, headers).end();
  const range = rangeOf(request.headers.range, size);
  if (range === 'beyond') return say(416, 'there are no such bytes', { 'content-range': `bytes */${size}` });
  const { begin, end } = range ?? { begin: 0, end: size };
  response.writeHead(range ? 206 : 200, {
    ...headers,
    'content-length': end - begin,
    ...(range ? { 'content-range': `bytes ${begin}-${end - 1}/${size}` } : {}),
  });
  if (request.method === 'HEAD' || end === begin) return void response.end();
  // Closes the file, too, where whoever asked goes away before the end.
  pipeline(createReadStream(file, { start: begin, end: end - 1 }), response, () => {});
}

/** Bytes [begin, end) that one range asks for; null for all of them, as for what is no single range. */
function rangeOf(asked: string | undefined, size: number): { begin: number; end: number } | 'beyond' | null {
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(asked ?? '') ?? [];
  if (from === '' && to === '') return null;
  const begin = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === '' || to === '' ? size : Math.min(size, Number(to) + 1);
  return begin < end ? { begin, end } : 'beyond';
}
