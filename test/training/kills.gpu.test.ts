/** `odelt train` in processes that are interrupted, killed, started twice, and traced: what a run folder holds whatever happens to its process. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { checkpointSteps } from '../../training/checkpoint.node.ts';
import { buildCli, type Cli } from '../support/cli.ts';

// CPU drivers take minutes to compile shaders that they have not seen before.
vi.setConfig({ testTimeout: 900_000 });

let cli: Cli;
let folder: string;
let data: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'odelt-kills-'));
  cli = await buildCli();
  data = join(folder, 'pictures');
  await pictures(data);
});
afterAll(async () => {
  cli.remove();
  await rm(folder, { recursive: true, force: true });
});

/** Sixteen noisy pictures of 28 x 28 in MNIST's format. */
async function pictures(at: string): Promise<void> {
  const header = (...words: number[]) =>
    Buffer.from(Uint8Array.from(words.flatMap((w) => [w >>> 24, w >>> 16, w >>> 8, w])));
  const pixels = Uint8Array.from({ length: 16 * 784 }, (_, i) => (i * 89 + (i >> 5) * 31) % 256);
  await mkdir(at, { recursive: true });
  const write = (name: string, ...parts: Buffer[]) => writeFile(join(at, name), Buffer.concat(parts));
  await write('train-images-idx3-ubyte', header(0x803, 16, 28, 28), Buffer.from(pixels));
  await write('train-labels-idx1-ubyte', header(0x801, 16), Buffer.from(Array.from({ length: 16 }, (_, i) => i % 10)));
}

const SIZE = ['--patch', '7', '--width', '16', '--heads', '2', '--depth', '4', '--batch', '8'];

function start(args: string[], program = [process.execPath, cli.path]) {
  const [command, ...before] = program as [string, ...string[]];
  const child = spawn(command, [...before, 'train', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (output += text.toString()));
  const done = new Promise<{ code: number | null; output: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, output })),
  );
  return { child, done };
}
const lines = async (out: string) =>
  (await readFile(join(out, 'metrics.jsonl'), 'utf8').catch(() => '')).split('\n').length - 1;
async function reached(out: string, count: number, child: { exitCode: number | null }): Promise<void> {
  while ((await lines(out)) < count && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5));
}
/** What must be the same however often the process was killed: the sums of the last checkpoint, and the losses. */
async function result(out: string, step: number) {
  const text = await readFile(join(out, 'metrics.jsonl'), 'utf8');
  const events = text
    .trimEnd()
    .split('\n')
    .map((line) => ({ ...JSON.parse(line), seconds: 0 }) as unknown);
  return { sums: await readFile(join(out, 'checkpoints', `step-${step}`, 'SHA256SUMS'), 'utf8'), events };
}

it('interrupted exits with 130 after saving; resumed goes on from there', async () => {
  const out = join(folder, 'interrupted');
  const { child, done } = start(['--data', data, '--out', out, ...SIZE, '--steps', '100000']);
  await reached(out, 2, child);
  child.kill('SIGINT');
  const stopped = await done;
  expect(stopped.output).toMatch(/stopping after this step/);
  expect(stopped.output).toMatch(/training was interrupted after \d+ steps/);
  expect(stopped.code).toBe(130);
  const at = await lines(out);
  expect(await checkpointSteps(join(out, 'checkpoints'))).toEqual([at]);
  const resumed = await start(['--out', out, '--resume', '--steps', String(at + 2), '--warmup', '1', '--json']).done;
  expect(resumed.code, resumed.output).toBe(0);
  expect(await lines(out)).toBe(at + 2);
  expect(await checkpointSteps(join(out, 'checkpoints'))).toEqual([at, at + 2]);
}, 600_000);

it('a wrong flag exits with 2, a missing run with 2, missing data with 1', async () => {
  expect((await start(['--batch', 'many']).done).code).toBe(2);
  expect((await start(['--resume', '--out', join(folder, 'nothing')]).done).code).toBe(2);
  expect((await start(['--data', join(folder, 'nothing'), '--out', join(folder, 'interrupted')]).done).code).toBe(1);
});

