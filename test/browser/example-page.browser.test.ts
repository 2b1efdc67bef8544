/**
 * The browser build in a real browser, where one is installed (CHROME may name it): the example page samples with Chromium's own WebGPU
 * on SwiftShader what Node samples, and reads only the blocks that it runs.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { serveFile } from '../../examples/serve.mjs';
import { readParams } from '../../model/weights/source.ts';
import { modelContents, openModelSource, ResidentModel, Sampler, writeSafetensors } from '../../node.ts';
import { testEngine } from '../support/engine.ts';
import { relativeError } from '../support/golden.ts';

const ROOT = join(import.meta.dirname, '../..');
const MODEL = join(ROOT, 'models/fashion-mnist.safetensors');

/** A Chromium that runs, if there is one. */
function findBrowser(): string | undefined {
  const names = [process.env.CHROME, 'chromium', 'google-chrome', 'chromium-browser', 'chrome'];
  return names.find((name) => {
    try {
      return name !== undefined && execFileSync(name, ['--version'], { encoding: 'utf8', stdio: 'pipe' }).length > 0;
    } catch {
      return false;
    }
  });
}

const browser = findBrowser();
const stopping: (() => unknown)[] = [];
afterAll(async () => {
  for (const stop of stopping.reverse()) await stop();
});

interface Sampled {
  readonly request: { labels: number[]; steps: number; blocks: number; guidance: number; seed: number };
  readonly values: number[];
  readonly bytes: number;
}

/** Opens the example page, served with `dist` and `models` in `built`, runs `actions` in it after each picture, and gives what each picture was. */
async function visit(built: string, actions: readonly string[]): Promise<Sampled[]> {
  const sampled: Sampled[] = [];
  const report = `<script type="module">
    const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
    const actions = [${actions.map((action) => `() => { ${action} }`).join(',')}];
    document.addEventListener('failed', ({ detail }) => send({ failed: detail }));
    document.addEventListener('sampled', async ({ detail }) => {
      await send({ ...detail, values: [...detail.values] });
      setTimeout(() => actions.shift()?.());
    });
  </script>`;
  return new Promise((resolve, reject) => {
    let child: ChildProcess | undefined;
    const server: Server = createServer(async (request, response) => {
      if (request.url === '/report') {
        const parts: Buffer[] = [];
        for await (const part of request) parts.push(part as Buffer);
        response.end();
        const body = JSON.parse(Buffer.concat(parts).toString()) as Sampled & { failed?: string };
        if (body.failed) reject(new Error(`the page failed: ${body.failed}`));
        if (sampled.push(body) > actions.length) resolve(sampled);
      } else if (request.url === '/examples/browser.html') {
        response.setHeader('content-type', 'text/html; charset=utf-8');
        // In front, so that it listens before the page samples.
        response.end(readFileSync(join(ROOT, 'examples/browser.html'), 'utf8').replace('<style>', `${report}<style>`));
      } else await serveFile(request, response, built);
    });
    server.listen(0, '127.0.0.1', async () => {
      const profile = await mkdtemp(join(tmpdir(), 'odelt-browser-'));
      const { port } = server.address() as AddressInfo;
      const flags = ['--headless=new', '--no-sandbox', '--disable-gpu-sandbox', '--enable-unsafe-webgpu'];
      const swiftshader = ['--use-webgpu-adapter=swiftshader', `--user-data-dir=${profile}`];
      child = spawn(browser!, [...flags, ...swiftshader, `http://localhost:${port}/examples/browser.html`], {
        stdio: 'ignore',
      });
      child.on('exit', (code) => reject(new Error(`${browser} ended with ${code}`)));
      stopping.push(async () => {
        server.close();
        server.closeAllConnections();
        const gone = new Promise((done) => child!.on('exit', done));
        if (child!.exitCode === null && child!.kill()) await gone;
        await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
      });
    });
  });
}

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  it('the example page samples what Node samples, at every number of blocks it is asked for', {
    timeout: 300_000,
  }, async () => {
    const built = await mkdtemp(join(tmpdir(), 'odelt-built-'));
    stopping.push(() => rm(built, { recursive: true }));
    execFileSync(process.execPath, [join(ROOT, 'scripts/build.mjs'), join(built, 'dist')], { cwd: ROOT });
    // With digests, which the page then has to check.
    const shipped = await openModelSource(MODEL);
    const { tensors, metadata } = await modelContents(shipped.config, await readParams(shipped.source), {
      dtype: 'F16',
    });
    await shipped.close();
    const model = join(built, 'models/fashion-mnist.safetensors');
    await writeSafetensors(model, tensors, metadata);
    const click = "document.querySelector('button').click()";
    const more = `document.forms[0].blocks.value = '12'; document.forms[0].guidance.value = '1'; ${click}`;
    const sampled = await visit(built, [more, `document.forms[0].blocks.value = '4'; ${click}`]);
    expect(sampled.map(({ request }) => request.blocks)).toEqual([4, 12, 4]);
    const engine = await testEngine();
    const { config, source, close } = await openModelSource(model);
    const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: config.classes });
    for (const { request, values } of sampled) {
      const { values: want } = await sampler.sample(request);
      expect(relativeError(values, want), `L=${request.blocks}`).toBeLessThan(2e-5);
    }
    expect(sampled[2]!.bytes).toBeLessThan(sampled[1]!.bytes);
    await close();
    engine.dispose();
  });
});
