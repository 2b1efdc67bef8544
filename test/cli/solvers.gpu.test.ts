/** `odelt sample` with solvers, and in parts: what it says, what it prints and writes, and how it refuses. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readNpy } from '../../formats/npy.ts';
import { shippedModel } from '../../formats/shipped.node.ts';
import { ResidentModel } from '../../model/weights/residency.ts';
import { openModelSource } from '../../model/weights/source.node.ts';
import { Sampler } from '../../sampling/sampler.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

const ONE = ['sample', '--count', '1', '--labels', '7', '--blocks', '4', '--scale', '1', '--out', 's.png'];

it('samples with an adaptive solver, guided in an interval, and says which steps it took', async () => {
  const options = ['--solver', 'tsit5', '--tolerance', '1e-2', '--guidance-interval', '0.2,0.8', '--controller', 'pi'];
  const said = await cli.run(...ONE, ...options);
  expect(said.code, said.stderr).toBe(0);
  expect(said.stderr).toContain('1 pictures, tsit5 at 0.01, L=4');
  expect(said.stderr).toMatch(/\d+ steps accepted, \d+ rejected: \d+ evaluations/);
  const printed = await cli.run(...ONE, ...options, '--first-step', 'auto', '--max-memory', '30MB', '--json');
  expect(printed.code, printed.stderr).toBe(0);
  const result = JSON.parse(printed.stdout);
  expect(result).toMatchObject({
    ...{ solver: 'tsit5', tolerance: 0.01, controller: 'pi', firstStep: 'auto', guidanceInterval: [0.2, 0.8] },
  });
  expect(result.steps).toBeUndefined();
  // One at the start, one more for the first step's length.
  expect(result.evaluations).toBe(2 + 6 * (result.accepted + result.rejected));
});

it('runs other numbers of blocks from other times on, and says so', async () => {
  const one = ['sample', '--count', '1', '--labels', '7', '--steps', '4', '--scale', '1', '--out', 's.png'];
  const asked = ['--blocks', '4@0,12@0.5', '--load-blocks', 'along'];
  const said = await cli.run(...one, ...asked);
  expect(said.code, said.stderr).toBe(0);
  expect(said.stderr).toContain('1 pictures, T=4, L=4@0,12@0.5');
  const printed = await cli.run(...one, ...asked, '--max-memory', '30MB', '--json');
  expect(printed.code, printed.stderr).toBe(0);
  const result = JSON.parse(printed.stdout);
  const blocks = [
    { from: 0, blocks: 4 },
    { from: 0.5, blocks: 12 },
  ];
  expect(result).toMatchObject({ blocks, loadBlocks: 'along', evaluations: 4 });
  expect(printed.stderr).toContain('L=4@0,12@0.5');
  const refreshed = await cli.run(...one, '--blocks', '4', '--refresh', '12:2', '--json');
  expect(refreshed.code, refreshed.stderr).toBe(0);
  expect(refreshed.stderr).toContain('1 pictures, T=4, L=4, L=12 every 2 steps');
  expect(JSON.parse(refreshed.stdout)).toMatchObject({ blocks: 4, refresh: { blocks: 12, every: 2 }, evaluations: 4 });
});

it('tells the network another level, and draws what the library draws with it', async () => {
  const drawn = async (...options: string[]) => {
    const { code, stderr } = await cli.run(...ONE, '--guidance', '0', '--seed', '3', ...options, '--out', 's.npy');
    expect(code, stderr).toBe(0);
    return { stderr, values: readNpy(readFileSync(join(cli.folder, 's.npy')), 's.npy').values };
  };
  const engine = await testEngine();
  const { config, source, close } = await openModelSource(shippedModel());
  const sampler = new Sampler(engine, new ResidentModel(engine, config, source), { batch: 1 });
  const how = { solver: 'dopri5', tolerance: 0.1, blocks: 4, guidance: 0, seed: 3 } as const;
  const library = async (level?: number) => (await sampler.sample({ ...how, labels: [7], level })).values;
  const adaptive = ['--solver', 'dopri5', '--tolerance', '0.1'];
  const told = await drawn(...adaptive, '--level', '0');
  expect(told.stderr).toContain('1 pictures, dopri5 at 0.1, level 0, L=4');
  expect(told.values).toEqual(await library(0));
  expect((await drawn(...adaptive)).values).toEqual(await library(7));
  expect(told.values).not.toEqual(await library());
  await close();
  engine.dispose();
});

it('takes fixed steps with other solvers, and refuses what does not fit together', async () => {
  const heun = await cli.run(...ONE, '--solver', 'heun', '--steps', '2', '--json');
  expect(JSON.parse(heun.stdout)).toMatchObject({ solver: 'heun', steps: 2, evaluations: 4, accepted: 2, rejected: 0 });
  for (const [options, message] of [
    [
      ['--solver', 'rk45'],
      "--solver is 'rk45'; it must be one of euler, midpoint, heun, rk4, dopri5, tsit5, consistency",
    ],
    [['--solver', 'dopri5', '--steps', '4'], 'dopri5 chooses its own steps; 4 were asked for'],
    [['--tolerance', '0.1'], 'tolerance is for adaptive solvers; euler takes fixed steps'],
    [['--guidance-interval', '0.2'], "--guidance-interval is '0.2'; write it like 0.2,0.8"],
    [['--guidance-interval', '0.8,0.2'], 'the guidance interval is 0.8 to 0.2'],
  ] as const) {
    const { code, stderr } = await cli.run(...ONE, ...options);
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(message);
  }
  const short = await cli.run(...ONE, '--solver', 'dopri5', '--max-steps', '2');
  expect(short.code).toBe(1);
  expect(short.stderr).toContain('ConvergenceError: the solver reached t = 0.11 of 1 in 2 accepted');
  expect(short.stderr).toContain('hint: allow more steps, or use a larger tolerance');
});

it('draws in parts, whose merged sheet is that of the whole', async () => {
  const args = ['sample', '--count', '3', '--labels', '7,8', '--batch', '2', '--steps', '1', '--blocks', '4'];
  const file = (name: string) => readFileSync(join(cli.folder, name));
  expect((await cli.run(...args, '--out', 'whole.png')).code).toBe(0);
  const part = (which: string, ...more: string[]) =>
    cli.run(...args, '--out', 'parts/p.png', '--shard', which, ...more);
  const first = await part('0/2');
  expect(first.code, first.stderr).toBe(0);
  expect(first.stderr).toContain('part 0/2 of 3 pictures, T=1, L=4');
  expect(first.stderr).toContain('wrote parts/p-0-of-2.json');
  expect(first.stderr).toContain('with the other parts: odelt sample merge parts/p-*-of-2.json');
  const second = await part('1/2', '--json');
  const parts = ['parts/p-1-of-2.json', 'parts/p-0-of-2.json'];
  expect(JSON.parse(second.stdout)).toMatchObject({ out: parts[0], shard: { index: 1, of: 2 }, range: [2, 3] });
  expect(readdirSync(join(cli.folder, 'parts')).sort()).toEqual(
    ['0', '1'].flatMap((i) => ['json', 'npy', 'png'].map((end) => `p-${i}-of-2.${end}`)),
  );
  const merged = await cli.run('sample', 'merge', ...parts, '--out', 'merged.png', '--json');
  expect(merged.code, merged.stderr).toBe(0);
  expect(JSON.parse(merged.stdout)).toEqual({ out: 'merged.png', samples: 3, parts: 2 });
  expect(file('merged.png').equals(file('whole.png'))).toBe(true);
});
