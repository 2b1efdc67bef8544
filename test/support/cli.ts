/** The command as users start it: a build of its own per test file, run in processes of their own. */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildInto, scratch } from './repository.ts';

export interface Ended {
  readonly code: number | null;
  /** What ended the process, if it did not end by itself. */
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Watching {
  readonly cwd?: string;
  /** Sees what has been said there so far, and may send signals. */
  readonly onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void;
}

export interface Cli {
  /** A folder of its own inside the repository, where the package's dependencies are found. */
  readonly folder: string;
  /** Path of the built command. */
  readonly path: string;
  run(...args: string[]): Promise<Ended>;
  /** The same in another folder, or watched. */
  watch(args: readonly string[], watching: Watching): Promise<Ended>;
  /** Runs a bash script in `folder`, with the command as `odelt`; exit codes of pipelines in `$PIPESTATUS`. */
  bash(script: string): Promise<Ended>;
  remove(): void;
}

/** Runs a program to its end, five minutes at most. */
export function ended(program: string, args: readonly string[], options: Watching = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, NO_COLOR: '1' };
    const child = spawn(program, args, { cwd: options.cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 300_000 });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      options.onStderr?.(stderr, (signal) => child.kill(signal));
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

export async function buildCli(): Promise<Cli> {
  const folder = scratch();
  await buildInto(folder);
  const path = join(folder, 'cli.js');
  return {
    folder,
    path,
    run: (...args) => ended(process.execPath, [path, ...args], { cwd: folder }),
    watch: (args, watching) => ended(process.execPath, [path, ...args], { cwd: folder, ...watching }),
    bash: (script) =>
      ended('bash', ['-c', `odelt() { "${process.execPath}" "${path}" "$@"; }\n${script}`], { cwd: folder }),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
