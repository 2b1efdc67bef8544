/** The repository that is tested: its files, folders of its own for what tests make of them, and its build. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

export const run = promisify(execFile);

/** Text of a file of the repository. */
export const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** A folder inside the repository, where the package's dependencies are found. */
export function scratch(): string {
  mkdirSync(join(ROOT, 'out'), { recursive: true });
  return mkdtempSync(join(ROOT, 'out', 'test-'));
}

/** Builds the package into a folder, as `npm run build` does into dist/. */
export async function buildInto(folder: string, ...flags: '--types'[]): Promise<void> {
  await run(process.execPath, [join(ROOT, 'scripts/build.mjs'), folder, ...flags], { cwd: ROOT });
}
