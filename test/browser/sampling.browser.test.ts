/**
 * The browser build in a real browser, where one is installed (CHROME may name it): the example page and the README's code sample with
 * Chromium's own WebGPU on SwiftShader what Node samples, and the page reads only the blocks that it runs.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readParams } from '../../model/weights/source.ts';
import { modelContents, openModelSource, ResidentModel, Sampler, writeSafetensors } from '../../node.ts';
import { browser, visit } from '../support/browser.ts';
import { testEngine } from '../support/engine.ts';
import { fencedBlocks } from '../support/fenced.ts';
import { relativeError } from '../support/golden.ts';
import { buildInto, ROOT, textOf } from '../support/repository.ts';

const MODEL = join(ROOT, 'models/fashion-mnist.safetensors');

interface Sampled {
  readonly request: { labels: number[]; steps: number; blocks: number; guidance: number; seed: number };
  readonly values: number[];
  readonly bytes: number;
}

/** Opens the example page, runs `actions` in it after each picture, and gives what each picture was. */
function visitExample(built: string, actions: readonly string[]): Promise<Sampled[]> {
  const report = `<script type="module">
    const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
    const actions = [${actions.map((action) => `() => { ${action} }`).join(',')}];
    document.addEventListener('failed', ({ detail }) => send({ failed: detail }));
    document.addEventListener('sampled', async ({ detail }) => {
      await send({ ...detail, values: [...detail.values] });
      setTimeout(() => actions.shift()?.());
    });
  </script>`;
  // In front, so that it listens before the page samples.
  const html = textOf('examples/browser.html').replace('<style>', `${report}<style>`);
  return visit({ built, path: '/examples/browser.html', html, reports: 1 + actions.length });
}

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  let built: string;
  beforeAll(async () => {
    built = await mkdtemp(join(tmpdir(), 'odelt-built-'));
    await buildInto(join(built, 'dist'));
  });
  afterAll(() => rm(built, { recursive: true }));

  it('the example page samples what Node samples, at every number of blocks it is asked for', {
    timeout: 300_000,
  }, async () => {
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
    const sampled = await visitExample(built, [more, `document.forms[0].blocks.value = '4'; ${click}`]);
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

  it('the code of the README samples what Node samples', { timeout: 300_000 }, async () => {
    await cp(join(ROOT, 'models'), join(built, 'models'), { recursive: true });
    const page = textOf('README.md');
    const [block] = fencedBlocks(page).filter(
      ({ language, heading }) => language === 'js' && heading === 'In browsers',
    );
    const html = `<script type="importmap">{ "imports": { "odelt": "/dist/index.js" } }</script>
      <script type="module">
        const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
        addEventListener('unhandledrejection', ({ reason }) => send({ failed: String(reason) }));
        addEventListener('error', ({ message }) => send({ failed: message }));
      </script>
      <script type="module">${block!.code}
        await fetch('/report', { method: 'POST', body: JSON.stringify([...values]) });
      </script>`;
    const [values] = await visit<number[]>({ built, path: '/readme.html', html, reports: 1 });
    const engine = await testEngine();
    const { config, source, close } = await openModelSource(MODEL);
    const sampler = new Sampler(engine, new ResidentModel(engine, config, source));
    const { values: want } = await sampler.sample({ labels: [7], steps: 4, blocks: 4 });
    expect(relativeError(values!, want)).toBeLessThan(2e-5);
    await close();
    engine.dispose();
  });
});
