/**
 * The worker in a real browser, under a strict content security policy with trusted types: what it samples and trains is what Node samples
 * and trains on SwiftShader, errors arrive as they were thrown, and training outlives a lost GPU.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNodeEngine } from '../../engine/engine.node.ts';
import type { Engine } from '../../engine/engine.ts';
import { sha256 } from '../../formats/bytes.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import { memorySource } from '../../model/weights/source.ts';
import { chooseDecoder, decodeSamples } from '../../sampling/decoding.ts';
import { Sampler, type Samples } from '../../sampling/sampler.ts';
import { checkpointBytes } from '../../training/checkpoint.ts';
import { type Dataset, datasetOf } from '../../training/data/dataset.ts';
import { fingerprintOf } from '../../training/data/fingerprint.ts';
import { createTrainer } from '../../training/trainer.ts';
import { foreignWeights } from '../support/autoencoder.ts';
import { browser, visit } from '../support/browser.ts';
import { latentModel, latentModelFile, latentParams, safetensorsOf } from '../support/latents.ts';
import { buildInto, ROOT, textOf } from '../support/repository.ts';
import { importedTaesd, smallTaesd } from '../support/taesd.ts';
import { tinyModel, tinyTrain } from '../support/tiny.ts';

const MODEL = join(ROOT, 'models/fashion-mnist.safetensors');
const train = { ...tinyTrain, steps: 6 };
const classNames = ['ant', 'bee', 'cat'];
const pixels = Uint8Array.from({ length: 12 * 64 }, (_, i) => (i * 37 + Math.floor(i / 64) * 91) % 256);
/** In the order of the classes, as folders have it. */
const labels = Uint8Array.of(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2);
const shape = { name: 'tiny', height: 8, width: 8, channels: 1, classes: 3 };

interface Told {
  readonly name: string;
  readonly typed: boolean;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

interface Report {
  readonly classes: number;
  readonly progress: unknown;
  readonly shape: unknown;
  readonly values: number[];
  readonly events: (number | string)[];
  readonly errors: Readonly<Record<string, Told>>;
  readonly interrupted: Told;
  readonly verified: string[];
  readonly cases: number;
  readonly failed: number;
  readonly checkpointAt: number;
  readonly closed: boolean;
  readonly same: boolean[];
  readonly digests: string[];
  readonly trained: number[];
  readonly small: number[];
  readonly own: number[];
  readonly shown: unknown;
  readonly decoded: number[];
  readonly took: { readonly milliseconds: number; readonly warning?: string };
}

/** What is asked of the model of latents. */
const request = { labels: [1, null], steps: 2, blocks: 2, seed: 7 };

/** No inline script, no eval, and no address of a script that is not from a policy. */
const POLICY =
  "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; " +
  "require-trusted-types-for 'script'; trusted-types odelt test";

/** What Node samples and trains on SwiftShader. */
async function onNode(data: Dataset) {
  const { engine } = await createNodeEngine({ adapter: 'swiftshader' });
  const { config, source, close } = await openModelSource(MODEL);
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 2 });
  const { values } = await sampler.sample({ labels: [7, 3], steps: 2, blocks: 4, seed: 5 });
  await close();
  const trainer = await createTrainer(engine, { model: tinyModel, train, data });
  for await (const _ of trainer.run());
  const [sets, pictures] = [await trainer.snapshot(), await fingerprintOf(data)];
  const digest = await sha256(await checkpointBytes({ step: 6, model: tinyModel, train, classNames, sets, pictures }));
  const decoded = await decodedOnNode(engine);
  engine.dispose();
  return { values, digest, decoded };
}

/** As `odelt sample --decode` draws. */
async function decodedOnNode(engine: Engine): Promise<Samples['values']> {
  const resident = new ResidentModel(engine, latentModel, memorySource(latentParams()));
  const sampler = new Sampler(engine, resident);
  const samples = await sampler.sample(request);
  sampler.dispose();
  resident.dispose();
  const imported = await importedTaesd();
  const choice = await chooseDecoder(engine, imported, latentModel.imageSize);
  return (await decodeSamples(engine, imported, samples, { choice })).values;
}

