/** Programs run to their end, to a deadline or to an interruption, with all processes that they have started. */
import { execFileSync, spawn } from 'node:child_process';

/** How a program ended. */
export interface ChildEnd {
  readonly end: 'exited' | 'timed out' | 'interrupted';
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface ChildOptions {
  /** Seconds until it is stopped, three weeks at most. Default: those. */
  readonly seconds?: number;
  readonly signal?: AbortSignal;
  /** Seconds from being asked to stop to being stopped. Default 5. */
  readonly grace?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/** Seconds that a timer can count at most, rounded. */
const LONGEST = 2_000_000;

/** Most characters that are kept of what a program writes to either stream: the last ones. */
const MOST_KEPT = 32 * 2 ** 20;

/** What Dawn says on some drivers, whatever is done there; see docs/troubleshooting.md. */
const NOISE = /^Warning: maxDynamic\w+ artificially reduced.*\n?/gm;

/** What a program said on standard error, without what means nothing. */
export const saidBy = ({ stderr }: Pick<ChildEnd, 'stderr'>): string => stderr.replace(NOISE, '').trim();

/**
 * Runs a program, whose input is empty. One that is out of time, or interrupted, is sent SIGTERM with all that it has started and, if that
 * does not end it, SIGKILL. Windows has no such signals: there it is ended at once, with its children.
 */
export function runChild(program: string, args: readonly string[], options: ChildOptions): Promise<ChildEnd> {
  const { seconds = LONGEST, signal, grace = 5, env = process.env } = options;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    // A process group of its own: to be stopped as a whole, and not by the terminal's Ctrl-C but by us.
    const detached = process.platform !== 'win32';
    const child = spawn(program, args, { env, detached, stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
    let end: ChildEnd['end'] = 'exited';
    let last: NodeJS.Timeout | undefined;
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-MOST_KEPT);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-MOST_KEPT);
    });
    const stop = (why: ChildEnd['end']) => {
      if (end !== 'exited') return;
      end = why;
      endGroup(child.pid!, 'SIGTERM');
      last = setTimeout(() => endGroup(child.pid!, 'SIGKILL'), grace * 1000);
    };
    const interrupt = () => stop('interrupted');
    const timer = setTimeout(() => stop('timed out'), seconds * 1000);
    const settle = () => {
      clearTimeout(timer);
      clearTimeout(last);
      signal?.removeEventListener('abort', interrupt);
    };
    child.on('error', (error) => {
      settle();
      reject(error);
    });
    child.on('exit', () => {
      // What it has started and left behind would keep its output open.
      if (end !== 'exited') endGroup(child.pid!, 'SIGKILL');
    });
    child.on('close', (code) => {
      settle();
      resolve({ end, code, stdout, stderr, seconds: (performance.now() - started) / 1000 });
    });
    signal?.addEventListener('abort', interrupt);
    if (signal?.aborted) interrupt();
  });
}

function endGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    if (process.platform === 'win32') execFileSync('taskkill', ['/pid', String(pid), '/T', '/F'], { stdio: 'ignore' });
    else process.kill(-pid, signal);
  } catch {
    // It has ended already.
  }
}
