/** The studio's page in a real browser, as `odelt studio` serves it: its tabs, by clicks and by the keyboard, what they show, and their looks. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeMeasured } from '../../evaluation/results.ts';
import { evaluationOf } from '../../evaluation/stored.ts';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { parseModelConfig } from '../../model/config.ts';
import { initParams } from '../../model/params.ts';
import { modelContents, parseModelFile } from '../../model/weights/model-file.ts';
import type { MeasureReport } from '../../studio/measure-report.ts';
import { foreignWeights } from '../support/autoencoder.ts';
import { browser } from '../support/browser.ts';
import { openPage, type Page } from '../support/cdp.ts';
import { latentModelFile, safetensorsOf, torchOf } from '../support/latents.ts';
import { ROOT } from '../support/repository.ts';
import { SHOTS, serveStudio, shoot } from '../support/studio.ts';
import { smallTaesd } from '../support/taesd.ts';

/** A file of one's own: small, so that its map is drawn soon. */
const own = parseModelConfig({
  ...{ imageSize: 28, channels: 1, patch: 7, width: 16, heads: 2, depth: 4, mlpRatio: 2, classes: 10 },
  lengths: { min: 2, group: 2 },
});
/** What the shipped model's file says of itself. */
const shipped = parseModelFile(readFileSync(join(ROOT, 'models/fashion-mnist.safetensors')), 'shipped').then(
  (file) => ({
    evaluation: evaluationOf(file, 'shipped'),
  }),
);
/** Activations recorded of one model, each of which is a case. */
const INSIDE = parseSafetensors(readFileSync(join(ROOT, 'test/fixtures/golden/a/forward.safetensors')), 'forward')
  .names()
  .filter((name) => name.startsWith('act_blocks')).length;
