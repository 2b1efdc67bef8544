/**
 * A static server for the browser example: this folder's parent, with the byte ranges that reading weights block by block needs.
 *   npm run build && node examples/serve.mjs [PORT]      then open http://localhost:8000/examples/browser.html
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.json': 'application/json' };

/** Answers one request for a file under `root`. */
export async function serveFile(request, response, root = ROOT) {
  const path = pathUnder(root, request.url);
  const file = path && (await stat(path).catch(() => null));
  if (!file?.isFile()) return void response.writeHead(404).end('not found');
  const headers = {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'accept-ranges': 'bytes',
    etag: `"${file.size}-${file.mtimeMs}"`,
  };
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), file.size - 1) : file.size - 1;
  if (start > end) return void response.writeHead(416, { 'content-range': `bytes */${file.size}` }).end();
  if (range) headers['content-range'] = `bytes ${start}-${end}/${file.size}`;
  response.writeHead(range ? 206 : 200, { ...headers, 'content-length': end - start + 1 });
  if (request.method === 'HEAD') return void response.end();
  createReadStream(path, { start, end }).pipe(response);
}

/** The file that a URL names, or null for none or one outside `root`. */
function pathUnder(root, url) {
  try {
    const path = resolve(root, `.${decodeURIComponent(new URL(url, 'http://localhost').pathname)}`);
    return path.startsWith(resolve(root) + sep) ? path : null;
  } catch {
    return null;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8000);
  createServer((request, response) => void serveFile(request, response)).listen(port, '127.0.0.1', () => {
    console.log(`http://localhost:${port}/examples/browser.html`);
  });
}
