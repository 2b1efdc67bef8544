/** `odelt train` with all that can be watched: what it says, what it writes, and what it refuses. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
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
const train = (...args: string[]) => cli.run('train', '--out', 'run', ...TINY, ...args);

it('validates, draws samples and losses, and goes on with the same pictures held out', async () => {
  const watched = '--tensorboard --validate-every 2 --validation-pictures 16 --sample-every 2 --sample-steps 1,2'.split(
    ' ',
  );
  const first = await train('--steps', '4', '--validation', '0.1', ...watched);
  expect({ code: first.code, stderr: first.code === 0 ? '' : first.stderr }).toEqual({ code: 0, stderr: '' });
  expect(first.stderr).toContain('9000 pictures of 28x28x1');
  expect(first.stderr).toContain('validation: 1000 pictures that are not trained on');
  expect(first.stderr).toMatch(/samples: L=4 x T=1,2 every 2 updates, [\d.]+ [kM]B of GPU memory more/);
  expect(first.stderr).toMatch(/step 4\/4 .* validation \d\.\d{4}/);
  const run = join(cli.folder, 'run');
  expect(readdirSync(join(run, 'samples')).sort()).toEqual(['2.png', '4.png']);
  const svg = readFileSync(join(run, 'loss.svg'), 'utf8');
  for (const curve of ['flow', 'time', 'length', 'validation', 'validation, raw weights'])
    expect(svg).toContain(`>${curve}<`);
  expect(eventFiles(run).map((events) => events.at(-1)!.step)).toEqual([4]);
  expect(readFileSync(join(run, 'config.yaml'), 'utf8')).toMatch(/validation: ['"]?0\.1/);

  // The share is the run's: without it, or with another, the data would be others.
  const more = await cli.run(
    'train',
    '--out',
    'run',
    '--resume',
    '--steps',
    '6',
    '--tensorboard',
    '--validate-every',
    '2',
  );
  expect({ code: more.code, stderr: more.code === 0 ? '' : more.stderr }).toEqual({ code: 0, stderr: '' });
  expect(more.stderr).toContain('validation: 1000 pictures that are not trained on');
  expect(eventFiles(run).map((events) => events.map(({ step }) => step).slice(0, 3))).toEqual([
    [0, 1, 1],
    [0, 5, 5],
  ]);
  const other = await cli.run('train', '--out', 'run', '--resume', '--steps', '8', '--validation', '0.2');
  expect(other.code).toBe(2);
  expect(other.stderr).toContain('pictures: 9000, now 8000');
});

it.each([
  ['--validation 1.5', '--validation is 1.5; a share of the pictures must lie between 0 and 1'],
  ['--validation test', '--validation test has the pictures that are trained on'],
  ['--validation nowhere', 'nowhere: no such file or folder'],
  ['--sample-every 2 --sample-steps 3', '3 steps are none of them'],
  ['--sample-every 2 --sample-blocks 3', 'this model cannot run 3 of its 4 blocks'],
  ['--sample-steps 1,,2', "--sample-steps is '1,,2'; it must be positive integers separated by commas"],
  ['--log-every 0', "--log-every is '0'; it must be an integer at least 1"],
])('%s is refused before anything is trained', async (flags, message) => {
  const { code, stderr } = await cli.run('train', '--out', 'refused', ...TINY, ...flags.split(' '));
  expect(stderr).toContain(message);
  expect(code).not.toBe(0);
  expect(existsSync(join(cli.folder, 'refused'))).toBe(false);
});