/** Files for the page, as base64: the model, its autoencoder, and one of other latents. */
async function latentFiles() {
  const sent = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  return {
    request,
    model: sent(await latentModelFile()),
    autoencoder: sent(await safetensorsOf(foreignWeights(smallTaesd()))),
    other: sent(await safetensorsOf(foreignWeights(smallTaesd(3)))),
  };
}

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  let built: string;
  beforeAll(async () => {
    built = await mkdtemp(join(tmpdir(), 'odelt-built-'));
    await buildInto(join(built, 'dist'));
    await cp(join(ROOT, 'models'), join(built, 'models'), { recursive: true });
    await cp(join(ROOT, 'test/fixtures/golden'), join(built, 'models/golden'), { recursive: true });
  });
  afterAll(() => rm(built, { recursive: true }));

  it('the worker samples, trains, checks and recovers, to the bits of Node', { timeout: 600_000 }, async () => {
    const asked: string[] = [];
    const visited = visit<Report>({
      ...{ built, path: '/page.html', reports: 1, headers: { 'content-security-policy': POLICY } },
      html: '<!doctype html><script type="module" src="/page.js"></script>',
      files: {
        '/page.js': textOf('test/browser/pages/worker.js'),
        '/lossy.js': textOf('test/browser/pages/lossy.js'),
        '/setup.js': JSON.stringify({
          ...{ model: tinyModel, train, pixels: [...pixels], labels: [...labels], latents: await latentFiles() },
        }),
      },
      onRequest: (url, range) => {
        if (url.startsWith('/models/fashion')) asked.push(`${range}`);
      },
    });
    // Beside the page, as both take their time.
    const [[report], { values, digest, decoded }] = await Promise.all([
      visited,
      onNode(datasetOf({ ...shape, pixels, labels, classNames })),
    ]);

    expect(report!.classes).toBe(10);
    // The second time, only what tells the file's version: blocks are kept.
    const header = asked.filter((range) => range.startsWith('bytes=0-'));
    expect(header.length).toBe(2);
    expect(asked.length - header.length).toBeGreaterThan(4);
    expect(new Set(asked).size).toBe(asked.length - 1);
    expect(report!.progress).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(report!.shape).toEqual([2, 28, 28, 1]);
    expect(Float32Array.from(report!.values)).toEqual(values);
    expect(report!.cases).toBeGreaterThan(0);
    expect(report!.shown).toEqual({ imageSize: 24, channels: 3 });
    expect(Float32Array.from(report!.decoded)).toEqual(decoded);
    expect(report!.took.warning).toMatch(/^the samples' deviation is/);
    expect(report!.verified).toEqual(Array.from({ length: report!.cases }, () => 'random true'));
    expect(report!.failed).toBe(0);
    expect(report!.same).toEqual([true, true]);
    // What the third update gave may be lost with the device.
    expect(report!.events.join(' ')).toMatch(/^1 2 checkpoint 2 (3 )?recovered 2 3 4 checkpoint 4 5 6$/);
    // Pictures are the same as pixels, as bitmaps and as files.
    expect(report!.digests).toEqual([digest, digest]);
    expect(report!.trained).toEqual([6, 6]);
    expect(report!.small).toEqual([1, 8, 8, 1]);
    expect(report!.interrupted).toMatchObject({ name: 'InterruptedError', typed: true, code: 'interrupted' });
    expect(report!.closed).toBe(true);
    expect(report!.checkpointAt).toBeGreaterThanOrEqual(3);
    expect(report!.own).toEqual([7, 8, 9]);
    const { label, missing, bench, uncloneable, otherModel, damaged, disposed, lost, decoder, channels } =
      report!.errors;
    expect(label).toEqual({
      ...{ name: 'ConfigError', typed: true, code: 'config' },
      message: expect.stringMatching(/99/),
      hint: expect.any(String),
    });
    expect(decoder).toMatchObject({ name: 'CheckpointError', typed: true });
    expect(decoder!.message).toMatch(/^model\.safetensors: its tensors have names of no autoencoder/);
    expect(channels).toMatchObject({
      ...{ name: 'ConfigError', typed: true, hint: 'use the autoencoder that the latents were made with' },
      message: 'the model makes latents of 4 channels; the autoencoder decodes those of 3',
    });
    expect(missing).toMatchObject({ name: 'CheckpointError', typed: true, code: 'checkpoint' });
    expect(missing!.message).toMatch(/nothing\.safetensors: the server answered 404/);
    expect(bench).toMatchObject({ name: 'ConfigError', typed: true, hint: expect.stringMatching(/attention/) });
    expect(bench!.message).toBe("no kernel that is timed matches 'nonsense'");
    expect(bench).toMatchObject({ name: 'ConfigError', typed: true, message: expect.stringMatching(/nonsense/) });
    expect(uncloneable).toMatchObject({
      name: 'UsageError',
      typed: true,
      message: 'sample cannot be sent to the worker',
    });
    expect(otherModel!.message).toBe('the run has training.batch 8; it cannot go on with training.batch 4');
    expect(damaged).toMatchObject({ name: 'CheckpointError', typed: true });
    expect(damaged!.message).toMatch(/^the checkpoint is damaged: its SHA-256 is /);
    expect(lost).toMatchObject({ name: 'DeviceLostError', typed: true });
    expect(disposed).toMatchObject({ name: 'InterruptedError', message: 'the worker has been disposed' });
  });

  it('the example page trains on the files that are chosen, goes on, and shows a picture', {
    timeout: 300_000,
  }, async () => {
    const actions = `<script type="module">
      const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
      const click = () => document.forms[0].querySelector('button').click();
      document.addEventListener('failed', ({ detail }) => send({ said: detail }).then(choose));
      document.addEventListener('trained', ({ detail: { step, values } }) => {
        const { data } = document.querySelector('canvas').getContext('2d').getImageData(0, 0, 16, 8);
        const said = document.querySelector('output').textContent;
        const links = [...document.querySelectorAll('a')];
        Promise.all(links.map(async ({ href }) => (await (await fetch(href)).blob()).size)).then((sizes) => {
          send({ step, said, values: values.length, painted: new Set(data).size, kept: sizes.every((size) => size > 1e4) });
          setTimeout(click);
        });
      });
      async function choose() {
        const chosen = new DataTransfer();
        for (const name of ['set/a/1.png', 'set/b/1.png']) {
          const canvas = new OffscreenCanvas(30, 40);
          canvas.getContext('2d').fillRect(5, 5, 20, name.length);
          chosen.items.add(new File([await canvas.convertToBlob()], name));
        }
        document.forms[0].folder.files = chosen.files;
        document.forms[0].steps.value = 1;
        click();
      }
      click();
    </script>`;
    const page = textOf('examples/train.html').replace('SIZE = 28', 'SIZE = 8');
    const html = page.replace('</html>', `${actions}</html>`);
    const reports = await visit({ built, path: '/examples/train.html', html, reports: 3 });
    const pictures = { values: 2 * 8 * 8 * 3, painted: expect.any(Number), kept: true };
    expect(reports).toEqual([
      { said: 'no file lies in a folder of its class' },
      { step: 1, said: '1 updates; one picture of each of 2 classes', ...pictures },
      { step: 2, said: '2 updates; one picture of each of 2 classes', ...pictures },
    ]);
    expect((reports[1] as { painted: number }).painted).toBeGreaterThan(20);
  });
});
