/** `odelt train` with all that can be watched: what it says and writes, how it goes on, and that it refuses before it has trained. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildCli, type Cli } from '../support/cli.ts';
import { eventFiles } from '../support/events.ts';

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());

const TINY = '--batch 8 --width 16 --heads 2 --depth 4 --patch 7 --warmup 1'.split(' ');
const train = (out: string, flags: string) => cli.run('train', '--out', out, ...flags.split(' '));

it('validates, draws samples and losses, and goes on with the same pictures held out', async () => {
  const watched = '--tensorboard --validate-every 1 --validation-pictures 16 --sample-every 1 --sample-steps 1,2';
  const first = await train('run', `${TINY.join(' ')} --steps 2 --validation 0.1 --sample-count 1 ${watched}`);
  expect(first.code, first.stderr).toBe(0);
  expect(first.stderr).toContain('9000 pictures of 28x28x1');
  expect(first.stderr).toContain('validation: 1000 pictures that are not trained on');
  expect(first.stderr).toMatch(/samples: L=4 x T=1,2 every 1 updates, [\d.]+ [kM]B of GPU memory more/);
  expect(first.stderr).toMatch(/step 2\/2 .* validation \d\.\d{4}/);
  const run = join(cli.folder, 'run');
  const validated = () =>
    readFileSync(join(run, 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).validation?.pictures);
  expect(validated()).toEqual([16, 16]);
  expect(readdirSync(join(run, 'samples')).sort()).toEqual(['1.png', '2.png']);
  const svg = readFileSync(join(run, 'loss.svg'), 'utf8');
  for (const curve of ['flow', 'time', 'length', 'validation', 'validation, raw weights'])
    expect(svg).toContain(`>${curve}<`);
  expect(eventFiles(run).map((events) => events.at(-1)!.step)).toEqual([2]);
  expect(readFileSync(join(run, 'config.yaml'), 'utf8')).toMatch(/validation: ['"]?0\.1/);

  // The share is the run's: without it, or with another, the data would be others.
  const more = await train('run', '--resume --steps 3 --tensorboard --validation-pictures 8');
  expect(more.code, more.stderr).toBe(0);
  expect(more.stderr).toContain('validation: 1000 pictures that are not trained on');
  expect(validated()).toEqual([16, 16, 8]);
  const steps = eventFiles(run).map((events) => events.map(({ step }) => step));
  // Version, start, updates.
  expect(steps.map((of) => of.slice(0, 3))).toEqual([
    [0, 1, 1],
    [0, 3, 3],
  ]);
  const other = await train('run', '--resume --steps 8 --validation 0.2');
  expect(other.code).toBe(2);
  expect(other.stderr).toContain('pictures: 9000, now 8000');
});

it('samples that the model cannot draw are refused before anything is trained, and a refused run leaves the plot of another alone', async () => {
  const refused = await train('refused', `${TINY.join(' ')} --sample-every 2 --sample-blocks 3`);
  expect(refused.stderr).toContain('this model cannot run 3 of its 4 blocks');
  expect(refused.code).toBe(2);
  expect(existsSync(join(cli.folder, 'refused'))).toBe(false);
  rmSync(join(cli.folder, 'run', 'loss.svg'));
  const over = await train('run', TINY.join(' '));
  expect(over.stderr).toContain('run already holds a run');
  expect(existsSync(join(cli.folder, 'run', 'loss.svg'))).toBe(false);
});
