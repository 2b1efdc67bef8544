/** `odelt train` under mpirun: what one process does, by several; what they refuse; what is left when one of them is killed. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { checkpointSteps } from '../../training/checkpoint.node.ts';
import type { TrainEvent } from '../../training/trainer.ts';
import { buildCli, type Cli, ended } from '../support/cli.ts';
import { hasMpirun, mpirun, rankProcess } from '../support/mpi.ts';

vi.setConfig({ testTimeout: 900_000 });

const SIZE = ['--patch', '7', '--width', '16', '--heads', '2', '--depth', '4', '--batch', '16'];
const DIVIDED = '--shard-state';
/** How often processes are killed; docs/scale.md has a table of 40, by scripts/kill-ranks.mjs. */
const KILLS = 2;

let cli: Cli;
let folder: string;
beforeAll(async () => {
  if (!hasMpirun()) return;
  folder = await mkdtemp(join(tmpdir(), 'odelt-cluster-'));
  cli = await buildCli();
  await pictures(join(folder, 'pictures'), 89);
  await pictures(join(folder, 'others'), 90);
});
afterAll(async () => {
  cli?.remove();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Thirty-two noisy pictures of 28 x 28 in MNIST's format. */
async function pictures(at: string, factor: number): Promise<void> {
  const header = (...words: number[]) =>
    Buffer.from(Uint8Array.from(words.flatMap((w) => [w >>> 24, w >>> 16, w >>> 8, w])));
  const pixels = Uint8Array.from({ length: 32 * 784 }, (_, i) => (i * factor + (i >> 5) * 31) % 256);
  await mkdir(at, { recursive: true });
  const write = (name: string, ...parts: Buffer[]) => writeFile(join(at, name), Buffer.concat(parts));
  await write('train-images-idx3-ubyte', header(0x803, 32, 28, 28), Buffer.from(pixels));
  await write('train-labels-idx1-ubyte', header(0x801, 32), Buffer.from(Array.from({ length: 32 }, (_, i) => i % 10)));
}

const command = (...args: string[]) => [process.execPath, cli.path, 'train', ...args];
const trainBy = (ranks: number, args: string[], options: Parameters<typeof mpirun>[1] = {}) =>
  mpirun([{ ranks, command: command(...args) }], options);
const fresh = (name: string) => ['--data', join(folder, 'pictures'), ...SIZE, '--out', join(folder, name)];

const lines = async (out: string) =>
  (await readFile(join(out, 'metrics.jsonl'), 'utf8').catch(() => '')).split('\n').slice(0, -1);
const events = async (out: string) =>
  (await lines(out)).map((line) => ({ ...JSON.parse(line), seconds: 0 }) as TrainEvent);
const sums = (out: string, step: number) => readFile(join(out, 'checkpoints', `step-${step}`, 'SHA256SUMS'), 'utf8');
async function tensors(out: string, step: number): Promise<Float32Array> {
  const bytes = await readFile(join(out, 'checkpoints', `step-${step}`, 'model.safetensors'));
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  return new Float32Array(Uint8Array.from(bytes.subarray(start)).buffer);
}
const reached = async (out: string, count: number) => {
  while ((await lines(out)).length < count) await new Promise((resolve) => setTimeout(resolve, 10));
};

describe.skipIf(!hasMpirun())('(skipped without mpirun: apt-get install openmpi-bin) processes under mpirun', () => {
  it('train what one trains with the same batch, with the same bits each time, the state divided or not; the first alone writes and speaks', async () => {
    const steps = ['--steps', '12', '--save-every', '6', '--validation', '0.5', '--validate-every', '6'];
    const one = await ended(process.execPath, [cli.path, 'train', ...fresh('one'), ...steps]);
    expect(one.code, one.stderr).toBe(0);
    const alone = await events(join(folder, 'one'));
    const weights = await tensors(join(folder, 'one'), 12);
    for (const name of ['two', 'divided']) {
      const { code, output } = await trainBy(2, [
        ...fresh(name),
        ...steps,
        ...(name === 'two' ? [] : [DIVIDED, '--resume', 'auto']),
      ]);
      expect(code, output).toBe(0);
      const told = output.match(/^optimizer's state: (\d+) kB of (\d+) kB on each of 2 processes/m);
      if (name === 'two') expect(told).toBe(null);
      // The average is whole: targets come from it.
      else expect(Number(told?.[1]) / Number(told?.[2])).toBeCloseTo(2 / 3, 1);
      expect(output).toMatch(/^2 processes: .* on each$/m);
      expect(output.match(/^done: /gm)).toHaveLength(1);
      const together = await events(join(folder, name));
      expect(together).toHaveLength(12);
      together.forEach(({ losses }, i) => {
        expect(Math.abs(losses.loss / alone[i]!.losses.loss - 1)).toBeLessThan(1e-6);
      });
      const [heldOut, byOne] = [together, alone].map((all) => all.flatMap(({ validation }) => validation ?? []));
      expect(heldOut).toHaveLength(2);
      heldOut!.forEach(({ raw, average }, i) => {
        expect(Math.abs(raw.loss / byOne![i]!.raw.loss - 1)).toBeLessThan(1e-6);
        expect(Math.abs(average.loss / byOne![i]!.average.loss - 1)).toBeLessThan(1e-6);
      });
      const theirs = await tensors(join(folder, name), 12);
      const squares = (values: Float32Array) => values.reduce((sum, x) => sum + x * x, 0);
      const difference = squares(theirs.map((x, i) => x - weights[i]!));
      expect(Math.sqrt(difference / squares(weights))).toBeLessThan(1e-6);
    }
    expect(await events(join(folder, 'divided'))).toEqual(await events(join(folder, 'two')));
    expect(await sums(join(folder, 'divided'), 12)).toBe(await sums(join(folder, 'two'), 12));
  });

  it('go on from the checkpoint of another number of processes', async () => {
    const out = join(folder, 'divided');
    const { code, output } = await trainBy(4, ['--resume', 'auto', '--out', out, '--steps', '14', '--warmup', '1']);
    expect(code, output).toBe(0);
    expect(await lines(out)).toHaveLength(14);
    const one = await ended(process.execPath, [
      ...[cli.path, 'train', '--resume', '--out', join(folder, 'one'), '--steps', '14', '--warmup', '1'],
    ]);
    expect(one.code, one.stderr).toBe(0);
    const [a, b] = [await events(out), await events(join(folder, 'one'))];
    a.forEach(({ losses }, i) => {
      expect(Math.abs(losses.loss / b[i]!.losses.loss - 1)).toBeLessThan(1e-6);
    });
  });

  it('refuse other data, other options and a batch that is too small before the first step, naming what differs', async () => {
    const out = join(folder, 'refused');
    const of = (data: string, ...more: string[]) =>
      command('--data', join(folder, data), ...SIZE, '--out', out, ...more);
    const refused = async (first: string[], second: string[], ...texts: string[]) => {
      const { code, output } = await mpirun([
        { ranks: 1, command: first },
        { ranks: 1, command: second },
      ]);
      expect(code, output).toBe(2);
      expect(output).toContain('ConfigError: ');
      for (const text of texts) expect(output).toContain(text);
      expect(await checkpointSteps(join(out, 'checkpoints'))).toEqual([]);
    };
    await refused(of('pictures'), of('others'), 'the processes of this run do not agree: data.pixels is "');
    await refused(
      of('pictures', '--lr', '1e-3'),
      of('pictures', '--lr', '2e-3'),
      '--lr is 0.002 on rank 1, 0.001 on rank 0',
    );
    await refused(
      of('pictures', '--validation', '0.5', '--validate-every', '2'),
      of('pictures', '--validation', '0.5', '--validate-every', '3'),
      'validation.every is 3 on rank 1, 2 on rank 0',
    );
    const few = ['--batch', '8', '--length-every', '0'];
    const { code, output } = await trainBy(9, [...fresh('refused'), ...few]);
    expect(output).toContain('--batch is 8; 9 processes share it, and 7 at most can');
    expect(code).toBe(2);
  });

  it(`leave a whole checkpoint when one of them is killed, which all others name, and go on from there bit for bit (${KILLS} times)`, async () => {
    const steps = 12 * (KILLS + 1);
    const settings = ['--steps', String(steps), '--save-every', '3'];
    const whole = await trainBy(2, [...fresh('whole'), ...settings]);
    expect(whole.code, whole.output).toBe(0);
    const out = join(folder, 'killed');
    for (let kill = 0; kill < KILLS; kill++) {
      const before = (await lines(out)).length;
      const victim = kill % 2 === 0 ? 1 : 0;
      // mpirun ends the others itself, a second later, unless it is told to leave that to them.
      const flags = kill % 4 < 2 ? ['--enable-recovery'] : [];
      const args =
        kill === 0 ? [...fresh('killed'), ...settings, DIVIDED] : ['--resume', '--out', out, '--save-every', '3'];
      const { code, output, after } = await trainBy(2, args, {
        flags,
        during: async (launcher) => {
          await reached(out, before + 6);
          await new Promise((resolve) => setTimeout(resolve, (kill * 7) % 50));
          process.kill(rankProcess(launcher, victim), 'SIGKILL');
        },
      });
      // With recovery mpirun itself ends well.
      if (flags.length === 0) expect(code, output).not.toBe(0);
      expect(output).toContain(`ClusterError: rank ${victim} is gone: its process has ended`);
      expect(after).toBeLessThan(30_000);
      const saved = await checkpointSteps(join(out, 'checkpoints'));
      expect(saved.length).toBeGreaterThan(0);
    }
    const last = await trainBy(2, ['--resume', '--out', out, '--save-every', '3']);
    expect(last.code, last.output).toBe(0);
    expect(await events(out)).toEqual(await events(join(folder, 'whole')));
    expect(await sums(out, steps)).toBe(await sums(join(folder, 'whole'), steps));
  });

  it('stop after the same update when one is asked to, and save it', async () => {
    const out = join(folder, 'stopped');
    const { output } = await trainBy(2, [...fresh('stopped'), '--steps', '100000', '--warmup', '1', DIVIDED], {
      flags: ['--enable-recovery'],
      during: async (launcher) => {
        await reached(out, 2);
        process.kill(rankProcess(launcher, 1), 'SIGINT');
      },
    });
    const done = (await lines(out)).length;
    expect(output).toContain(`training was interrupted after ${done} steps`);
    expect(output).not.toContain('ClusterError');
    expect(await checkpointSteps(join(out, 'checkpoints'))).toEqual([done]);
  });

  it('stop after the same update when the first is asked to while it draws samples', async () => {
    const out = join(folder, 'drawing');
    const samples = ['--sample-every', '2', '--sample-count', '16', '--sample-steps', '16,64', '--sample-blocks', '4'];
    const { output } = await trainBy(2, [...fresh('drawing'), '--steps', '100000', '--warmup', '1', ...samples], {
      flags: ['--enable-recovery'],
      during: async (launcher) => {
        await reached(out, 2);
        process.kill(rankProcess(launcher, 0), 'SIGINT');
      },
    });
    // The update that the other process was in is the last.
    expect(output).toContain('training was interrupted after 3 steps');
    expect(output).not.toContain('ClusterError');
    expect(existsSync(join(out, 'samples', '2.png'))).toBe(false);
    expect(await checkpointSteps(join(out, 'checkpoints'))).toEqual([3]);
  });
});
