/** `odelt tune` on an adapter: what it keeps and where, that it goes on from there, and that other commands use it. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { Engine } from '../../engine/engine.ts';
import { families } from '../../kernels/families.ts';
import { preset } from '../../model/config.ts';
import { subjectOf } from '../../tuning/problem.ts';
import { problemsOf } from '../../tuning/problems.ts';
import { writeTable } from '../../tuning/store.node.ts';
import { parseTable, tableOf, tunedAdapter } from '../../tuning/table.ts';
import { tune } from '../../tuning/tune.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 120_000 });

let cli: Cli;
let engine: Engine;
let cache: string;
const before = { ...process.env };
beforeAll(async () => {
  cli = await buildCli();
  engine = await testEngine();
  // Mesa's own cache stays where it is: kernels take seconds to compile without it.
  process.env.MESA_SHADER_CACHE_DIR ??= process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
});
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'odelt-cache-'));
  process.env.XDG_CACHE_HOME = cache;
  return () => rmSync(cache, { recursive: true });
});
afterAll(() => {
  for (const name of ['XDG_CACHE_HOME', 'MESA_SHADER_CACHE_DIR']) {
    if (before[name] === undefined) delete process.env[name];
    else process.env[name] = before[name];
  }
  engine?.dispose();
  cli?.remove();
});

const folder = () => join(cache, 'odelt', 'tuning');
/** One problem of the tiny preset. */
const ONE = ['tune', '--preset', 'tiny', '--only', 'rows one, n 384, k 64', '--batch', '1'];

it('keeps what it finds, and does not measure it again; a damaged file is refused, and replaced on request', async () => {
  const first = await cli.run(...ONE, '--out', 't.json', '--json');
  expect(first.code, first.stderr).toBe(0);
  const report = JSON.parse(first.stdout);
  expect(report).toMatchObject({ adapter: tunedAdapter(engine), known: [], left: [], uncovered: [] });
  expect(report.results.map(({ rejected }: { rejected: unknown[] }) => rejected)).toEqual([[]]);
  const [file] = readdirSync(folder());
  const kept = readFileSync(join(folder(), file!), 'utf8');
  expect(report.file).toBe(join(folder(), file!));
  expect(readFileSync(join(cli.folder, 't.json'), 'utf8')).toBe(kept);
  expect(parseTable(JSON.parse(kept), 'x')).toEqual(tableOf(report.adapter, report.results));

  const second = await cli.run(...ONE);
  expect(second.stdout).toBe('0 problems tuned, another variant is faster for 0; 1 known from before.\n');
  expect(readFileSync(join(folder(), file!), 'utf8')).toBe(kept);

  writeFileSync(join(folder(), file!), kept.slice(0, 100));
  const damaged = await cli.run(...ONE);
  expect(damaged.code).toBe(1);
  expect(damaged.stderr).toContain(`TuningError: ${join(folder(), file!)} is damaged: it is no JSON`);
  const auto = await cli.run('sample', '--tuning', 'auto', '--steps', '1', '--blocks', '4', '--count', '1');
  expect(auto).toMatchObject({ code: 1, stderr: expect.stringContaining('TuningError: ') });
  const again = await cli.run(...ONE, '--again');
  expect(again.code, again.stderr).toBe(0);
  expect(again.stdout).toContain('1 problem tuned');
  expect(parseTable(JSON.parse(readFileSync(join(folder(), file!), 'utf8')), 'x').results).toHaveLength(1);
});

it('a variant that was being tried when the process was lost is reported and not tried again', async () => {
  const first = await cli.run(...ONE, '--json');
  const { adapter, file, results } = JSON.parse(first.stdout);
  const [{ family, shape, reviewed, candidates }] = results;
  const suspect = candidates.find((id: string) => id !== reviewed);
  // As a run leaves it that does not come back.
  await writeTable(file, tableOf(adapter, [], [{ family, shape, variant: suspect }]));
  const second = await cli.run(...ONE);
  expect(second.stdout).toContain(`${suspect} is not used: the device or the process was lost while it was tried`);
  const kept = parseTable(JSON.parse(readFileSync(file, 'utf8')), 'x');
  expect(kept.suspects).toEqual([]);
  expect(kept.results[0]!.rejected.map(({ variant }) => variant)).toEqual([suspect]);
});

it('Ctrl-C ends it with 130', async () => {
  const { code, stderr } = await cli.watch(['tune', '--preset', 'tiny'], {
    onStderr: (text, kill) => text.includes(': check') && kill('SIGINT'),
  });
  expect(code).toBe(130);
  expect(stderr).toMatch(/InterruptedError: tuning was interrupted after \d+ of \d+ problems/);
});

it('what nothing matches is a wrong argument', async () => {
  const { code, stderr } = await cli.run('tune', '--only', 'no such problem');
  expect(code).toBe(2);
  expect(stderr).toMatch(/no problem of this model contains 'no such problem'\n.*families: .*product/);
});

it('a run is trained, and goes on, with the tuning that it began with', async () => {
  const size = { patch: 7, width: 16, heads: 2, depth: 4 };
  const problems = await problemsOf(engine, preset('tiny', size), { sampling: false });
  const problem = problems.find((p) => subjectOf(engine, families, p).candidates.length > 1)!;
  // By this clock whatever is not the reviewed variant is faster.
  const { reviewed } = subjectOf(engine, families, problem);
  const { results } = await tune(engine, [problem], {
    batches: [1],
    time: async (entrants, rounds) =>
      entrants.map(({ id }) => [Array.from({ length: rounds }, () => (id === reviewed.id ? 3 : 2))]),
  });
  expect(results[0]!.variant).not.toBe(reviewed.id);
  const file = join(cli.folder, 'tuned.json');
  await writeTable(file, tableOf(tunedAdapter(engine), results));

  const flags = Object.entries(size).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const out = join(cli.folder, 'run');
  const train = (...args: string[]) => cli.run('train', '--out', out, ...args);
  const begun = await train(...flags, '--batch', '8', '--steps', '1', '--tuning', file);
  expect(begun.code, begun.stderr).toBe(0);
  expect(begun.stderr).toContain('tuning: 1 choices\n');
  const config = () => JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
  const choice = { family: problem.family, shape: problem.shape, variant: results[0]!.variant };
  expect(config().tuning).toEqual([choice]);

  const goneOn = await train('--resume', '--steps', '2');
  expect(goneOn.code, goneOn.stderr).toBe(0);
  expect(goneOn.stderr).toContain('tuning: 1 choices, as the run began');
  expect(config().tuning).toEqual([choice]);

  // As on an adapter, or with a version, that has no such variant.
  const elsewhere = { ...config(), tuning: [{ ...choice, variant: 'warp' }] };
  writeFileSync(join(out, 'config.json'), JSON.stringify(elsewhere));
  const refused = await train('--resume', '--steps', '3');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain("TuningError: the run has the variant 'warp' for ");
  expect(refused.stderr).toContain('--tuning off');

  const off = await train('--resume', '--steps', '3', '--tuning', 'off');
  expect(off.code, off.stderr).toBe(0);
  expect(config().tuning).toBeUndefined();
  expect(config().history.at(-1).changed).toMatchObject({ 'engine.tuning': { from: elsewhere.tuning } });
});
