/** The lock of a run folder, taken by processes of their own: one of several starters has it, and it dies with its process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import { lockFolder } from '../../training/lock.node.ts';
import { bundle } from '../support/child.ts';

let base: string;
let script: string;
let folder: string;
let n = 0;
const children: ChildProcess[] = [];

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'odelt-lock-'));
  script = join(base, 'lock.mjs');
  // Waits for a line, so that several start at the same moment; says what came of it; holds the lock until it is ended.
  await bundle(
    `
        import { lockFolder } from './training/lock.node.ts';
        process.stdin.once('data', async () => {
          const said = await lockFolder(process.argv[2]).then(() => 'locked', (e) => e.name + ': ' + e.message);
          process.stdout.write(said + '\\n');
        });
        process.stdout.write('ready\\n');
      `,
    script,
  );
});
beforeEach(async () => {
  folder = join(base, String(n++));
  await mkdir(folder);
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(base, { recursive: true, force: true }));

interface Starter {
  readonly pid: number;
  go(): Promise<string>;
  kill(): Promise<void>;
}
async function starter(): Promise<Starter> {
  const child = spawn(process.execPath, [script, folder], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const lines: string[] = [];
  let wake = () => {};
  child.stdout.on('data', (text: Buffer) => {
    lines.push(...text.toString().trim().split('\n'));
    wake();
  });
  const next = async () => {
    while (lines.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return lines.shift()!;
  };
  expect(await next()).toBe('ready');
  return {
    pid: child.pid!,
    go() {
      child.stdin.write('go\n');
      return next();
    },
    kill: () =>
      new Promise((resolve) => {
        child.once('exit', () => resolve());
        child.kill('SIGKILL');
      }),
  };
}

describe('the lock of a run folder', () => {
  it('is had by one of several that start at once, the others name it; killed, it is free for one again', async () => {
    for (let round = 0; round < 3; round++) {
      const starters = await Promise.all(Array.from({ length: 6 }, starter));
      const said = await Promise.all(starters.map((s) => s.go()));
      expect(said.filter((text) => text === 'locked')).toHaveLength(1);
      const owner = starters[said.indexOf('locked')]!;
      const refusal = `ConfigError: process ${owner.pid} is writing into ${folder}`;
      expect(said.filter((text) => text === refusal)).toHaveLength(5);
      expect((await readdir(folder)).sort()).toEqual(['lock']);
      // All of them die as by kill -9; the next round finds what the owner left.
      await Promise.all(starters.map((s) => s.kill()));
      expect(await readdir(join(folder, 'lock'))).toHaveLength(1);
    }
    await (await lockFolder(folder))();
    expect(await readdir(folder)).toEqual([]);
  });

  it('is refused within one process too, until it is given back', async () => {
    const unlock = await lockFolder(folder);
    const error = (await lockFolder(folder).catch((e: unknown) => e)) as ConfigError;
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe(`process ${process.pid} is writing into ${folder}`);
    expect(error.hint).toMatch(/choose another --out/);
    await unlock();
    await unlock();
    await (await lockFolder(folder))();
  });

  it.runIf(existsSync('/proc/self/stat'))('of another process that now has the pid of its owner is free', async () => {
    await mkdir(join(folder, 'lock'));
    await writeFile(join(folder, 'lock', `pid-${process.pid}-start-1-00`), '');
    await (await lockFolder(folder))();
  });

  it('what starters left that were killed before they had it is removed', async () => {
    const { pid, kill } = await starter();
    await kill();
    await mkdir(join(folder, `lock.${pid}.00.tmp`));
    await mkdir(join(folder, `lock.${process.pid}.00.tmp`));
    await (await lockFolder(folder))();
    expect(await readdir(folder)).toEqual([`lock.${process.pid}.00.tmp`]);
  });

  it('a file or foreign things in its place are a typed error, and stay', async () => {
    await writeFile(join(folder, 'lock'), 'mine');
    const file = (await lockFolder(folder).catch((e: unknown) => e)) as CheckpointError;
    expect(file).toBeInstanceOf(CheckpointError);
    expect(file.message).toBe(`${join(folder, 'lock')} could not be written`);
    await rm(join(folder, 'lock'));
    await mkdir(join(folder, 'lock'));
    await writeFile(join(folder, 'lock', 'key.txt'), 'mine');
    const foreign = (await lockFolder(folder).catch((e: unknown) => e)) as CheckpointError;
    expect(foreign.cause).toMatchObject({ message: `${join(folder, 'lock', 'key.txt')} is no owner of a lock` });
    expect(await readdir(folder)).toEqual(['lock']);
  });
});
