/** Where drivers are looked for: with odelt and beside it, never in the directory that a program happens to be started in. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Machine } from '../../engine/adapters.node.ts';
import { bundle } from '../support/child.ts';

const ARCHIVE = join('node_modules', '@sparticuz', 'chromium', 'bin', 'swiftshader.tar.br');

let scratch: string;
beforeAll(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), 'odelt-drivers-')));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function plant(file: string): string {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, 'whatever somebody put here');
  return file;
}

/** What a program with odelt in its node_modules finds when it is started in `cwd`. */
async function survey(project: string, cwd: string, env: NodeJS.ProcessEnv = {}): Promise<Machine> {
  const outfile = join(project, 'node_modules', 'odelt', 'dist', 'survey.mjs');
  await bundle(
    `import { surveyMachine } from './engine/adapters.node.ts'; console.log(JSON.stringify(surveyMachine()));`,
    outfile,
  );
  const { PATH } = process.env;
  return JSON.parse(
    execFileSync(process.execPath, [outfile], { cwd, env: { PATH, HOME: '/nowhere', ...env } }).toString(),
  );
}

it('SwiftShader in the node_modules of the current directory is not looked at', async () => {
  const [project, elsewhere] = [join(scratch, 'alone'), join(scratch, 'elsewhere')];
  plant(join(elsewhere, ARCHIVE));
  const found = await survey(project, elsewhere);
  expect(found.swiftshaderArchive).toBeUndefined();
});

it('SwiftShader beside odelt is found, from anywhere', async () => {
  const [project, elsewhere] = [join(scratch, 'project'), join(scratch, 'other')];
  const archive = plant(join(project, ARCHIVE));
  plant(join(elsewhere, ARCHIVE));
  expect((await survey(project, elsewhere)).swiftshaderArchive).toBe(archive);
  expect((await survey(project, project)).swiftshaderArchive).toBe(archive);
});

it('drivers are not looked for where empty or relative variables would lead', async () => {
  const [project, elsewhere] = [join(scratch, 'alone'), join(scratch, 'planted')];
  for (const folder of ['', 'share', '.local/share']) plant(join(elsewhere, folder, 'vulkan', 'icd.d', 'lvp_icd.json'));
  const installed = (await survey(project, scratch)).lavapipeIcds;
  for (const env of [
    { XDG_DATA_DIRS: '/usr/local/share:/usr/share:' },
    { XDG_DATA_DIRS: '/usr/local/share:/usr/share:share' },
    { XDG_DATA_HOME: '' },
    { XDG_DATA_HOME: 'share' },
    { HOME: '' },
  ]) {
    expect((await survey(project, elsewhere, env)).lavapipeIcds, JSON.stringify(env)).toEqual(installed);
  }
  const home = join(scratch, 'home');
  const own = plant(join(home, '.local', 'share', 'vulkan', 'icd.d', 'lvp_icd.json'));
  expect((await survey(project, elsewhere, { HOME: home })).lavapipeIcds).toContain(own);
});
