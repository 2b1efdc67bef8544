/** How the command ends before its time: Ctrl-C, SIGTERM, a hang-up, and output that nobody takes. Loads nothing of odelt. */
import { isatty } from 'node:tty';

/** Exit code after a signal, whichever of the three it was. */
export const INTERRUPTED = 130;
/** Exit code when the reader of standard output or standard error has gone, as a shell reports SIGPIPE. */
const READER_GONE = 141;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const endAtOnce = (): void => process.exit(INTERRUPTED);

/** Sets the exit code for a stream that cannot be written, and says why where that may still be heard. */
function blame(stream: 'standard output' | 'standard error', error: NodeJS.ErrnoException): void {
  if (process.exitCode) return;
  process.exitCode = error.code === 'EPIPE' ? READER_GONE : 1;
  if (stream === 'standard error' || error.code === 'EPIPE') return;
  process.stderr.write(`OutputError: standard output cannot be written\n  because: ${error.message}\n`);
}

const endForOutput = (error: NodeJS.ErrnoException): void => {
  blame('standard output', error);
  process.exit();
};
const endForMessages = (error: NodeJS.ErrnoException): void => {
  blame('standard error', error);
  process.exit();
};

/** Until a command has work to save: signals end the process at once, and so does output that cannot be written. */
export function endEarly(): void {
  for (const name of SIGNALS) process.on(name, endAtOnce);
  process.stdout.on('error', endForOutput);
  process.stderr.on('error', endForMessages);
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  // Node aborts when it cannot put a terminal back to its old state at exit: where it is gone, end as its hang-up would have.
  process.on('exit', () => {
    if (terminals.every((fd) => isatty(fd))) return;
    process.removeAllListeners('SIGHUP');
    process.kill(process.pid, 'SIGHUP');
  });
}

/** Signals that follow each other faster, in milliseconds, are one wish: npm and timeout pass on what the terminal sends as well. */
const ONE_WISH = 500;

/**
 * Aborts on the first Ctrl-C, SIGTERM or hang-up, saying `what` happens now, and when standard output or standard error can no
 * longer be written. A second Ctrl-C or SIGTERM ends the process at once; a second hang-up does not, as a closing terminal sends two.
 */
export function interruptSignal(what = 'stopping after this step'): AbortSignal {
  const controller = new AbortController();
  let first = 0;
  const stop = (name: NodeJS.Signals): void => {
    if (first > 0 && name !== 'SIGHUP') {
      if (performance.now() - first > ONE_WISH) endAtOnce();
      return;
    }
    first ||= performance.now();
    // After a hang-up nobody reads.
    if (name !== 'SIGHUP') process.stderr.write(`\n${what} (press Ctrl-C again to stop at once)\n`);
    controller.abort();
  };
  for (const name of SIGNALS) process.off(name, endAtOnce).on(name, stop);
  // Once the end has begun, for whatever reason, lost messages do not change it.
  const broken = (stream: Parameters<typeof blame>[0]) => (error: NodeJS.ErrnoException) => {
    if (!controller.signal.aborted) blame(stream, error);
    controller.abort();
  };
  process.stdout.off('error', endForOutput).on('error', broken('standard output'));
  process.stderr.off('error', endForMessages).on('error', broken('standard error'));
  return controller.signal;
}

/** Resolves when all that was written to standard output and standard error has left the process, or never will. */
export async function flushed(): Promise<void> {
  const drained = (stream: NodeJS.WriteStream) => new Promise<void>((resolve) => stream.write('', () => resolve()));
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  // A failed write calls back first and tells the stream's listeners after.
  await new Promise((resolve) => setImmediate(resolve));
}