it('killed again and again, each time resumed, ends with the bits of a run that was left alone', async () => {
  const steps = 40;
  const every = ['--save-every', '3'];
  const whole = join(folder, 'whole');
  const first = ['--data', data, ...SIZE, '--steps', String(steps), ...every];
  expect((await start([...first, '--out', whole]).done).code).toBe(0);
  const out = join(folder, 'killed');
  let kills = 0;
  for (let at = 5, args = first; ; at += 9, args = ['--resume', ...every]) {
    const { child, done } = start([...args, '--out', out]);
    if (at < steps) {
      await reached(out, at, child);
      // Within updates, logging and saving: a different place each time.
      await new Promise((resolve) => setTimeout(resolve, kills * 7));
      child.kill('SIGKILL');
    }
    const { code, output } = await done;
    if (code === 0) break;
    expect(code, output).toBe(null);
    kills++;
    expect((await checkpointSteps(join(out, 'checkpoints'))).length, output).toBeGreaterThan(0);
  }
  expect(kills).toBeGreaterThanOrEqual(3);
  expect(await result(out, steps)).toEqual(await result(whole, steps));
  expect((await readdir(join(out, 'checkpoints'))).sort()).toEqual(['step-39', 'step-40']);
  expect((await readdir(out)).sort()).toEqual([
    'checkpoints',
    'config.json',
    'config.yaml',
    'env.json',
    'loss.svg',
    'metrics.jsonl',
  ]);
});

it('a second process in the same folder is refused, naming the first, and changes nothing', async () => {
  const out = join(folder, 'shared');
  const { child, done } = start(['--data', data, ...SIZE, '--steps', '100000', '--save-every', '1', '--out', out]);
  await reached(out, 2, child);
  for (const args of [['--resume'], ['--data', data, ...SIZE]]) {
    const second = await start([...args, '--out', out]).done;
    expect(second.output).toContain(`process ${child.pid} is writing into ${out}`);
    expect(second.code).toBe(2);
  }
  expect(child.exitCode).toBe(null);
  child.kill('SIGINT');
  const { code, output } = await done;
  expect(code, output).toBe(130);
  const at = await lines(out);
  expect((await checkpointSteps(join(out, 'checkpoints'))).at(-1)).toBe(at);
  expect((await start(['--resume', '--steps', String(at + 1), '--warmup', '1', '--out', out]).done).code).toBe(0);
});

it('--resume takes a step, a rate and what is the same, and refuses what the run cannot change', async () => {
  const out = join(folder, 'changed');
  expect((await start(['--data', data, ...SIZE, '--steps', '4', '--save-every', '2', '--out', out]).done).code).toBe(0);
  const refused = async (code: number, text: string, ...args: string[]) => {
    const ended = await start([...args, '--out', out]).done;
    expect(ended.output).toContain(text);
    expect(ended.code).toBe(code);
  };
  await refused(2, 'batch 8; it cannot go on with', '--resume', '--batch', '16');
  await refused(2, 'width 16; it cannot go on with', '--resume', '--width', '32');
  await refused(2, 'seed 1; it cannot go on with', '--resume', '--seed', '2');
  await refused(2, '3 steps were asked for; the run has done 4', '--resume', '--steps', '3', '--warmup', '1');
  await refused(2, "--resume is 'newest'; it must be a checkpoint, such as step-250", '--resume', 'newest');
  await refused(1, 'there is no checkpoint of step 3 in', '--resume', 'step-3');
  await refused(2, 'already holds a run', '--data', data, ...SIZE);
  const again = await start(['--resume', 'step-2', ...SIZE, '--lr', '1e-4', '--out', out]).done;
  expect(again.code, again.output).toBe(0);
  expect(again.output).toContain('step-4 is after step-2: moved to step-4.aside-1');
  const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
  expect(config.train.lr).toBe(1e-4);
  expect(config.history).toMatchObject([{ step: 2, changed: { 'training.lr': { from: 1e-3, to: 1e-4 } } }]);
  expect(await lines(out)).toBe(4);
});

const traces = () => existsSync('/proc') && spawnSync('strace', ['-f', '-e', 'trace=fsync', 'true']).status === 0;

it.skipIf(!traces())('(skipped without strace) the log is on the disk before a checkpoint has its name', async () => {
  const out = join(folder, 'traced');
  const log = join(folder, 'calls.txt');
  const strace = ['strace', '-f', '-y', '--seccomp-bpf', '-s', '4096', '-e', 'trace=fsync,rename', '-o', log];
  const args = ['--data', data, ...SIZE, '--steps', '4', '--save-every', '2', '--out', out];
  const ended = await start(args, [...strace, process.execPath, cli.path]).done;
  expect(ended.code, ended.output).toBe(0);
  const calls = (await readFile(log, 'utf8')).split('\n').flatMap((line) => {
    if (/fsync\(\d+<[^>]*\/traced\/metrics\.jsonl>/.test(line)) return ['log'];
    if (/fsync\(\d+<[^>]*\/traced\/checkpoints>/.test(line)) return ['folder'];
    const step = /rename\("[^"]*\.tmp", "[^"]*\/traced\/checkpoints\/step-(\d+)"/.exec(line)?.[1];
    return step ? [`step-${step}`] : [];
  });
  expect(calls).toEqual(['log', 'step-2', 'folder', 'log', 'step-4', 'folder']);
});
