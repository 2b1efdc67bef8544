/** Where a file can be written is known before the work: checkOutput agrees with what writing there would do. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, OutputError } from '../../engine/errors.ts';
import { checkOutput, writeText } from '../../formats/files.node.ts';
import { ROOT } from '../support/repository.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'odelt-output-'));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'file'), 'old');
  mkdirSync(join(folder, 'sub'));
  symlinkSync(join(folder, 'sub'), join(folder, 'to-folder'));
  symlinkSync(join(folder, 'file'), join(folder, 'to-file'));
  symlinkSync(join(folder, 'nothing'), join(folder, 'to-nothing'));
  symlinkSync('loop', join(folder, 'loop'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('checkOutput', () => {
  it.each(['new', 'file', 'a/b/c', 'sub/new', 'to-folder/new', 'to-file', 'to-nothing', 'n'.repeat(200)])(
    'accepts %s, where a file can then be written, and makes nothing itself',
    async (name) => {
      const before = await readdir(folder, { recursive: true });
      await checkOutput('--out', join(folder, name));
      expect(await readdir(folder, { recursive: true })).toEqual(before);
      await writeText(join(folder, name), 'new');
    },
  );

  it.each(['sub', 'new-folder', 'sub/deep/er', 'to-folder'])('accepts %s for a folder', async (name) => {
    await checkOutput('--save', join(folder, name), { folder: true });
    await writeText(join(folder, name, 'x.json'), '{}');
  });

  it.each([
    ['sub', 'it is a folder'],
    ['sub/', 'it names a folder'],
    ['later/', 'it names a folder'],
    ['file/new', 'a file is in the place of a folder'],
    ['file/a/b', 'a file is in the place of a folder'],
    ['loop/new', 'ELOOP'],
    [`${'n'.repeat(250)}`, 'its name is too long'],
    [`${'n'.repeat(300)}/x`, 'its name is too long'],
  ])('refuses %s, where no file can be written', async (name, why) => {
    const path = `${folder}/${name}`;
    const error = await checkOutput('--out', path).then(
      () => null,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(OutputError);
    expect((error as OutputError).message).toContain(`--out '${path}' cannot be written: ${why}`);
    await expect(writeText(path, 'x')).rejects.toThrow(OutputError);
  });

  it('refuses a link to nothing in the place of a folder', async () => {
    symlinkSync(join(folder, 'nowhere/at/all'), join(folder, 'dangling'));
    for (const [path, options] of [
      [join(folder, 'dangling', 'x'), {}],
      [join(folder, 'dangling'), { folder: true }],
    ] as const) {
      await expect(checkOutput('--out', path, options)).rejects.toThrow(/dangling is a link to nothing$/);
    }
    await expect(writeText(join(folder, 'dangling', 'x'), 'x')).rejects.toThrow(OutputError);
  });

  it('refuses a file for a folder, and what a rename would replace: a device, a link to a folder', async () => {
    const file = join(folder, 'file');
    await expect(checkOutput('--save', file, { folder: true })).rejects.toThrow(`${file} is no folder`);
    await expect(checkOutput('--out', join(folder, 'to-folder'))).rejects.toThrow('it is a folder');
    await expect(checkOutput('--out', '/dev/null')).rejects.toThrow('it is no regular file');
  });

  it('refuses an empty path as a wrong argument', async () => {
    await expect(checkOutput('--out', '')).rejects.toThrow(ConfigError);
    await expect(checkOutput('--save', '', { folder: true })).rejects.toMatchObject({
      hint: 'give the path of a folder',
    });
  });

  it('refuses what permissions forbid, and shows names as they are safe to show', async (test) => {
    const root = process.getuid?.() === 0;
    if (process.getuid === undefined) test.skip('there are no permissions to take away');
    mkdirSync(join(folder, 'locked'));
    writeFileSync(join(folder, 'locked', 'inside'), '');
    chmodSync(join(folder, 'locked', 'inside'), 0o666);
    chmodSync(join(folder, 'locked'), 0o555);
    mkdirSync(join(folder, 'open'));
    chmodSync(join(folder, 'open'), 0o777);
    writeFileSync(join(folder, 'open', 'protected'), '');
    chmodSync(join(folder, 'open', 'protected'), 0o444);
    // For root no permission is missing: a process of nobody's asks.
    await build({
      entryPoints: [join(ROOT, 'formats/files.node.ts')],
      outfile: join(folder, 'files.mjs'),
      bundle: true,
      platform: 'node',
      format: 'esm',
    });
    const paths = ['locked/new', 'locked/deep/new', 'locked/inside', 'open/protected', 'open/new\u001b[2J'];
    const code = `
      const { checkOutput } = await import(${JSON.stringify(pathToFileURL(join(folder, 'files.mjs')).href)});
      if (${root}) { process.setgid(65534); process.setuid(65534); }
      const said = [];
      for (const path of ${JSON.stringify(paths)}) {
        said.push(await checkOutput('--out', ${JSON.stringify(folder)} + '/' + path).then(() => 'fine', (e) => e.name + ': ' + e.message));
      }
      console.log(JSON.stringify(said));`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], { cwd: '/' });
    const refused = (path: string, at: string) =>
      `OutputError: --out '${folder}/${path}' cannot be written: no permission to write ${folder}/${at}`;
    expect(JSON.parse(stdout)).toEqual([
      refused('locked/new', 'locked'),
      refused('locked/deep/new', 'locked'),
      refused('locked/inside', 'locked'),
      refused('open/protected', 'open/protected'),
      'fine',
    ]);
  });
});
