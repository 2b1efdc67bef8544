/** `odelt plot`: what it says of a run that is short, torn, empty or not there. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeEach, expect, it, vi } from 'vitest';
import { addPlot } from '../../cli/plot.ts';
import { ConfigError } from '../../engine/errors.ts';

const scratch: string[] = [];
let run: string;
let said: string;
beforeEach(async () => {
  run = await mkdtemp(join(tmpdir(), 'odelt-plot-'));
  scratch.push(run);
  said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said += text;
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());
afterAll(async () => {
  for (const folder of scratch) await rm(folder, { recursive: true, force: true });
});

async function plot(...flags: string[]): Promise<string> {
  const program = new Command('odelt').exitOverride();
  addPlot(program.command('plot'));
  await program.parseAsync(['node', 'odelt', 'plot', run, ...flags]);
  return readFile(join(run, 'loss.svg'), 'utf8');
}
const metrics = (text: string) => writeFile(join(run, 'metrics.jsonl'), text);
const line = (step: number) => `${JSON.stringify({ step, losses: { flow: 1 / step, time: 2 / step } })}\n`;
const updates = (count: number) => Array.from({ length: count }, (_, i) => line(i + 1)).join('');
const refusal = (...flags: string[]) =>
  plot(...flags).then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error,
  ) as Promise<ConfigError>;

it('a run of fewer than 25 updates has a point for each', async () => {
  await metrics(updates(6));
  const svg = await plot();
  expect(svg.match(/<circle/g)).toHaveLength(12);
  expect(said).toBe(`wrote ${join(run, 'loss.svg')}\n`);
});

it('--mean is kept to, and refused where it is more than the run', async () => {
  await metrics(updates(6));
  expect((await plot('--mean', '3')).match(/<circle/g)).toHaveLength(4);
  const error = await refusal('--mean', '7');
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toBe('a mean over 7 updates was asked for; there are 6');
});

it('--json prints where the picture is and what it shows', async () => {
  await metrics(updates(6));
  let printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += text;
    return true;
  });
  await plot('--json', '--mean', '3');
  const x = [3, 6];
  const y = [(1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5 + 1 / 6) / 3];
  const close = (values: number[]) => values.map((value) => expect.closeTo(value, 12));
  expect(JSON.parse(printed)).toEqual({
    out: join(run, 'loss.svg'),
    updates: 6,
    mean: 3,
    series: [
      { name: 'flow', x, y: close(y) },
      { name: 'time', x, y: close(y.map((value) => 2 * value)) },
    ],
  });
  expect(said).toBe('');
});

it('a torn last line is left out, and so are lines that are no updates', async () => {
  await metrics(`${line(1)}# note\n${line(2)}{"step":3,"los`);
  expect((await plot()).match(/<circle/g)).toHaveLength(4);
  const path = join(run, 'metrics.jsonl');
  expect(said).toContain(`${path} ends within a line, which is left out\n`);
  expect(said).toContain(`${path}: left out lines that are no updates: 2\n`);
});

it.each([
  ['', 'has no updates'],
  ['{"step":1', 'has no updates'],
  ['{"step":1,"losses":{}}\n', 'has 1 updates without a loss'],
])('metrics of %j are an error', async (text, problem) => {
  await metrics(text);
  const error = await refusal();
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toBe(`${join(run, 'metrics.jsonl')} ${problem}`);
  expect(error.hint).toBe('give the folder of a training run');
});

it('a folder without metrics is an error', async () => {
  const error = await refusal();
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toBe(`${join(run, 'metrics.jsonl')} cannot be read: there is no such file`);
});
