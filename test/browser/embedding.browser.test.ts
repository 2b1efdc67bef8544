/**
 * odelt inside of applications, in a real Chromium: examples that bundlers have built, a device that several engines share, memory over
 * many samplings, and a browser that has no room to keep a model.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveFile } from '../../examples/serve.mjs';
import { preset } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelMetadata, modelTensors } from '../../model/weights/model-file.ts';
import { writeSafetensors } from '../../node.ts';
import { browser } from '../support/browser.ts';
import { openPage, type Page } from '../support/cdp.ts';
import { buildInto, ROOT, run, textOf } from '../support/repository.ts';

/** Under the name of the shipped model, which takes longer. */
const MODEL = preset('tiny', { width: 32, heads: 2, depth: 8, patch: 7, lengths: { min: 4, group: 4 } });

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, { timeout: 300_000 }, () => {
  let root: string;
  let server: Server;
  let origin: string;
  let page: Page;
  const asked: string[] = [];

  beforeAll(async () => {
    // Not in the repository, whose tsconfig.json gives the sources for the package.
    root = mkdtempSync(join(tmpdir(), 'odelt-embedding-'));
    await buildInto(join(root, 'dist'));
    mkdirSync(join(root, 'node_modules/odelt'), { recursive: true });
    cpSync(join(root, 'dist'), join(root, 'node_modules/odelt/dist'), { recursive: true });
    for (const name of ['vite', 'esbuild'])
      symlinkSync(join(ROOT, 'node_modules', name), join(root, 'node_modules', name));
    cpSync(join(ROOT, 'package.json'), join(root, 'node_modules/odelt/package.json'));
    cpSync(join(ROOT, 'examples'), join(root, 'examples'), { recursive: true });
    mkdirSync(join(root, 'models'));
    const model = join(root, 'models/fashion-mnist.safetensors');
    await writeSafetensors(model, modelTensors(initParams(MODEL, 1)), modelMetadata(MODEL));
    server = createServer((request, response) => {
      asked.push(`${request.url} ${request.headers.range ?? ''}`);
      if (request.url !== '/') return void serveFile(request, response, root);
      response.setHeader('content-type', 'text/html').end('<!doctype html><title>empty</title>');
    });
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    origin = `http://localhost:${(server.address() as AddressInfo).port}`;
    page = await openPage();
  });
  afterAll(async () => {
    await page?.close();
    server?.close();
    server?.closeAllConnections();
    rmSync(root, { recursive: true, force: true });
  });

  /** The pixels of a page's picture, once it is painted. */
  async function painted(path: string): Promise<string> {
    await page.goto(`${origin}${path}`);
    const pixels = "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 28, 28).data]";
    await page.until(`new Set(${pixels}).size > 20`, 120);
    return page.evaluate<string>(`${pixels}.join()`);
  }

  it('projects of Vite and of esbuild, as they are, paint a picture that their worker has sampled', async () => {
    const versions = JSON.parse(textOf('package.json')).devDependencies;
    for (const [name, ...build] of [
      ['vite', join(ROOT, 'node_modules/vite/bin/vite.js'), 'build', '--logLevel', 'error'],
      ['esbuild', 'build.mjs'],
    ] as const) {
      const { dependencies, devDependencies } = JSON.parse(textOf(`examples/${name}/package.json`));
      expect(dependencies).toEqual({ odelt: JSON.parse(textOf('package.json')).version });
      expect(devDependencies).toEqual({ [name]: versions[name] });
      await run(process.execPath, build, { cwd: join(root, 'examples', name) });
    }
    const byVite = await painted('/examples/vite/dist/index.html');
    expect(await painted('/examples/esbuild/dist/index.html')).toBe(byVite);
    expect(textOf('examples/esbuild/show.js')).toBe(textOf('examples/vite/show.js'));
  });

  it('the page with a worker samples', async () => {
    expect((await painted('/examples/worker.html')).length).toBeGreaterThan(28 * 28 * 8);
    await page.until("/^\\d+ ms$/.test(document.querySelector('output').textContent)");
  });

  it('engines share a device of the page, which outlives them; memory is flat over two hundred samplings', async () => {
    await page.goto(`${origin}/`);
    await page.evaluate(`(async () => {
      const odelt = await import('/dist/index.js');
      const { config, source } = await odelt.openModelUrl('/models/fashion-mnist.safetensors');
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const engines = [await odelt.createEngine({ device }), await odelt.createEngine({ device })];
      const samplers = engines.map((engine) => new odelt.Sampler(engine, new odelt.ResidentModel(engine, config, source), { batch: 1 }));
      const sample = async (sampler, seed) => (await sampler.sample({ labels: [1], steps: 1, blocks: 4, seed })).values;
      Object.assign(window, { device, engines, samplers, sample });
      window.many = async (times) => {
        for (let seed = 0; seed < times; seed++) await sample(samplers[1], seed);
        return engines[1].memory.report();
      };
    })()`);
    const same = await page.evaluate<boolean[]>(`(async () => {
      const both = await Promise.all(samplers.map((sampler) => sample(sampler, 3)));
      engines[0].dispose();
      const again = await sample(samplers[1], 3);
      return [both[1], again].map((values) => values.every((v, i) => v === both[0][i]));
    })()`);
    expect(same).toEqual([true, true]);

    const held = async (times: number) => {
      const report = await page.evaluate<object>(`many(${times})`);
      await page.command('HeapProfiler.collectGarbage');
      const { usedSize } = await page.command<{ usedSize: number }>('Runtime.getHeapUsage');
      return { report, usedSize };
    };
    const before = await held(100);
    const after = await held(200);
    // No buffer was made, so none was left; and no more than half a kilobyte a sampling of anything else.
    expect(after.report).toEqual(before.report);
    expect(after.usedSize - before.usedSize).toBeLessThan(200 * 500);

    const own = await page.evaluate(`(async () => {
      engines[1].dispose();
      const buffer = device.createBuffer({ size: 8, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      device.queue.writeBuffer(buffer, 0, Float32Array.of(1, 2));
      await buffer.mapAsync(GPUMapMode.READ);
      const lost = await Promise.race([device.lost.then(() => true), false]);
      return { values: [...new Float32Array(buffer.getMappedRange())], lost };
    })()`);
    expect(own).toEqual({ values: [1, 2], lost: false });
  });

  it('a model is kept in memory where the browser has no room for it', async () => {
    await page.goto(`${origin}/`);
    await page.command('Storage.overrideQuotaForOrigin', { origin, quotaSize: 50_000 });
    asked.length = 0;
    const { notices, sizes, again } = await page.evaluate<{
      notices: string[];
      sizes: number[];
      again: boolean;
    }>(`(async () => {
      const odelt = await import('/dist/index.js');
      const notices = [];
      const fetch = odelt.cachingFetch({ onNotice: (text) => notices.push(text) });
      const read = async () => {
        const { source } = await odelt.openModelUrl('/models/fashion-mnist.safetensors', { fetch });
        const groups = [];
        for (let g = 0; g < source.layout.groups.length; g++) groups.push(await source.read(g));
        return groups.map((group) => JSON.stringify(Object.values(group).map((part) => part.length ?? part)));
      };
      const first = await read();
      const second = await read();
      const sizes = first.map((text) => text.length);
      return { notices, sizes, again: JSON.stringify(second) === JSON.stringify(first) };
    })()`);
    expect(notices).toEqual([expect.stringMatching(/^models are kept in memory only: QuotaExceededError/)]);
    expect(sizes.length).toBeGreaterThan(15);
    expect(again).toBe(true);
    const ranges = asked.filter((url) => url.startsWith('/models/fashion'));
    // The second time only the header, which tells the version, and the one block or two that were put before there was no room.
    expect(ranges.length - new Set(ranges).size).toBeGreaterThan(0);
    expect(ranges.length - new Set(ranges).size).toBeLessThan(4);
  });
});
