/** `odelt bench gpu` on the adapter that there is: a quick run to its end, whose report holds nothing of this machine's folders. */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { ROOT } from '../support/repository.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli.remove());

it('a quick run reports every stage, and again finds all of it done', { timeout: 600_000 }, async () => {
  mkdirSync(join(cli.folder, 'results'), { recursive: true });
  const args = ['bench', 'gpu', '--quick', '--out', 'results', '--json'];
  const first = await cli.run(...args);
  expect(first.stderr).toContain('model: done after');
  const { stages, results, quick } = JSON.parse(first.stdout);
  expect(stages.map((s: { name: string; state: string }) => `${s.name} ${s.state}`)).toEqual(
    ['info', 'verify', 'check', 'kernels', 'model', 'memory'].map((name) => `${name} done`),
  );
  expect(first.code).toBe(0);
  expect(quick).toBe(true);
  expect(results.verify.failed).toBe(0);
  expect(results.check.failed).toEqual([]);
  expect(results.model.results.length).toBeGreaterThan(5);
  expect(results.memory.rows[0].measured.peak).toBe(results.memory.rows[0].peak);

  const folder = join(cli.folder, 'results', readdirSync(join(cli.folder, 'results'))[0]!);
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((f) =>
    statSync(join(folder, f)).isFile(),
  );
  expect(files).toEqual(expect.arrayContaining(['report.md', 'report.json', 'stages.json', 'info.json', 'model.json']));
  for (const file of files) {
    const text = readFileSync(join(folder, file), 'utf8');
    for (const place of [ROOT, homedir()]) expect(text.includes(`${place}/`), `${file} holds ${place}`).toBe(false);
  }
  const report = readFileSync(join(folder, 'report.md'), 'utf8');
  expect(report).toContain('## model: a whole model');
  expect(report).toContain('| evaluation, L=12');

  const again = await cli.run(...args);
  expect(again.code).toBe(0);
  expect(again.stderr).not.toContain('done after');
  expect(JSON.parse(again.stdout).stages).toEqual(stages);
});

it('a stage that there is not is refused before anything runs', async () => {
  const { code, stderr } = await cli.run('bench', 'gpu', '--only', 'info,speed', '--out', 'other');
  expect(code).toBe(2);
  expect(stderr).toContain("ConfigError: there is no stage 'speed'");
});
