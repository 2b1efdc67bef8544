/** `odelt studio` as a process: its address, what it serves and refuses, a port that is taken, and its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
let server: ChildProcess;
let url: string;
beforeAll(async () => {
  cli = await buildCli();
  server = spawn(process.execPath, [cli.path, 'studio', '--port', '0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  url = await new Promise((resolve) => server.stdout!.once('data', (text) => resolve(`${text}`.trim())));
});
afterAll(() => {
  server?.kill();
  cli?.remove();
});

/** A path as it is, which fetch would shorten. */
const raw = (path: string, headers = {}, method = 'GET') =>
  new Promise<{ status: number; body: string }>((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const asked = request({ hostname, port, path, headers, method }, (response) => {
      let body = '';
      response.on('data', (text) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    });
    asked.on('error', reject).end();
  });

describe('serves', () => {
  it('on loopback, at the address that it prints', () => {
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  });

  it.each([
    ['', 'text/html; charset=utf-8'],
    ['index.html', 'text/html; charset=utf-8'],
    ['page.js', 'text/javascript; charset=utf-8'],
    ['module.js', 'text/javascript; charset=utf-8'],
    ['style.css', 'text/css; charset=utf-8'],
    ['train.css', 'text/css; charset=utf-8'],
    ['icon.svg', 'image/svg+xml'],
    ['look.css', 'text/css; charset=utf-8'],
    ['golden/MANIFEST.json', 'application/json'],
    ['golden/b/forward.safetensors', 'application/octet-stream'],
    ['models/fashion-mnist.safetensors', 'application/octet-stream'],
    ['data/fashion-mnist/t10k-images-idx3-ubyte.gz', 'application/gzip'],
    ['data/fashion-mnist/t10k-labels-idx1-ubyte.gz', 'application/gzip'],
  ])('%j as %s, under a strict policy', async (path, type) => {
    const response = await fetch(`${url}${path}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe(type);
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    const policy = response.headers.get('content-security-policy')!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("require-trusted-types-for 'script'");
    expect(policy).toContain('trusted-types odelt');
    expect(policy).not.toMatch(/unsafe/);
  });

  it('parts of the model, and says when there are none', async () => {
    const whole = readFileSync(join(ROOT, 'models/fashion-mnist.safetensors'));
    const at = `${url}models/fashion-mnist.safetensors`;
    const part = await fetch(at, { headers: { range: 'bytes=100-299' } });
    expect(part.status).toBe(206);
    expect(part.headers.get('content-range')).toBe(`bytes 100-299/${whole.length}`);
    expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(100, 300))).toBe(true);
    const last = await fetch(at, { headers: { range: 'bytes=-10' } });
    expect(Buffer.from(await last.arrayBuffer()).equals(whole.subarray(-10))).toBe(true);
    const beyond = await fetch(at, { headers: { range: `bytes=${whole.length}-` } });
    expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, `bytes */${whole.length}`]);
    const same = await raw('/models/fashion-mnist.safetensors', { 'if-none-match': part.headers.get('etag') });
    expect(same).toEqual({ status: 304, body: '' });
  });
});

it.each([
  '/nothing.html',
  '/../package.json',
  '/../cli.js',
  '/%2e%2e/cli.js',
  '/models/../../package.json',
  '//etc/passwd',
  '/..%5ccli.js',
])('%s is not found', async (path) => {
  expect(await raw(path)).toEqual({ status: 404, body: 'not found\n' });
});

it.runIf(existsSync('/proc/self/fd'))('files are closed where whoever asked has gone away', async () => {
  const { hostname, port } = new URL(url);
  for (let i = 0; i < 10; i++) {
    await new Promise<void>((gone) => {
      const asked = request({ hostname, port, path: '/models/fashion-mnist.safetensors' }, (response) => {
        response.once('data', () => void asked.destroy());
      });
      asked
        .on('error', () => {})
        .on('close', gone)
        .end();
    });
  }
  const open = () =>
    readdirSync(`/proc/${server.pid}/fd`).filter((fd) => {
      try {
        return readlinkSync(`/proc/${server.pid}/fd/${fd}`).endsWith('fashion-mnist.safetensors');
      } catch {
        return false;
      }
    }).length;
  await expect.poll(open, { timeout: 5000 }).toBe(0);
});

it("other methods and other sites' names are refused", async () => {
  expect((await raw('/', {}, 'POST')).status).toBe(405);
  expect(await raw('/', { host: 'evil.example:80' })).toEqual({
    status: 403,
    body: 'this server answers to 127.0.0.1 and localhost\n',
  });
  expect(await raw('/', {}, 'HEAD')).toEqual({ status: 200, body: '' });
});

it('a port that is taken is a wrong argument, with a way out', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const { code, stdout, stderr } = await cli.run('studio', '--no-open', '--port', `${port}`);
  other.close();
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(`ConfigError: port ${port} cannot be listened to: another program has it`);
  expect(stderr).toContain('hint: give another with --port, or --port 0 for any that is free');
});

it('a port that is none is refused, and help names the flags', async () => {
  const { code, stderr } = await cli.run('studio', '--port', '70000');
  expect(code).toBe(2);
  expect(stderr).toContain("--port is '70000'; it must be an integer at least 0 and at most 65535");
  const { stdout } = await cli.run('studio', '--help');
  for (const words of ['--port <n>', '--no-open', 'on this machine only, until Ctrl-C'])
    expect(stdout).toContain(words);
});

it('Ctrl-C ends it', async () => {
  server.kill('SIGINT');
  const [code, signal] = await once(server, 'exit');
  expect([code, signal]).toEqual([130, null]);
});
