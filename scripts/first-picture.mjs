/**
 * How long a page takes from navigation to its first picture, in a Chromium on SwiftShader: with a new profile, with what that one has
 * left, and reloaded in the same browser. Sizes and times are of the built package's example page; medians come last.
 *   npm run build && node scripts/first-picture.mjs [--gpu] [--rounds N] [CHROMIUM]       --gpu: on the machine's own adapter
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serveFile } from '../examples/serve.mjs';

const { values: options, positionals } = parseArgs({
  options: { gpu: { type: 'boolean' }, rounds: { type: 'string', default: '5' } },
  allowPositionals: true,
});
const [chromium = 'chromium'] = positionals;
const ROOT = join(import.meta.dirname, '..');

/** Told when the canvas has been painted: milliseconds since the navigation began. */
const REPORT = `<script type="module">
  const tell = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
  document.addEventListener('failed', ({ detail }) => tell({ failed: detail }));
  document.addEventListener('sampled', () => requestAnimationFrame(() => setTimeout(async () => {
    await tell({ milliseconds: performance.now() });
    if (!sessionStorage.again) location.reload(sessionStorage.again = 'yes');
  })), { once: true });
</script>`;
const html = readFileSync(join(ROOT, 'examples/browser.html'), 'utf8').replace('<style>', `${REPORT}<style>`);

let sent = 0;
let told = () => {};
const server = createServer(async (request, response) => {
  if (request.url === '/report') {
    let body = '';
    for await (const part of request) body += part;
    response.end();
    return told(JSON.parse(body));
  }
  const { write, end } = response;
  const count = (chunk) => {
    if (chunk && typeof chunk !== 'function') sent += chunk.length;
  };
  response.write = (chunk, ...rest) => {
    count(chunk);
    return write.call(response, chunk, ...rest);
  };
  response.end = (chunk, ...rest) => {
    count(chunk);
    return end.call(response, chunk, ...rest);
  };
  if (request.url !== '/examples/browser.html') return serveFile(request, response, ROOT);
  response.setHeader('content-type', 'text/html; charset=utf-8').end(html);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const url = `http://localhost:${server.address().port}/examples/browser.html`;

/** Opens the page in a browser of its own; milliseconds of the first picture, and of that after a reload. */
async function opened(profile) {
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu-sandbox', '--enable-unsafe-webgpu'];
  const adapter = options.gpu ? ['--enable-features=Vulkan'] : ['--use-webgpu-adapter=swiftshader'];
  const child = spawn(chromium, [...flags, ...adapter, `--user-data-dir=${profile}`, url], { stdio: 'ignore' });
  const gone = new Promise((done) => child.on('exit', done));
  const next = () =>
    new Promise((resolve, reject) => {
      told = ({ milliseconds, failed }) => (failed ? reject(new Error(failed)) : resolve(milliseconds));
      child.on('error', reject);
    });
  try {
    return [await next(), await next()];
  } finally {
    child.kill();
    await gone;
  }
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;
const line = (cold, again, reloaded) =>
  `new profile ${seconds(cold)}, same profile ${seconds(again)}, reloaded ${seconds(reloaded)}`;
const rounds = [];
for (let round = 0; round < Number(options.rounds); round++) {
  const profile = mkdtempSync(join(tmpdir(), 'odelt-first-picture-'));
  sent = 0;
  const [cold, reloaded] = await opened(profile);
  const megabytes = (sent / 1e6).toFixed(2);
  const [again] = await opened(profile);
  console.log(`${line(cold, again, reloaded)} (${megabytes} MB sent at most)`);
  rounds.push([cold, again, reloaded]);
  rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}
const median = (of) => rounds.map((round) => round[of]).sort((a, b) => a - b)[rounds.length >> 1];
console.log(`median of ${rounds.length}: ${line(median(0), median(1), median(2))}`);
server.close();
server.closeAllConnections();
