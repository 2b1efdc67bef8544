/** The example's server as its own process: what it serves, what it refuses, and that nothing ends it or leaves files open. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const CLONE = join(import.meta.dirname, '../..');
const LARGE = 64 * 2 ** 20;
const scratch = mkdtempSync(join(tmpdir(), 'odelt-serve-'));
const root = join(scratch, 'clone');
const script = join(root, 'examples/serve.mjs');
let server: ChildProcess;
let port: number;
let said = '';

/** Starts the server; whoever may read everything is made somebody else. */
function start(args: string[], at = script): ChildProcess {
  const user = process.geteuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  return spawn(process.execPath, [at, ...args], { ...user, cwd: scratch, stdio: ['ignore', 'pipe', 'pipe'] });
}

beforeAll(async () => {
  for (const folder of ['examples', 'dist', 'models', '.git', 'training']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  // Modules are looked for from a file's real place on.
  symlinkSync(join(CLONE, 'node_modules'), join(root, 'node_modules'));
  copyFileSync(join(CLONE, 'examples/serve.mjs'), script);
  copyFileSync(join(CLONE, 'examples/browser.html'), join(root, 'examples/browser.html'));
  writeFileSync(join(root, 'dist/index.js'), 'export {};');
  writeFileSync(join(root, 'models/ten bytes%.safetensors'), '0123456789');
  writeFileSync(join(root, 'models/large'), '');
  truncateSync(join(root, 'models/large'), LARGE);
  writeFileSync(join(root, 'models/unreadable'), 'x');
  chmodSync(join(root, 'models/unreadable'), 0);
  writeFileSync(join(root, 'models/.hidden'), 'x');
  for (const secret of ['.git/config', 'README.md', 'training/x']) writeFileSync(join(root, secret), 'secret');
  writeFileSync(join(scratch, 'outside'), 'secret');
  symlinkSync(join(scratch, 'outside'), join(root, 'models/link-out'));
  symlinkSync('../.git', join(root, 'models/link-git'));
  symlinkSync('large', join(root, 'models/link-in'));
  symlinkSync('loop', join(root, 'models/loop'));
  execFileSync('mkfifo', [join(root, 'models/pipe')]);
  chmodSync(scratch, 0o755);
  server = start(['0']);
  server.stderr!.on('data', (text) => {
    said += text;
  });
  const ended = once(server, 'close').then(() => {
    throw new Error(`the server ended: ${said}`);
  });
  ended.catch(() => undefined);
  const [line] = (await Promise.race([once(server.stdout!, 'data'), ended])) as [Buffer];
  port = Number(/^http:\/\/127\.0\.0\.1:(\d+)\/examples\/browser\.html\n$/.exec(String(line))![1]);
});
afterAll(() => {
  server.kill();
  rmSync(scratch, { recursive: true });
});

/** The path as it is given: fetch would resolve its dots. */
async function ask(path: string, options: RequestOptions = {}) {
  const request = httpRequest({ port, host: '127.0.0.1', path, ...options }).end();
  const [response] = await once(request, 'response');
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  const { statusCode: status, headers } = response;
  return { status, headers, text: Buffer.concat(parts).toString() };
}

describe.skipIf(process.platform === 'win32')('the example server', () => {
  test('serves the page, the build and models, whole and in ranges', async () => {
    const page = await ask('/examples/browser.html');
    expect([page.status, page.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    expect(page.text).toContain('<!doctype html>');
    expect((await ask('/dist/index.js?x=1')).headers['content-type']).toMatch('text/javascript');
    const model = '/models/ten%20bytes%25.safetensors';
    expect((await ask(model)).text).toBe('0123456789');
    const part = await ask(model, { headers: { range: 'bytes=2-4' } });
    expect([part.status, part.headers['content-range'], part.text]).toEqual([206, 'bytes 2-4/10', '234']);
    expect(part.headers.etag).toBe((await ask(model)).headers.etag);
    expect((await ask(model, { headers: { range: 'bytes=8-99' } })).headers['content-range']).toBe('bytes 8-9/10');
    const beyond = await ask(model, { headers: { range: 'bytes=10-' } });
    expect([beyond.status, beyond.headers['content-range']]).toEqual([416, 'bytes */10']);
    const head = await ask(model, { method: 'HEAD' });
    expect([head.status, head.headers['content-length'], head.text]).toEqual([200, '10', '']);
    expect((await ask('/models/link-in', { method: 'HEAD' })).headers['content-length']).toBe(`${LARGE}`);
  });

  test('serves nothing else', async () => {
    const elsewhere = ['/.git/config', '/README.md', '/training/x', '/', '/models', '/models/', '/models/.hidden'];
    const outside = [
      '/models/link-out',
      '/models/link-git/config',
      '/models/../../outside',
      '/models/..%2f.git/config',
    ];
    const odd = ['/models/loop', '/models/pipe', '/models/none', '/%', '/models/%00', '//', '/models/large/x'];
    for (const path of [...elsewhere, ...outside, ...odd]) {
      expect([path, await ask(path)]).toEqual([path, expect.objectContaining({ status: 404, text: 'not found\n' })]);
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { status, headers, text } = await ask('/models/large', { method });
      expect([status, headers.allow, text]).toEqual([405, 'GET, HEAD', 'only GET and HEAD are answered\n']);
    }
  });

  test('goes on after a file that cannot be read', async () => {
    const { status, headers } = await ask('/models/unreadable');
    expect([status, headers['content-type'], headers.etag]).toEqual([403, 'text/plain; charset=utf-8', undefined]);
    expect((await ask('/dist/index.js')).status).toBe(200);
    expect([server.exitCode, said]).toEqual([null, '']);
  });

  test.skipIf(process.platform !== 'linux')(
    'leaves no file open after 200 downloads that were broken off',
    async () => {
      const openFiles = () =>
        execFileSync('ls', ['-l', `/proc/${server.pid}/fd`], { encoding: 'utf8' }).split('models/large').length - 1;
      const connections = () => readdirSync(`/proc/${server.pid}/fd`).length;
      const before = connections();
      let most = 0;
      for (let i = 0; i < 200; i++) {
        const headers = i % 2 ? { range: `bytes=${i}-` } : {};
        const request = httpRequest({ port, host: '127.0.0.1', path: '/models/large', headers, agent: false }).end();
        const [response] = await once(request, 'response');
        await once(response, 'data');
        if (i === 0) most = openFiles();
        response.destroy();
      }
      // The count does see a file that is being sent.
      expect(most).toBe(1);
      await expect.poll(openFiles, { timeout: 10_000 }).toBe(0);
      await expect.poll(connections, { timeout: 10_000 }).toBeLessThan(before + 10);
      expect(readlinkSync(`/proc/${server.pid}/exe`)).toContain('node');
    },
  );

  test('says why it does not start', async () => {
    const outcome = async (args: string[], at = script) => {
      const child = start(args, at);
      let text = '';
      child.stderr!.on('data', (part) => {
        text += part;
      });
      const [code] = await once(child, 'close');
      return [code, text];
    };
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    expect(await outcome([`${port}`])).toEqual([
      1,
      `port ${port} is taken; give another: node examples/serve.mjs ${port + 1}\n`,
    ]);
    taken.close();
    for (const bad of ['x', '-1', '65536', '80.5', '']) {
      expect(await outcome([bad])).toEqual([2, `the port is '${bad}'; it must be an integer from 0 to 65535\n`]);
    }
    rmSync(join(root, 'dist/index.js'));
    // Started through a link, as in a clone that is linked to.
    symlinkSync(script, join(scratch, 'linked.mjs'));
    expect(await outcome([], join(scratch, 'linked.mjs'))).toEqual([
      1,
      'dist/ is not built; first run: npm run build\n',
    ]);
  });
});
