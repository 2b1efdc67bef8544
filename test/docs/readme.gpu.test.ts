/**
 * README.md as a stranger follows it: every command and every block of code, taken from the page and run as written (but for options
 * after some, which then end sooner), in an empty folder that has the package installed and nothing else. (The two commands that set up a clone are run from the page by .ci/run.)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandsOf, fencedBlocks } from '../support/fenced.ts';
import { FIXTURES } from '../support/golden.ts';
import { buildInto, ROOT, textOf } from '../support/repository.ts';

const blocks = fencedBlocks(textOf('README.md'));
const shell = blocks.filter(({ language }) => language === 'sh').flatMap(commandsOf);
const setUp = shell.filter((command) => command.startsWith('npm ci'));
const commands = shell.filter((command) => command.startsWith('odelt '));

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-readme-'));
  await buildInto(join(ROOT, 'dist'));
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
  symlinkSync(ROOT, join(folder, 'node_modules/odelt'));
  symlinkSync(join(ROOT, 'dist/cli.js'), join(folder, 'node_modules/.bin/odelt'));
  await myPictures();
  // What the page calls checkpoint.pkl: one of the reference.
  copyFileSync(join(FIXTURES, 'checkpoints/checkpoint_jax_arrays.pkl'), join(folder, 'checkpoint.pkl'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the page calls my-pictures/: colour pictures of several sizes, a folder per class. */
async function myPictures(): Promise<void> {
  for (const [name, hue] of [
    ['sunrise', 20],
    ['sea', 200],
  ] as const) {
    mkdirSync(join(folder, 'my-pictures', name), { recursive: true });
    for (let i = 0; i < 12; i++) {
      const background = { r: hue, g: 10 * i, b: 255 - hue };
      const picture = sharp({ create: { width: 40 + i, height: 50 - i, channels: 3, background } });
      await picture.png().toFile(join(folder, 'my-pictures', name, `${i}.png`));
    }
  }
}

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a line as a shell would; presses Ctrl-C once when stderr matches `until`. */
function run(line: string, until?: RegExp): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: `${join(folder, 'node_modules/.bin')}:${process.env.PATH}` };
    // exec: the signal is for the program, not for the shell around it.
    const child: ChildProcess = spawn('bash', ['-c', `exec ${line}`], { cwd: folder, env });
    const said = { stdout: '', stderr: '' };
    let pressed = false;
    child.stdout!.on('data', (text) => {
      said.stdout += text;
    });
    child.stderr!.on('data', (text) => {
      said.stderr += text;
      if (until && !pressed && until.test(said.stderr)) pressed = child.kill('SIGINT');
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...said }));
  });
}

/** Training goes on for hours; its first update proves the command. It then saves and ends as Ctrl-C does. */
const isTraining = (command: string) => command.startsWith('odelt train');

/** Options that are put after a command that measures, checks or draws much: fewer rounds, sizes, cases and pictures. */
const BRIEF: Readonly<Record<string, string>> = {
  'odelt sample --steps 16': '--count 2',
  'odelt sample --max-memory': '--count 2',
  'odelt verify': '--only a/forward',
  'odelt eval': '--steps 1 --blocks 4,12',
  'odelt tune': '--budget 5',
  'odelt bench kernels': '--filter linearInt8 --shapes small --rounds 3',
  'odelt bench model': '--batch 1 --train-batch 8 --pairs 1x4 --rounds 3 --no-first',
};

/** The line to run for a command of the page. */
function lineFor(command: string): string {
  const [, brief] = Object.entries(BRIEF).find(([start]) => command.startsWith(start)) ?? [];
  return brief ? `${command} ${brief}` : command;
}

describe('the commands', () => {
  it('are all known to this test', () => {
    expect([...setUp, ...commands]).toEqual(shell.filter((line) => !line.startsWith('npm run build')));
    expect(setUp.length).toBe(2);
    expect(commands.length).toBeGreaterThan(6);
    for (const start of Object.keys(BRIEF)) expect(commands.filter((c) => c.startsWith(start))).toHaveLength(1);
  });

  for (const command of commands) {
    it(command, { timeout: 600_000 }, async () => {
      const { status, stdout, stderr } = await run(lineFor(command), isTraining(command) ? /^step \d+\//m : undefined);
      expect(stderr).not.toMatch(/internal error|\n\s+at /);
      expect(status, stderr.slice(-2000)).toBe(isTraining(command) ? 130 : 0);
      expect(stdout + stderr).not.toBe('');
      if (isTraining(command)) expect(stderr).toMatch(/saved .*step-\d+/);
    });
  }

  it('leave the pictures and runs that they speak of', () => {
    expect(readdirSync(join(folder, 'runs')).sort()).toEqual(['mine', 'train']);
    expect(existsSync(join(folder, 'runs/mine/checkpoints'))).toBe(true);
  });

  it('that set up a clone are those that .ci/run takes from the page', () => {
    expect(setUp).toEqual(['npm ci && npm run demo', 'npm ci && npm test']);
    expect(textOf('.ci/run')).toContain('readme_command');
  });
});

describe('the code for Node', () => {
  it('runs as it is', { timeout: 300_000 }, async () => {
    const [block] = blocks.filter(({ language, heading }) => language === 'js' && heading === 'In Node');
    writeFileSync(join(folder, 'sample.mjs'), block!.code);
    const { status, stderr } = await run(`node sample.mjs`);
    expect(status, stderr).toBe(0);
    const { width, height } = await sharp(join(folder, 'garments.png')).metadata();
    expect([width, height]).toEqual([10 * 86 - 2, 84]);
    const { channels } = await sharp(join(folder, 'garments.png')).stats();
    expect(channels[0]!.stdev).toBeGreaterThan(30); // garments, not an empty sheet
  });
});
