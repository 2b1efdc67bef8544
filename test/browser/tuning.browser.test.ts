/** Tuning in a real browser: kept in IndexedDB, found again by createEngine, and refused where it is damaged. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { browser, visit } from '../support/browser.ts';
import { buildInto } from '../support/repository.ts';
import { table } from '../support/tuning-table.ts';

interface Told {
  readonly empty: unknown;
  readonly found: unknown;
  readonly other: unknown;
  readonly damaged: { name: string; code: string; message: string };
  readonly without: unknown;
  readonly notices: readonly string[];
  readonly choices: unknown;
  readonly refused: string;
}

describe.skipIf(!browser)(`in ${browser ?? 'a browser (none found)'}`, () => {
  it('a table is kept per adapter and used on request', { timeout: 300_000 }, async () => {
    const built = await mkdtemp(join(tmpdir(), 'odelt-built-'));
    onTestFinished(() => rm(built, { recursive: true }));
    await buildInto(join(built, 'dist'));
    const html = `<script type="module">
      import { createEngine } from '/dist/index.js';
      import { indexedDbStore } from '/dist/bench.js';
      import { tunedAdapter } from '/dist/bench.js';
      const send = (body) => fetch('/report', { method: 'POST', body: JSON.stringify(body) });
      const failing = (promise) => promise.then(() => 'nothing was thrown', ({ name, code, message }) => ({ name, code, message }));
      try {
        const table = ${JSON.stringify(table)};
        const store = indexedDbStore();
        const empty = await store.get(table.adapter);
        await store.put({ ...table, results: [] });
        await store.put(table);
        const found = await store.get(table.adapter);
        const other = await store.get({ ...table.adapter, driver: 'another' });
        await store.put({ ...table, version: 7 });
        const damaged = await failing(store.get(table.adapter));
        const plain = await createEngine();
        const without = plain.tuning ?? null;
        await store.put({ ...table, adapter: tunedAdapter(plain) });
        plain.dispose();
        const notices = [];
        const engine = await createEngine({ tuning: 'auto', onNotice: (text) => notices.push(text) });
        const { choices } = engine.tuning;
        engine.dispose();
        await store.put({ ...table, adapter: tunedAdapter(plain), results: 7 });
        const refused = (await failing(createEngine({ tuning: 'auto' }))).message;
        await send({ empty, found, other, damaged, without, notices, choices, refused });
      } catch (error) {
        await send({ failed: String(error?.stack ?? error) });
      }
    </script>`;
    const [told] = await visit<Told>({ built, path: '/tuning.html', html, reports: 1 });
    expect(told).toEqual({
      empty: null,
      found: table,
      other: null,
      damaged: {
        name: 'TuningError',
        code: 'tuning',
        message: "tuning in the browser's database 'odelt-tuning' is of version 7; this odelt reads version 1",
      },
      without: null,
      notices: [
        expect.stringMatching(
          /^tuning of product layout NN, vec true, n 64 is left out: its variant 'staged' is none of /,
        ),
      ],
      choices: [],
      refused: "tuning in the browser's database 'odelt-tuning' is damaged: results is 7, not Array",
    });
  });
});
