/**
 * A static server for the browser example, on this machine only, with the byte ranges that reading weights block by block needs.
 *   npm run build && node examples/serve.mjs [PORT]      then open http://127.0.0.1:8000/examples/browser.html
 * In the package: npm install send@1.2.1 && node node_modules/odelt/examples/serve.mjs
 */
import { existsSync, realpathSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import send from 'send';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** The folders that the page needs; nothing else is served. */
const SERVED = ['dist', 'examples', 'models'];

/** Answers one request for a file in one of these folders of `root`. */
export async function serveFile(request, response, root = ROOT) {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return answer(response, 405, 'only GET and HEAD are answered', { allow: 'GET, HEAD' });
  }
  const path = await pathUnder(root, request.url);
  if (path === null) return answer(response, 404, 'not found');
  const file = send(request, encodeURIComponent(path), {
    root: await realpath(root),
    dotfiles: 'ignore',
    index: false,
  });
  file.on('error', (error) => {
    if (response.headersSent) return void response.destroy();
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    const status = error.code === 'EACCES' ? 403 : (error.status ?? 500);
    answer(response, status, error.message.toLowerCase(), error.headers);
  });
  file.pipe(response);
}

function answer(response, status, text, headers = {}) {
  response.writeHead(status, { ...headers, 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

/** The regular file that a URL names, from `root` on; null for none, or one that is not served, as where a link leads out. */
async function pathUnder(root, url) {
  try {
    const asked = decodeURIComponent(new URL(url, 'http://localhost').pathname);
    // Links are followed here, so that what is compared is what is read.
    const path = relative(await realpath(root), await realpath(join(root, asked)));
    return SERVED.includes(path.split(sep)[0]) && (await stat(join(root, path))).isFile() ? path : null;
  } catch {
    return null;
  }
}

function fail(message, code = 1) {
  console.error(message);
  process.exit(code);
}

function main(given = '8000') {
  const port = Number(given);
  if (!/^\d+$/.test(given) || port > 65535) fail(`the port is '${given}'; it must be an integer from 0 to 65535`, 2);
  if (!existsSync(join(ROOT, 'dist/index.js'))) fail('dist/ is not built; first run: npm run build');
  const server = createServer((request, response) => {
    serveFile(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  server.on('error', (error) => {
    if (error.code === 'EADDRINUSE') fail(`port ${port} is taken; give another: node examples/serve.mjs ${port + 1}`);
    fail(`port ${port} cannot be listened to: ${error.message}`);
  });
  server.listen(port, '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${server.address().port}/examples/browser.html`);
  });
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) main(process.argv[2]);