const DRAWN = "document.getElementById('sample').dataset.state === 'drawn'";

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  let studio: Awaited<ReturnType<typeof serveStudio>>;
  let page: Page;
  let url: string;
  let mine: Uint8Array;
  beforeAll(async () => {
    studio = await serveStudio();
    url = studio.url;
    const { tensors, metadata } = await modelContents(own, initParams(own, 0));
    mine = serializeSafetensors(tensors, metadata);
    page = await openPage();
  });
  afterAll(async () => {
    await page?.close();
    studio?.close();
  });

  const text = (selector: string) => page.evaluate<string>(`document.querySelector('${selector}').textContent`);
  /** How many different greys a canvas has. */
  const greys = (selector: string) =>
    page.evaluate<number[]>(`[...document.querySelectorAll('${selector}')].map((canvas) =>
      new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size)`);
  /** Values of the costs, as numbers with their units. */
  const costs = () => page.evaluate<string[]>("[...document.querySelectorAll('.value')].map((e) => e.textContent)");
  /** Picks a file of one's own; what was drawn before no longer counts as drawn. */
  const give = (name: string, bytes: Uint8Array) => giveAll({ [name]: bytes });
  /** `after`: what follows in the same task. */
  const giveAll = (given: Readonly<Record<string, Uint8Array>>, after = '') =>
    page.evaluate(`(() => {
      const files = new DataTransfer();
      const given = ${JSON.stringify(Object.entries(given).map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]))};
      for (const [name, text] of given) files.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
      const input = document.getElementById('file');
      input.files = files.files;
      document.getElementById('sample').dataset.state = 'given';
      input.dispatchEvent(new Event('change'));
      ${after};
    })()`);

  it('opens with pictures of every class and what they cost', async () => {
    await page.goto(`${url}#T=2`);
    await page.until(DRAWN);
    const drawn = await greys('#pictures canvas');
    expect(drawn.length).toBe(10);
    for (const different of drawn) expect(different).toBeGreaterThan(20);
    expect(await text('#pictures figcaption')).toBe('T-shirt/top');
    expect(await text('#status')).toBe('Drawn in 2 steps, 12 blocks each.');
    expect(await text('#network-text')).toBe('12 blocks on the GPU, none left out.');
    const [ms, memory, weights] = await costs();
    expect(ms).toMatch(/^[\d.]+ m?s$/);
    expect(memory).toMatch(/^[\d.]+ MB$/);
    expect(weights).toBe('1.90 MB');
    expect(page.errors).toEqual([]);
  });

  it('fewer blocks by the keyboard: less memory, fewer weights, and the URL says so', async () => {
    const before = (await costs()).map(Number.parseFloat);
    await page.evaluate("document.getElementById('blocks').focus()");
    await page.press('Home');
    await page.until(`location.hash.includes('L=4') && ${DRAWN}`);
    const after = (await costs()).map(Number.parseFloat);
    expect(after[1]).toBeLessThan(0.8 * before[1]!);
    expect(after[2]).toBeLessThan(1000);
    expect(await text('#network-text')).toBe('4 blocks on the GPU, 8 not needed.');
    expect(await page.evaluate("document.querySelectorAll('#network .runs').length")).toBe(4);
    expect(await page.evaluate('location.hash')).toBe('#T=2&L=4');
  });

  it("shows the shipped model's evaluation: every cell of it, and what is chosen", async () => {
    const { evaluation } = await shipped;
    const cells = evaluation!.cells;
    const chosen = cells.find(({ steps, blocks }) => steps === 2 && blocks === 4)!;
    expect(await text('#scatter-now')).toContain(`T 2, L 4: pictures at a distance of ${describeMeasured(chosen.fd)}`);
    expect(await text('#scatter .chosen title')).toContain(describeMeasured(chosen.fd));
    const points = await page.evaluate<{ at: string; area: number; x: number; y: number }[]>(`
      [...document.querySelectorAll('#scatter .wide .point')].map((e) => {
        const [circle] = e.getElementsByTagName('circle');
        const [cx, cy, r] = ['cx', 'cy', 'r'].map((name) => Number(circle.getAttribute(name)));
        return { at: e.dataset.steps + ' ' + e.dataset.blocks, area: r * r, x: cx, y: cy };
      })`);
    expect(points.length).toBe(cells.length);
    const place = ({ steps, blocks }: { steps: number; blocks: number }) =>
      points.find(({ at }) => at === `${steps} ${blocks}`)!;
    // Both axes are logarithmic, and areas are in proportion to bytes, each but for tenths of a pixel.
    const [few, most] = [cells[0]!, cells.at(-1)!];
    const pixels = (of: (cell: typeof few) => number, axis: 'x' | 'y') =>
      (place(most)[axis] - place(few)[axis]) / Math.log(of(most) / of(few));
    for (const cell of cells) {
      const { x, y, area } = place(cell);
      const [seconds, distance] = [(c: typeof few) => c.secondsPerSample, (c: typeof few) => c.fd.value];
      const right = pixels(seconds, 'x') * Math.log(seconds(cell) / seconds(few));
      const up = pixels(distance, 'y') * Math.log(distance(cell) / distance(few));
      expect(Math.abs(x - place(few).x - right)).toBeLessThan(0.25);
      expect(Math.abs(y - place(few).y - up)).toBeLessThan(0.25);
      expect(area / place(most).area).toBeCloseTo(cell.peakBytes / most.peakBytes, 1);
    }
    const click =
      'document.querySelector(\'#scatter [data-steps="8"][data-blocks="4"]\').dispatchEvent(new Event(\'click\'))';
    await page.evaluate(click);
    await page.until(`document.querySelector('#status').textContent.includes('8 steps, 4 blocks') && ${DRAWN}`);
    await page.until("location.hash === '#T=8&L=4'");
    expect(await text('#scatter-now')).toMatch(/^T 8, L 4: pictures/);
  });

  it('another class and seed stay over a reload', async () => {
    const network = "document.getElementById('network-text')";
    await page.evaluate(`void (window.said = [], new MutationObserver(() => window.said.push(${network}.textContent))
      .observe(${network}, { childList: true }))`);
    await page.evaluate("location.hash = 'T=2&L=8&class=7&seed=3'");
    await page.until(`document.querySelector('#status').textContent.includes('8 blocks') && ${DRAWN}`);
    const said = await page.evaluate<string[]>('window.said');
    expect(said[0]).toBe('4 blocks on the GPU, 4 on the way, 4 not needed.');
    expect(said.at(-1)).toBe('8 blocks on the GPU, 4 not needed.');
    const pixels = "document.querySelector('#pictures canvas').toDataURL()";
    const [drawn, shown] = [
      await page.evaluate(pixels),
      "['steps','blocks','label','guidance','seed'].map((id) => document.getElementById(id).value)",
    ];
    expect(await page.evaluate(shown)).toEqual(['1', '1', '7', '1', '3']);
    await page.evaluate('void location.reload()');
    await page.until(`performance.getEntriesByType('navigation')[0].type === 'reload' && ${DRAWN}`);
    expect(await page.evaluate(shown)).toEqual(['1', '1', '7', '1', '3']);
    expect(await page.evaluate(pixels)).toBe(drawn);
  });

  it("a file of one's own is drawn, and one that is no model is refused in words", async () => {
    await give('mine.safetensors', mine);
    await page.until(`document.getElementById('model-text').textContent.startsWith('mine') && ${DRAWN}`);
    expect(await page.evaluate("document.getElementById('scatter-part').hidden")).toBe(true);
    expect(await text('#model-text')).toBe('mine.safetensors: 28 \u00d7 28 pixels, 4 blocks, 10 classes.');
    await give('broken.safetensors', Buffer.from('no model at all'));
    await page.until("!document.getElementById('trouble').hidden");
    expect(await text('#trouble p')).toMatch(/the model/);
    expect(await page.evaluate("document.getElementById('shipped').hidden")).toBe(false);
    await page.evaluate("document.querySelector('#trouble button').click()");
    await page.until(`document.getElementById('trouble').hidden && ${DRAWN}`);
  });

  it('the keyboard reaches every control in the order of the page', async () => {
    await page.evaluate('document.body.tabIndex = -1; document.body.focus()');
    const order: string[] = [];
    for (let i = 0; i < 10; i++) {
      await page.press('Tab');
      order.push(await page.evaluate('document.activeElement.id'));
    }
    const controls = ['steps', 'blocks', 'label', 'guidance', 'seed', 'noise', 'map-button', 'file', 'shipped'];
    expect(order).toEqual(['tab-sample', ...controls]);
    await page.press('Tab', true);
    expect(await page.evaluate("getComputedStyle(document.querySelector('label.button')).outlineStyle")).toBe('solid');
  });

  it('arrow keys go through the tabs, and the address keeps what was chosen', async () => {
    const shown = `[document.activeElement.id, document.querySelector('[aria-selected="true"]').id,
      [...document.querySelectorAll('[role="tabpanel"]')].filter((e) => !e.hidden).map((e) => e.id).join(),
      location.hash, document.title]`;
    await page.evaluate("document.getElementById('tab-sample').focus()");
    await page.press('ArrowLeft');
    const measure = [
      'tab-measure',
      'tab-measure',
      'measure',
      '#T=2&L=8&class=7&seed=3&tab=measure',
      'odelt studio: Measure',
    ];
    expect(await page.evaluate(shown)).toEqual(measure);
    const notLoaded = "document.getElementById('not-loaded').hidden";
    await page.evaluate(`void (${notLoaded} = false)`);
    await page.press('ArrowRight');
    const sample = ['tab-sample', 'tab-sample', 'sample', '#T=2&L=8&class=7&seed=3', 'odelt studio: Sample'];
    expect(await page.evaluate(shown)).toEqual(sample);
    // It was said of the tab before.
    expect(await page.evaluate(notLoaded)).toBe(true);
    await page.evaluate('void history.back()');
    await page.until(`!document.getElementById('measure').hidden`);
    await page.press('Home');
    expect(await page.evaluate(shown)).toEqual(sample);
  });

  it('says in plain words that there is no WebGPU, with a button to try again', async () => {
    const without = await openPage({ webgpu: false });
    try {
      await without.goto(url);
      await without.until("!document.getElementById('trouble').hidden");
      const said = await without.evaluate<string>("document.querySelector('#trouble p').textContent");
      expect(said).toMatch(/^This browser has (no WebGPU|WebGPU, but found no GPU)/);
      await without.look(390, 'light');
      writeFileSync(join(SHOTS, 'without-390-light.png'), await without.screenshot());
    } finally {
      await without.close();
    }
  });

  it('the map has a picture and a time in each cell, and a cell sets both', { timeout: 600_000 }, async () => {
    // A name that no test before this one gave: the page is at rest with this file, not still with theirs.
    await give('mapped.safetensors', mine);
    await page.until(`document.getElementById('model-text').textContent.startsWith('mapped') && ${DRAWN}`);
    await page.evaluate("document.getElementById('map-button').click()");
    await page.until("document.getElementById('status').textContent === 'The map is drawn.'", 500);
    const cells = await greys('#map canvas');
    expect(cells.length).toBe(16);
    for (const different of cells) expect(different).toBeGreaterThan(20);
    const times = await page.evaluate<string[]>(
      "[...document.querySelectorAll('#map td span')].map((e) => e.textContent)",
    );
    for (const time of times) expect(time).toMatch(/^[\d.]+ m?s$/);
    // The first cell of the sneaker's row shows what the row above drew: the same noise.
    await page.evaluate('document.querySelector(\'#map [data-steps="2"][data-blocks="2"]\').click()');
    await page.until(DRAWN);
    const same =
      "document.querySelector('#pictures canvas').toDataURL() === document.querySelector('[aria-pressed=\"true\"] canvas').toDataURL()";
    expect(await page.evaluate(same)).toBe(true);
  });

  it('a model of latents waits for its autoencoder in plain words, and then is drawn decoded', async () => {
    const trouble = (start: string) =>
      page.until(
        `!document.getElementById('trouble').hidden && document.querySelector('#trouble p').textContent.startsWith(${JSON.stringify(start)})`,
      );
    await page.evaluate("location.hash = 'T=2&L=4'");
    await give('latents.safetensors', await latentModelFile());
    const ask = "This model makes latents of 4 channels; open its autoencoder's file too.";
    await trouble(ask);
    await page.evaluate("document.getElementById('file').addEventListener('click', () => { window.asked = true; })");
    expect(await text('#trouble button')).toBe('Open its autoencoder');
    expect(await text('#status')).toBe('Waiting for its autoencoder.');
    // What was drawn by the model before is gone, as that is.
    expect(await page.evaluate("document.querySelectorAll('#sample canvas').length")).toBe(0);
    expect(await page.evaluate("document.getElementById('map-button').disabled")).toBe(true);
    await page.evaluate("document.querySelector('#trouble button').click()");
    expect(await page.evaluate('window.asked')).toBe(true);
    await give('other.safetensors', await safetensorsOf(foreignWeights(smallTaesd(3))));
    await trouble('the model makes latents of 4 channels; the autoencoder decodes those of 3');
    expect(await text('#trouble button')).toBe('Open its autoencoder');
    await page.evaluate("location.hash = 'T=1&L=4'");
    await trouble(ask);
    const decoder = foreignWeights(smallTaesd(), (name) => (name.startsWith('decoder.') ? name : null));
    await give('decoder.pth', await torchOf(decoder));
    await page.until(DRAWN);
    expect(await text('#model-text')).toBe(
      'latents.safetensors: 24 \u00d7 24 pixels, which decoder.pth makes of 12 \u00d7 12 latents of 4 channels, 4 blocks, 3 classes.',
    );
    expect(await text('#status')).toMatch(/^Drawn in 1 step, 4 blocks each. Note: the samples' deviation is /);
    const sides = "[...document.querySelectorAll('#pictures canvas')].map((e) => e.width + ' ' + e.height)";
    expect(await page.evaluate(sides)).toEqual(['24 24', '24 24', '24 24']);
    for (const different of await greys('#pictures canvas')) expect(different).toBeGreaterThan(20);
    const [all, , , decoding] = (await costs()).map(
      (said) => Number.parseFloat(said) * (/ m?s$/.exec(said)?.[0] === ' s' ? 1000 : 1),
    );
    expect(decoding).toBeGreaterThan(0);
    expect(decoding).toBeLessThan(all!);
    expect(await text('#costs div:nth-child(4) .full')).toMatch(/^a decoder of [\d.]+ kB \(f32\)$/);
    const drawing = (nth: number) => page.evaluate(`document.querySelectorAll('#pictures canvas')[${nth}].toDataURL()`);
    const [drawn, third] = [await drawing(0), await drawing(2)];

    await page.evaluate("location.hash = 'T=1&L=4&tab=look'");
    await page.until("document.getElementById('look').dataset.state === 'seen'");
    expect(await text('#look-status')).toBe('class 2, step 1 of 1, on its way with 4 blocks.');
    const seen = "[...document.querySelectorAll('#look-pictures figure > canvas:first-child')].map((e) => e.width)";
    expect(await page.evaluate(seen)).toEqual([24, 24, 24]);
    for (const different of await greys('#look-pictures figure > canvas:first-child, #look-canvas')) {
      expect(different).toBeGreaterThan(20);
    }
    // One step by all blocks leads to what Sample drew.
    expect(await page.evaluate("document.getElementById('look-canvas').toDataURL()")).toBe(third);
    await page.evaluate("document.getElementById('look').dataset.state = 'left'");
    // Both at once, in any order, in a tab that is left while they are read; and the map of what is decoded.
    const files = { 'decoder.pth': await torchOf(decoder), 'both.safetensors': await latentModelFile() };
    await giveAll(files, "location.hash = 'T=1&L=4'");
    await page.until(`document.getElementById('model-text').textContent.startsWith('both') && ${DRAWN}`);
    expect(await drawing(0)).toBe(drawn);
    await page.evaluate("document.getElementById('map-button').click()");
    await page.until("[...document.querySelectorAll('#map button')].some((e) => !e.disabled)");
    await page.evaluate("document.getElementById('map-button').click()");
    expect(await page.evaluate("document.querySelector('#map canvas').width")).toBe(24);
    expect((await greys('#map canvas'))[0]).toBeGreaterThan(20);
    expect(page.errors).toEqual([]);
  });

  it('fits narrow and wide screens, light and dark', async () => {
    await page.evaluate("document.getElementById('shipped').click()");
    await page.evaluate("location.hash = 'T=8'");
    await page.until(`document.querySelector('#status').textContent === 'Drawn in 8 steps, 12 blocks each.'`);
    await page.evaluate("document.getElementById('blocks').focus()");
    await page.press('Home');
    await page.until(`location.hash.includes('L=4') && ${DRAWN}`);
    // The time is of all steps of the finest grid, the memory of what was drawn before.
    const full = await page.evaluate<string[]>("[...document.querySelectorAll('.full')].map((e) => e.textContent)");
    expect(full[0]).toMatch(/^of about [\d.]+ m?s at T 128, L 12$/);
    expect(full[1]).toMatch(/^of [\d.]+ MB at L 12$/);
    await shoot(page, 'sample');
  });

  it('looks inside: what each number of blocks expects, and what a patch attends to', async () => {
    await page.evaluate("location.hash = 'tab=look&T=4&L=8&class=7&step=2'");
    const seen = "document.getElementById('look').dataset.state === 'seen'";
    await page.until(seen);
    expect(await text('#look-status')).toBe('Sneaker, step 2 of 4, on its way with 8 blocks.');
    const names = "[...document.querySelectorAll('#look-pictures p')].map((e) => e.textContent)";
    expect(await page.evaluate(names)).toEqual(['t 0.25', 'L 4', 'L 8', 'L 12']);
    const [noisy, few, ...others] = await greys('#look-pictures canvas');
    for (const different of [noisy!, few!, ...others]) expect(different).toBeGreaterThan(20);
    expect(others.length).toBe(4);
    // What 8 blocks add to 4 is worth telling, and 12 add less to 8.
    const added =
      "[...document.querySelectorAll('#look-pictures figcaption')].map((e) => parseFloat(e.textContent.slice(2)))";
    const [, , eight, twelve] = await page.evaluate<number[]>(added);
    expect(eight).toBeGreaterThan(twelve!);
    expect(twelve).toBeGreaterThan(0);
    const patches = () =>
      page.evaluate<{ label: string; chosen: boolean }[]>(`[...document.querySelectorAll('#look-patches button')].map(
        (e) => ({ label: e.ariaLabel, chosen: e.ariaPressed === 'true' }))`);
    const shares = async () => (await patches()).map(({ label }) => Number(/: ([\d.]+)\u00a0%$/.exec(label)![1]));
    await page.evaluate("document.querySelectorAll('#look-patches button')[9].click()");
    await page.until(`location.hash.includes('patch=10') && ${seen}`);
    const before = await shares();
    expect(before.length).toBe(49);
    // Each is rounded to a tenth.
    expect(Math.abs(before.reduce((a, b) => a + b) - 100)).toBeLessThan(49 * 0.05 + 0.01);
    expect((await patches()).findIndex(({ chosen }) => chosen)).toBe(9);
    const most = before.indexOf(Math.max(...before));
    const place = most === 9 ? 'itself' : `row ${Math.floor(most / 7) + 1}, column ${(most % 7) + 1}`;
    expect(await text('#look-attention-text')).toContain(
      `in row 2, column 3 takes most from ${place}: ${before[most]!.toFixed(1)}`,
    );
    await page.evaluate("document.querySelectorAll('#look-patches button')[9].focus()");
    await page.press('ArrowRight');
    await page.until(`location.hash.includes('patch=11') && ${seen}`);
    expect(await page.evaluate('document.activeElement.ariaPressed')).toBe('true');
    expect(await shares()).not.toEqual(before);
    const set = (id: string, value: string) =>
      page.evaluate(`(() => {
        const select = document.getElementById('${id}');
        select.value = '${value}';
        select.dispatchEvent(new Event('change'));
      })()`);
    const last = await shares();
    await set('look-block', '0');
    await page.until(`location.hash.includes('block=1') && ${seen}`);
    const first = await shares();
    expect(first).not.toEqual(last);
    await set('look-head', '2');
    await page.until(`location.hash.includes('head=3') && ${seen}`);
    expect(await shares()).not.toEqual(first);
    await page.evaluate("document.getElementById('look-times-button').click()");
    await page.until("!document.getElementById('look-times-table').hidden", 120);
    const times = await page.evaluate<string[]>(
      "[...document.querySelectorAll('#look-times tr')].map((e) => e.innerText.replace(/\\s+/g, ' '))",
    );
    expect(times.some((line) => line.startsWith('attention'))).toBe(true);
    const parts = times.map((line) => Number(/([\d.]+) %/.exec(line)![1]));
    expect(Math.abs(parts.reduce((a, b) => a + b) - 100)).toBeLessThan(0.5);
    await shoot(page, 'look');
    expect(page.errors).toEqual([]);
  });

  it('measures: recordings are replayed, a kernel is timed, and the report is one document', async () => {
    await page.goto(`${url}#tab=measure&cases=a/forward/inside_blocks/&kernels=euler`);
    await page.until("document.getElementById('measure').dataset.state === 'described'");
    const done = (job: string) => `document.getElementById('measure-${job}-status').dataset.state === 'done'`;
    const trouble = "document.getElementById('measure-trouble').hidden";
    await page.evaluate(`void (${trouble} = false)`);
    await page.evaluate("document.getElementById('measure-verify').click()");
    await page.until(trouble);
    await page.until(done('verify'), 120);
    const said = await text('#measure-verify-status');
    await page.evaluate("document.getElementById('measure-bench').click()");
    await page.until(done('bench'), 240);
    expect(await text('#measure-bench-status')).toMatch(/^This GPU copies [\d.]+ GB\/s and computes [\d.]+ GFLOP\/s/);
    await page.evaluate(`(() => {
      const make = URL.createObjectURL.bind(URL);
      URL.createObjectURL = (blob) => make((window.saved = blob));
    })()`);
    await page.evaluate("document.getElementById('measure-download').click()");
    const saved = JSON.parse(await page.evaluate<string>('window.saved.text()')) as MeasureReport;
    expect(saved.adapter.name).toMatch(/./);
    expect(await text('#measure-adapter dd')).toBe(saved.adapter.name);
    const { cases, failed, results } = saved.verify!;
    expect(failed).toBe(0);
    expect(results.length).toBe(cases);
    for (const { ok, name } of results) expect([ok, name]).toEqual([true, expect.stringMatching(/^inside_blocks\//)]);
    expect(said).toBe(`${cases} cases, all within their tolerances: this GPU computes what the reference computed.`);
    expect(cases).toBe(INSIDE);
    const { kernels, subjects } = saved.bench!;
    expect(subjects[0]!.adapter.name).toBe(saved.adapter.name);
    expect(kernels.map(({ kernel, pass }) => `${kernel} ${pass}`)).toEqual(['euler forward']);
    for (const { timing, gbytes, gflops, roofline, error } of kernels) {
      for (const n of [timing.median, gbytes!, gflops!, roofline!])
        expect(n > 0 && Number.isFinite(n), `${n}`).toBe(true);
      expect(error).toBeLessThan(1e-6);
    }
    expect(await page.evaluate("document.querySelectorAll('#measure-roofline svg circle').length")).toBeGreaterThan(0);
    expect(await page.evaluate("document.querySelectorAll('#measure-bench-rows tr').length")).toBe(1);
    await shoot(page, 'measure');
    expect(page.errors).toEqual([]);
  });
});
