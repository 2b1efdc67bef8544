/** The tab *Train* in a real browser, by clicks: points are learnt, a run is paused, downloaded, opened and gone on with, and pictures are dropped. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointBytes, parseCheckpoint } from '../../training/checkpoint.ts';
import { browser } from '../support/browser.ts';
import { openPage, type Page } from '../support/cdp.ts';
import { latentModel, latentParams } from '../support/latents.ts';
import { serveStudio, shoot } from '../support/studio.ts';
import { tinyTrain } from '../support/tiny.ts';

const state = (name: string) => `document.getElementById('train').dataset.state === '${name}'`;

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  let studio: Awaited<ReturnType<typeof serveStudio>>;
  let page: Page;
  let url: string;
  let downloads: string;
  beforeAll(async () => {
    studio = await serveStudio();
    url = studio.url;
    downloads = mkdtempSync(join(tmpdir(), 'odelt-downloads-'));
    page = await openPage({ downloads });
  });
  afterAll(async () => {
    await page?.close();
    studio?.close();
    if (downloads) rmSync(downloads, { recursive: true });
  });

  const text = (id: string) => page.evaluate<string>(`document.getElementById('${id}').textContent`);
  const click = (id: string) => page.evaluate(`document.getElementById('${id}').click()`);
  const set = (id: string, value: string) =>
    page.evaluate(`(() => {
      const input = document.getElementById('${id}');
      input.value = '${value}';
      input.dispatchEvent(new Event('change'));
    })()`);
  const losses = async () =>
    Object.fromEntries(
      await page.evaluate<[string, string][]>(
        "[...document.querySelectorAll('[data-loss]')].map((e) => [e.dataset.loss, e.textContent])",
      ),
    );
  /** What is drawn of the model, each canvas as its address. */
  const drawn = () =>
    page.evaluate<string[]>(
      "[...document.querySelectorAll('#train-flow, #train-cells canvas')].map((c) => c.toDataURL())",
    );
  const open = (bytes: Uint8Array) =>
    page.evaluate(`(() => {
      const files = new DataTransfer();
      files.items.add(new File([Uint8Array.from(atob('${Buffer.from(bytes).toString('base64')}'), (c) => c.charCodeAt(0))], 'run.safetensors'));
      const input = document.getElementById('train-open');
      input.files = files.files;
      input.dispatchEvent(new Event('change'));
    })()`);
  const LONG = 300;
  /** A stroke in the upper right, far from where noise is. */
  const stroke = () =>
    page.evaluate(`(() => {
      const canvas = document.getElementById('train-square');
      canvas.scrollIntoView();
      const { left, top, width, height } = canvas.getBoundingClientRect();
      canvas.setPointerCapture = () => {};
      for (const [i, type] of ['pointerdown', ...new Array(40).fill('pointermove'), 'pointerup', 'pointermove'].entries()) {
        const place = { clientX: left + 0.8 * width, clientY: top + (0.2 + 0.002 * i) * height };
        canvas.dispatchEvent(new PointerEvent(type, { ...place, pointerId: 1 }));
      }
    })()`);
  const square = () => page.evaluate<string>("document.getElementById('train-square').toDataURL()");
  const shape = (name: string) =>
    page.evaluate(
      `[...document.querySelectorAll('#train-shapes button')].find((b) => b.textContent === '${name}').click()`,
    );
  let points: string;
  /** The flow loss of the first updates. */
  let before: number;
  /** The checkpoint that was downloaded in the midst of the run, what was drawn of it, and its updates. */
  let file: Uint8Array;
  let paused: string[];
  let at: number;

  it('points that are drawn are learnt, as far as a pause, and downloaded', { timeout: 900_000 }, async () => {
    await page.goto(`${url}#tab=train`);
    await page.until(state('none'));
    await shape('Ring');
    expect(await text('train-count')).toBe('1000 points. Draw more, or choose a shape.');
    await shape('Clear');
    expect(await page.evaluate("document.getElementById('train-start').disabled")).toBe(true);
    await stroke();
    expect(await text('train-count')).toBe('164 points. Draw more, or choose a shape.');
    points = await square();
    await set('train-batch', '64');
    await set('train-steps', '');
    await click('train-start');
    expect(await page.evaluate(state('none'))).toBe(true);
    // So large a rate that few updates are enough to see the loss fall.
    await set('train-lr', '0.01');
    await set('train-steps', '10');
    await click('train-start');
    expect(await page.evaluate("document.getElementById('train-open').disabled")).toBe(true);
    const said = await page.evaluate<string>(`(async () => {
      for (const what of [['some text', 'text/plain'], [new File(['text'], 'run.safetensors')]]) {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(...what);
        window.dispatchEvent(new DragEvent('drop', { dataTransfer }));
      }
      const words = document.querySelector('#train-trouble p');
      for (let i = 0; i < 100 && words.textContent === ''; i++) await new Promise((done) => setTimeout(done, 10));
      return words.textContent + document.querySelector('input[name="train-source"]:checked').value;
    })()`);
    expect(said).toBe('A run is under way: nothing else is opened.\nPause or stop it first.points');
    await page.until("document.querySelector('[data-loss=flow]').textContent !== '\u2013'", LONG);
    before = Number((await losses()).flow);
    await click('train-pause');
    await page.until(`${state('paused')} && document.getElementById('train').dataset.drawn`, LONG);
    expect(await page.evaluate("document.getElementById('train-trouble').hidden")).toBe(true);
    at = Number(/^Paused after (\d+) updates? of 10\.$/.exec(await text('train-status'))![1]);
    expect(at).toBeGreaterThan(0);
    expect(at).toBeLessThan(10);
    paused = await drawn();
    await click('train-download');
    await expect.poll(() => readdirSync(downloads), { timeout: 60_000 }).toEqual([`odelt-${at}-updates.safetensors`]);
    file = readFileSync(join(downloads, `odelt-${at}-updates.safetensors`));
    const kept = await parseCheckpoint(file);
    expect([kept.step, kept.data!.labels.length]).toEqual([at, 164]);
    const [x, y] = kept.data!.values;
    expect(Math.hypot(x! - 1.8, y! - 1.8)).toBeLessThan(0.2);
    expect(page.errors).toEqual([]);
  });

  it('the checkpoint, opened in a new page, draws the same and goes on: the loss falls', {
    timeout: 900_000,
  }, async () => {
    await page.goto(`${url}#tab=train`);
    await page.until(state('none'));
    await open(file);
    await page.until(`${state('paused')} && document.getElementById('train').dataset.drawn === '${at}'`, LONG);
    expect(await text('train-status')).toBe(`Paused after ${at} update${at === 1 ? '' : 's'} of 10.`);
    expect(await square()).toBe(points);
    expect((await drawn()).map((canvas, i) => canvas === paused[i])).toEqual(paused.map(() => true));
    await click('train-pause');
    await page.until(`${state('done')} && document.getElementById('train').dataset.drawn === '10'`, LONG);
    expect(await text('train-status')).toBe('Trained for 10 updates.');
    const last = await losses();
    for (const loss of ['flow', 'time', 'length']) expect(Number(last[loss]), loss).toBeGreaterThan(0);
    expect(Number(last.flow)).toBeLessThan(0.7 * before);
    const end = await drawn();
    expect(end.length).toBe(13);
    expect(new Set([...end, ...paused]).size).toBeGreaterThan(20);
    expect(page.errors).toEqual([]);
  });

  it('another cell and time are looked at, and every control is reached by the keyboard', async () => {
    const flow = () => page.evaluate<string>("document.getElementById('train-flow').toDataURL()");
    const before = await flow();
    await page.evaluate('document.querySelector(\'#train-cells [data-steps="1"][data-blocks="1"]\').click()');
    expect(await text('train-cell')).toBe('1 step with 1 block, at time 1.00: arrows are velocities.');
    expect(await flow()).not.toBe(before);
    await page.evaluate("document.getElementById('train-t').focus()");
    await page.press('Home');
    expect(await text('train-cell')).toMatch(/at time 0\.00/);
    await shoot(page, 'train-points');
    await page.evaluate("document.getElementById('tab-train').focus()");
    const order: string[] = [];
    for (let i = 0; i < 12; i++) {
      await page.press('Tab');
      order.push(
        await page.evaluate(
          'document.activeElement.id || document.activeElement.value || document.activeElement.textContent',
        ),
      );
    }
    expect(order).toEqual([
      ...['points', 'Two moons', 'Ring', 'Spiral', 'Checkerboard', 'Clear'],
      ...['train-play', 'train-t', 'train-steps', 'train-batch', 'train-lr', 'train-start'],
    ]);
  });

  it('a dropped folder is trained on, and its model is sampled', async () => {
    const drop = (files: string) =>
      page.evaluate(`(async () => {
        const dataTransfer = new DataTransfer();
        for (const name of ${files}) {
          const canvas = new OffscreenCanvas(20, 30);
          canvas.getContext('2d').fillRect(2, 2, 5 + name.length, 9);
          const isPicture = name.endsWith('.png');
          dataTransfer.items.add(new File([isPicture ? await canvas.convertToBlob() : 'text'], name));
        }
        window.dispatchEvent(new DragEvent('drop', { dataTransfer }));
      })()`);
    await drop("['set/cat/notes.txt']");
    await page.until("document.getElementById('train-files-text').textContent === '1 file in 1 class: cat.'");
    for (const [id, value] of Object.entries({ 'train-steps': 2, 'train-batch': 8, 'train-side': 16 }))
      await set(id, `${value}`);
    await click('train-start');
    await page.until(state('failed'), LONG);
    expect(await text('train-trouble')).toMatch(/none of 1 files is a readable picture/);
    // The run before is there still, and can be gone on with.
    expect(await page.evaluate("document.getElementById('train-download').disabled")).toBe(false);
    expect((await drawn()).length).toBe(13);
    await drop("['set/cat/1.png', 'set/cat/22.png', 'set/dog/333.png']");
    await page.until("document.getElementById('train-files-text').textContent === '3 files in 2 classes: cat, dog.'");
    await click('train-start');
    await page.until(`${state('done')} && document.getElementById('train').dataset.drawn === '2'`, LONG);
    const sizes = await page.evaluate<string[]>(
      "[...document.querySelectorAll('#train-cells canvas')].map((c) => c.width + ' x ' + c.height)",
    );
    expect(sizes).toEqual(new Array(9).fill('67 x 33'));
    await click('train-use');
    await page.until("document.getElementById('model-text').textContent.startsWith('trained-2-updates')", LONG);
    expect(await text('model-text')).toMatch(/16 \u00d7 16 pixels, 6 blocks, 2 classes/);
    expect(page.errors).toEqual([]);
  });

  it('a run of latents is refused in plain words', async () => {
    const params = latentParams();
    const sets = { params, ema: params, m: params, v: params };
    await page.evaluate("location.hash = 'tab=train'");
    await open(await checkpointBytes({ step: 1, model: latentModel, train: tinyTrain, sets }));
    await page.until("!document.getElementById('train-trouble').hidden");
    expect(await text('train-trouble')).toMatch(
      /^this run learns latents of 4 channels, of which the studio has none\nSample shows/,
    );
  });
});
