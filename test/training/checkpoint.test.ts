/** Checkpoints on disk: sums, what counts as one, what is in the way, a full disk, and the order in which all of it reaches the disk. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../engine/errors.ts';
import { initParams, paramLayout } from '../../model/params.ts';
import { abandonAfter, checkpointSteps, loadCheckpoint, saveCheckpoint } from '../../training/checkpoint.node.ts';
import { listCheckpoints, removeLeftovers } from '../../training/checkpoint-folders.node.ts';
import { bundle } from '../support/child.ts';
import { ROOT } from '../support/repository.ts';
import { setBits, tinyModel } from '../support/tiny.ts';

const layout = paramLayout(tinyModel);
const FILES = ['model.safetensors', 'ema.safetensors', 'optim.safetensors', 'state.json'];

const scratch: string[] = [];
let folder: string;
beforeEach(async () => {
  folder = await temporary();
});
afterAll(async () => {
  for (const path of scratch) await rm(path, { recursive: true, force: true });
});
async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'odelt-checkpoint-'));
  scratch.push(path);
  return path;
}

const sets = (step: number) => ({
  params: initParams(tinyModel, step),
  ema: initParams(tinyModel, step + 100),
  m: initParams(tinyModel, step + 200),
  v: initParams(tinyModel, step + 300),
});
async function save(step: number, at = folder): Promise<string[]> {
  const notices: string[] = [];
  await saveCheckpoint(at, { step, model: tinyModel }, sets(step), (text) => notices.push(text));
  return notices;
}
const load = (step?: number) => loadCheckpoint(folder, layout, { step });
async function failure(promise: Promise<unknown>): Promise<CheckpointError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return error as CheckpointError;
}
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
async function flip(path: string, byte: number): Promise<{ before: string; after: string }> {
  const bytes = await readFile(path);
  const before = sha(bytes);
  bytes[byte < 0 ? bytes.length + byte : byte]! ^= 1;
  await writeFile(path, bytes);
  return { before, after: sha(bytes) };
}

describe('sums', () => {
  it('are those of the files, in the format of sha256sum', async () => {
    await save(3);
    const at = join(folder, 'step-3');
    const expected = await Promise.all(FILES.map(async (f) => `${sha(await readFile(join(at, f)))}  ${f}\n`));
    expect(await readFile(join(at, 'SHA256SUMS'), 'utf8')).toBe(expected.join(''));
    const { state, sets: loaded, checked } = await load();
    expect(checked).toBe(true);
    expect(state).toEqual({ step: 3, model: tinyModel });
    expect(setBits({ ...loaded })).toEqual(setBits(sets(3)));
  });

  it.each(FILES)('one flipped bit of %s is found, and the checkpoint before offered', async (name) => {
    await save(3);
    await save(5);
    const file = join(folder, 'step-5', name);
    const { before, after } = await flip(file, -1);
    const error = await failure(load());
    expect(error.message).toBe(`${file} is damaged: its sha256 is ${after}, and ${before} when it was written`);
    expect(error.hint).toBe('go on from the checkpoint before it with --resume step-3');
    expect((await load(3)).state.step).toBe(3);
    await rm(join(folder, 'step-3'), { recursive: true });
    expect((await failure(load())).hint).toMatch(/^there is no checkpoint before it/);
  });

  it('one flipped bit anywhere in SHA256SUMS is found', async () => {
    await save(3);
    const file = join(folder, 'step-3', 'SHA256SUMS');
    const text = await readFile(file, 'latin1');
    const lines = text.split('\n').map((line) => line.length + 1);
    // Of each line the first digit, one within, the spaces, the name and the line's end.
    const bytes = lines.slice(0, -1).flatMap((length, n) => {
      const begin = lines.slice(0, n).reduce((a, b) => a + b, 0);
      return [0, 33, 64, 65, 66, 70, length - 1].map((at) => begin + at);
    });
    for (const byte of bytes) {
      await flip(file, byte);
      expect((await failure(load())).message, `byte ${byte}`).toMatch(/ is damaged: /);
      await flip(file, byte);
    }
    expect((await load()).checked).toBe(true);
  });

  it('are not needed: checkpoints of earlier versions load, and say that they were not checked', async () => {
    await save(3);
    await rm(join(folder, 'step-3', 'SHA256SUMS'));
    const { checked, sets: loaded } = await load();
    expect(checked).toBe(false);
    expect(setBits({ ...loaded })).toEqual(setBits(sets(3)));
  });

  it('a pipe or a folder in the place of SHA256SUMS is an error', async () => {
    await save(3);
    const file = join(folder, 'step-3', 'SHA256SUMS');
    await rm(file);
    await mkdir(file);
    expect((await failure(load())).message).toBe(`${file} is a folder`);
    if (spawnSync('mkfifo', [`${file}.fifo`]).status !== 0) return;
    await rm(file, { recursive: true });
    await symlink(`${file}.fifo`, file);
    expect((await failure(load())).message).toBe(`${file} is no regular file`);
  });
});

describe('what is no checkpoint', () => {
  it('is skipped, with the reason', async () => {
    await save(3);
    const foreign = async (name: string) => {
      await mkdir(join(folder, name));
      for (const file of FILES) await writeFile(join(folder, name, file), '');
    };
    await writeFile(join(folder, 'step-4'), 'a file');
    await mkdir(join(folder, 'step-5'));
    await foreign('step-6');
    await rm(join(folder, 'step-6', 'state.json'));
    await foreign('step-7');
    await rm(join(folder, 'step-7', 'ema.safetensors'));
    await mkdir(join(folder, 'step-7', 'ema.safetensors'));
    await symlink('nowhere', join(folder, 'step-8'));
    await foreign('step-09');
    const { steps, skipped } = await listCheckpoints(folder);
    expect(steps).toEqual([3]);
    expect(Object.fromEntries(skipped.map(({ name, reason }) => [name, reason]))).toEqual({
      'step-4': 'is no folder',
      'step-5': 'has no model.safetensors',
      'step-6': 'has no state.json',
      'step-7': 'has no regular file ema.safetensors',
      'step-8': 'is no folder',
    });
    expect((await load()).state.step).toBe(3);
    const error = await failure(load(6));
    expect(error.message).toBe(`there is no checkpoint of step 6 in ${folder}: step-6 has no state.json`);
    expect(error.hint).toBe('there are: 3');
  });

  it.each(FILES)('a pipe as %s is not waited for', async (name) => {
    await save(3);
    const file = join(folder, 'step-3', name);
    await rm(file);
    execFileSync('mkfifo', [file]);
    expect((await failure(load())).message).toBe(
      `there is no checkpoint in ${folder}: step-3 has no regular file ${name}`,
    );
  });

  it('does not keep a checkpoint of that name from being saved, and is not lost', async () => {
    await mkdir(join(folder, 'step-3'));
    await writeFile(join(folder, 'step-3', 'thesis.txt'), 'precious');
    await writeFile(join(folder, 'step-4'), 'precious too');
    expect(await save(3)).toEqual(['step-3 is no checkpoint: moved to step-3.aside-1']);
    expect(await save(4)).toEqual(['step-4 is no checkpoint: moved to step-4.aside-1']);
    expect(await readFile(join(folder, 'step-3.aside-1', 'thesis.txt'), 'utf8')).toBe('precious');
    expect(await readFile(join(folder, 'step-4.aside-1'), 'utf8')).toBe('precious too');
    expect(await checkpointSteps(folder)).toEqual([3, 4]);
  });

  it('what is left of a checkpoint of that name is replaced', async () => {
    await mkdir(join(folder, 'step-3'));
    await save(4);
    await rm(join(folder, 'step-4', 'state.json'));
    expect([...(await save(3)), ...(await save(4)), ...(await save(4))]).toEqual([]);
    expect(await readdir(folder)).toEqual(['step-3', 'step-4']);
    expect((await load()).checked).toBe(true);
  });

  it('half-written and half-removed folders of dead processes are removed, nothing else', async () => {
    await save(3);
    const stay = ['step-9.tmp', 'step-8.aside-1', 'old-step-9', 'step-9.1.tmp.txt'];
    for (const name of [...stay, 'step-9.123.tmp', 'step-2.77.old.tmp']) {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, 'state.json'), '');
    }
    await removeLeftovers(folder);
    expect((await readdir(folder)).sort()).toEqual([...stay, 'step-3'].sort());
  });

  it('checkpoints after the one that a run goes on from are moved aside', async () => {
    for (const step of [3, 4]) await save(step);
    const notices: string[] = [];
    await abandonAfter(folder, 3, (text) => notices.push(text));
    expect(notices).toEqual(['step-4 is after step-3: moved to step-4.aside-1']);
    await save(4);
    await abandonAfter(folder, 3, (text) => notices.push(text));
    expect(notices[1]).toBe('step-4 is after step-3: moved to step-4.aside-2');
    expect(await checkpointSteps(folder)).toEqual([3]);
  });
});

const mounts = () => {
  const at = join(tmpdir(), `odelt-mount-${process.pid}`);
  execFileSync('mkdir', ['-p', at]);
  const ok = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at]).status === 0;
  if (ok) spawnSync('umount', [at]);
  execFileSync('rmdir', [at]);
  return ok;
};

describe('a full disk', () => {
  it.skipIf(!mounts())(
    '(skipped where file systems cannot be mounted) leaves the earlier checkpoint whole',
    async () => {
      const disk = join(folder, 'disk');
      await mkdir(disk);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
      try {
        await save(3, disk);
        const used = (await readFile(join(disk, 'step-3', 'model.safetensors'))).length;
        // Room for two of the four files.
        await writeFile(join(disk, 'filler'), new Uint8Array(2 ** 21 - Math.ceil(6.5 * used)));
        const error = await failure(save(4, disk));
        expect(error.message).toBe(`the checkpoint ${join(disk, 'step-4')} could not be written`);
        expect(error.hint).toMatch(/^free disk space/);
        expect(error.cause).toMatchObject({ name: 'OutputError', cause: { code: 'ENOSPC' } });
        expect((await readdir(disk)).sort()).toEqual(['filler', 'step-3']);
        expect((await loadCheckpoint(disk, layout)).checked).toBe(true);
        await rm(join(disk, 'filler'));
        await save(4, disk);
        expect(await checkpointSteps(disk)).toEqual([3, 4]);
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );
});

const traces = () => existsSync('/proc') && spawnSync('strace', ['-f', '-e', 'trace=fsync', 'true']).status === 0;

describe('a power cut', () => {
  it.skipIf(!traces())('(skipped without strace) finds every step on the disk before the next begins', async () => {
    const script = join(folder, 'save.mjs');
    await bundle(
      `
          import { saveCheckpoint } from './training/checkpoint.node.ts';
          import { initParams } from './model/params.ts';
          import { preset } from './model/config.ts';
          const model = preset('tiny', { width: 16, heads: 2, depth: 4 });
          const set = initParams(model, 1);
          const sets = { params: set, ema: set, m: set, v: set };
          for (const step of [1, 2, 3]) await saveCheckpoint(process.argv[2], { step, model }, sets);
        `,
      script,
    );
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const at = join(folder, 'checkpoints');
    await mkdir(at);
    const log = join(folder, 'calls.txt');
    const calls = 'trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir';
    execFileSync('strace', ['-f', '-y', '-s', '4096', '-e', calls, '-o', log, process.execPath, script, at]);
    const done = callsBelow(at, await readFile(log, 'utf8'));
    const file = (step: number, name: string) => [
      `sync step-${step}.tmp/${name}.tmp`,
      `rename step-${step}.tmp/${name}.tmp -> step-${step}.tmp/${name}`,
      `sync step-${step}.tmp`,
    ];
    const saved = (step: number) => [
      ...[...FILES, 'SHA256SUMS'].flatMap((name) => file(step, name)),
      `rename step-${step}.tmp -> step-${step}`,
      'sync .',
    ];
    const first = [...saved(1), ...saved(2), ...saved(3), 'rename step-1 -> step-1.old.tmp', 'sync .'];
    expect(done.slice(0, first.length)).toEqual(first);
    const rest = done.slice(first.length);
    expect(rest.at(-1)).toBe('remove step-1.old.tmp');
    expect(rest.filter((call) => !call.startsWith('remove step-1.old.tmp'))).toEqual([]);
    expect(rest.length).toBe(FILES.length + 2);
  });

  /** The calls of a trace, in order, with paths below `root` and without process ids. A removal of a folder that still has entries fails and is left out. */
  function callsBelow(root: string, text: string): string[] {
    const short = (path: string) =>
      (path === root ? '.' : path.slice(root.length + 1)).replaceAll(/\.\d+(-[0-9a-f]{8})?(?=\.)/g, '');
    const begun = new Map<string, string>();
    return text.split('\n').flatMap((line) => {
      const [, thread, rest] = /^(\d+)\s+(.*)$/.exec(line) ?? [];
      if (thread === undefined || rest === undefined) return [];
      if (rest.endsWith('<unfinished ...>')) {
        begun.set(thread, rest.slice(0, rest.indexOf('<unfinished')));
        return [];
      }
      const whole = rest.replace(/^<\.\.\. \w+ resumed>/, () => begun.get(thread) ?? '');
      const [, call, given] = /^(\w+)\((.*)\)\s+= 0/.exec(whole) ?? [];
      if (call === undefined || given === undefined || !given.includes(root)) return [];
      const paths = Array.from(given.matchAll(/["<]([^">]*)[">]/g), ([, path]) => path!).filter((p) =>
        p.startsWith(root),
      );
      if (/sync/.test(call)) return [`sync ${short(paths[0]!)}`];
      if (/rename/.test(call)) return [`rename ${short(paths[0]!)} -> ${short(paths[1]!)}`];
      return [`remove ${short(paths.at(-1)!)}`];
    });
  }
});
