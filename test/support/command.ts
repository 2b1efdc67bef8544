/** The command as users have it: built into a folder of its own, started as a process. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Finished {
  /** Exit code; null where a signal ended the process, as it does after ten minutes. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Command {
  /** Runs `odelt ...args` to its end. `onStderr` is told all that has been written there so far, whenever there is more. */
  run(
    args: readonly string[],
    options?: { cwd?: string; onStderr?: (text: string, child: ChildProcess) => void },
  ): Promise<Finished>;
  remove(): void;
}

/** Builds the command inside the repository, where it finds its dependencies; `remove` it when done. */
export function buildCommand(): Command {
  mkdirSync(join(ROOT, 'out'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, 'out', 'test-'));
  execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.mjs'), folder], { stdio: 'pipe' });
  return {
    run: (args, { cwd, onStderr } = {}) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [join(folder, 'cli.js'), ...args], {
          cwd,
          stdio: 'pipe',
          timeout: 600_000,
        });
        let stdout = '';
        let stderr = '';
        child.stdout.on('data', (data: Buffer) => {
          stdout += data;
        });
        child.stderr.on('data', (data: Buffer) => {
          stderr += data;
          onStderr?.(stderr, child);
        });
        child.on('error', reject);
        child.on('close', (code) => resolve({ code, stdout, stderr }));
      }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
