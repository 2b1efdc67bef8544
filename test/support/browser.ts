/** Pages in a real browser: finds a Chromium, serves what a page needs, opens it with WebGPU on SwiftShader, and collects what it reports. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { serveFile } from '../../examples/serve.mjs';
import { installed } from './installed.ts';

/** A Chromium that runs (CHROME may name it), if there is one. */
export const browser: string | undefined = installed(
  process.env.CHROME,
  'chromium',
  'google-chrome',
  'chromium-browser',
  'chrome',
);

export interface Visit {
  /** Folder with `dist`, `models`, ... as a server would have it. */
  readonly built: string;
  readonly path: string;
  /** The page at `path`. It reports by `fetch('/report', { method: 'POST', body: JSON.stringify(...) })`; `{ failed }` is an error. */
  readonly html: string;
  /** Of the page and of `files`: for example a content security policy. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Further texts that are served, by path: scripts end in .js. */
  readonly files?: Readonly<Record<string, string>>;
  /** Told of every request, with the byte range that it asks for. */
  readonly onRequest?: (url: string, range: string | undefined) => void;
  /** Reports after which the visit is over. */
  readonly reports: number;
}

/** Opens a page and gives what it reported. The browser is closed when the test is finished. */
export async function visit<T>({
  built,
  path,
  html,
  headers = {},
  files = {},
  onRequest,
  reports,
}: Visit): Promise<T[]> {
  const profile = await mkdtemp(join(tmpdir(), 'odelt-browser-'));
  let child: ChildProcess | undefined;
  const found: T[] = [];
  let over: { resolve(reports: T[]): void; reject(error: Error): void };
  const ended = new Promise<T[]>((resolve, reject) => {
    over = { resolve, reject };
  });
  const server = createServer(async (request, response) => {
    if (request.url === '/report') {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      response.end();
      const body = JSON.parse(Buffer.concat(parts).toString()) as T & { failed?: string };
      if (body.failed) over.reject(new Error(`the page failed: ${body.failed}`));
      if (found.push(body) >= reports) over.resolve(found);
      return;
    }
    onRequest?.(request.url ?? '', request.headers.range);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    const script = files[request.url ?? ''];
    if (request.url === path) {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(html);
    } else if (script !== undefined) {
      response.setHeader('content-type', 'text/javascript; charset=utf-8');
      response.end(script);
    } else {
      await serveFile(request, response, built);
    }
  });
  onTestFinished(async () => {
    server.close();
    server.closeAllConnections();
    const gone = new Promise((done) => child?.on('exit', done));
    if (child?.exitCode === null && child.kill()) await gone;
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu-sandbox', '--enable-unsafe-webgpu'];
  const swiftshader = ['--use-webgpu-adapter=swiftshader', `--user-data-dir=${profile}`];
  child = spawn(browser!, [...flags, ...swiftshader, `http://localhost:${port}${path}`], { stdio: 'ignore' });
  child.on('exit', (code) => over.reject(new Error(`${browser} ended with ${code}`)));
  return ended;
}
