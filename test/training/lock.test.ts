/** The lock of a run folder, taken by processes of their own: one of several starters has it, and it dies with its process. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
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

/** Whether a process can have pids of its own here, as in a container. */
const canUnshare = () => spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0;

interface Starter {
  readonly pid: number;
  go(): Promise<string>;
  kill(): Promise<void>;
}
async function starter(through: readonly string[] = []): Promise<Starter> {
  const [command, ...args] = [...through, process.execPath, script, folder];
  const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
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
      const starters = await Promise.all(Array.from({ length: 6 }, () => starter()));
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

  it.runIf(canUnshare())(
    'of a living process of another container is refused, and what to remove is named',
    async () => {
      const inside = await starter(['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']);
      expect(await inside.go()).toBe('locked');
      const [entry] = await readdir(join(folder, 'lock'));
      // In there it is the first of its processes, as here is another.
      const [, pid] = /^pid-(\d+)-/.exec(entry!)!;
      expect(Number(pid)).toBeLessThan(9);
      await mkdir(join(folder, 'lock.7-00000000.00.tmp'));
      const error = (await lockFolder(folder).catch((e: unknown) => e)) as ConfigError;
      expect(error).toBeInstanceOf(ConfigError);
      expect(error.message.replace(/\d+ s ago/, 'N s ago')).toBe(
        `process ${pid} on ${hostname()} is writing into ${folder}, or was N s ago`,
      );
      expect(error.hint).toContain(`if it is gone, remove ${join(folder, 'lock')}`);
      expect((await readdir(folder)).sort()).toEqual(['lock', 'lock.7-00000000.00.tmp']);
      // From in there, too: an owner here is nobody's of theirs.
      await inside.kill();
      await rm(join(folder, 'lock'), { recursive: true });
      const unlock = await lockFolder(folder);
      const other = await starter(['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']);
      expect((await other.go()).replace(/\d+ s ago/, 'N s ago')).toBe(
        `ConfigError: process ${process.pid} on ${hostname()} is writing into ${folder}, or was N s ago`,
      );
      await unlock();
    },
  );

  it.runIf(existsSync('/proc/self/ns/pid'))(
    'of another machine counts as alive, of this one before its restart as dead',
    async () => {
      const unlock = await lockFolder(folder);
      const [own] = await readdir(join(folder, 'lock'));
      const here = JSON.parse(await readFile(join(folder, 'lock', own!), 'utf8'));
      await unlock();
      expect(Object.keys(here)).toEqual(['host', 'boot', 'machine', 'namespace']);
      const tried = async (change: Partial<typeof here>) => {
        await mkdir(join(folder, 'lock'));
        await writeFile(join(folder, 'lock', own!), JSON.stringify({ ...here, ...change }));
        const came = await lockFolder(folder).then(
          async (free) => void (await free()),
          (e: Error) => e.message,
        );
        await rm(join(folder, 'lock'), { recursive: true, force: true });
        return came;
      };
      // The owner named there is this process, which lives.
      expect(await tried({})).toBe(`process ${process.pid} is writing into ${folder}`);
      expect(await tried({ boot: 'other', machine: 'this', host: 'node7' })).toContain(
        `process ${process.pid} on node7 is`,
      );
      if (here.machine) expect(await tried({ boot: 'other' })).toBe(undefined);
    },
  );

  it.runIf(existsSync('/proc/self/ns/pid'))(
    'of another machine shows life now and then, and counts as gone after five minutes without',
    async () => {
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
      try {
        const unlock = await lockFolder(folder);
        const [own] = await readdir(join(folder, 'lock'));
        const entry = join(folder, 'lock', own!);
        const here = JSON.parse(await readFile(entry, 'utf8'));
        const ago = async (seconds: number) => {
          const then = new Date(Date.now() - 1000 * seconds);
          await utimes(entry, then, then);
        };
        await ago(200);
        vi.advanceTimersByTime(15_000);
        await vi.waitFor(async () => expect(Date.now() - (await stat(entry)).mtimeMs).toBeLessThan(60_000));
        await writeFile(entry, JSON.stringify({ ...here, boot: 'other', machine: '', host: 'node7' }));
        await ago(290);
        await expect(lockFolder(folder)).rejects.toThrow(/on node7 is writing into .*, or was 29\d s ago/);
        await ago(301);
        await (await lockFolder(folder))();
        await unlock();
        vi.advanceTimersByTime(15_000);
        expect(await readdir(folder)).toEqual([]);
      } finally {
        vi.useRealTimers();
      }
    },
  );

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
