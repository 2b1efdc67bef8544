/** `odelt tune` and `--tuning` before an engine is there: wrong arguments, help, and what is kept. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { adapter, table } from '../support/tuning-table.ts';

let cli: Cli;
const cache = process.env.XDG_CACHE_HOME;
beforeAll(async () => {
  cli = await buildCli();
  process.env.XDG_CACHE_HOME = join(cli.folder, 'cache');
});
afterAll(() => {
  if (cache === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = cache;
  cli?.remove();
});

it.each([
  [['--batch', '0'], "--batch is '0'; it must be a list of positive integers"],
  [['--batch', '1,x'], "--batch is '1,x'; it must be a list of positive integers"],
  [['--budget', '-1'], "--budget is '-1'; it must be a number at least 0"],
  [['--preset', 'tiny', '--model', 'x'], '--model and --preset exclude each other'],
  [['--preset', 'tiny', '--autoencoder', 'x'], '--preset and --autoencoder exclude each other'],
  [['--autoencoder', 'x', '--precision', 'int8'], '--precision int8 is not for autoencoders'],
  [['--preset', 'huge'], 'there is no model preset "huge"'],
  [['--precision', 'f8'], '--precision'],
  [['--out', ''], '--out is empty'],
])('%j is a wrong argument', async (args, message) => {
  const { code, stdout, stderr } = await cli.run('tune', ...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});

it('help says what is done, and how the results are used', async () => {
  const { code, stdout } = await cli.run('tune', '--help');
  expect(code).toBe(0);
  for (const words of ['against float64', '--budget <seconds>', 'odelt sample --tuning auto', 'below 0.97']) {
    expect(stdout).toContain(words);
  }
});

it('--list shows what is kept, and what cannot be read', async () => {
  expect(await cli.run('tune', '--list')).toMatchObject({
    code: 0,
    stdout: `Nothing is kept in ${join(cli.folder, 'cache', 'odelt', 'tuning')}.\n`,
  });
  const folder = join(cli.folder, 'cache', 'odelt', 'tuning');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'a.json'), JSON.stringify(table));
  writeFileSync(join(folder, 'b.json'), '{');
  const { code, stdout } = await cli.run('tune', '--list');
  expect(code).toBe(0);
  expect(stdout).toContain(`Some GPU 9000 (some driver 1.2.3): 1 problems, in ${join(folder, 'a.json')}`);
  expect(stdout).toMatch(/\| product layout NN, vec true, n 64 \| 1 \/ 16 +\| 2\.00 \/ 10\.00 \| 1\.00 \/ 8\.00 \|/);
  expect(stdout).toContain(`${join(folder, 'b.json')} is damaged: it is no JSON`);
  const listed = JSON.parse((await cli.run('tune', '--list', '--json')).stdout);
  expect(listed).toEqual([
    { path: join(folder, 'a.json'), adapter, results: table.results },
    { path: join(folder, 'b.json'), error: expect.stringContaining('is damaged') },
  ]);
});
