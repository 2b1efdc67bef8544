/** A peer's process as the parent sees it: questions go there, answers come back, and its death is an answer, too. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseAnswer } from './messages.mjs';

const WORKER = fileURLToPath(new URL('worker.mjs', import.meta.url));

/** Dawn says so of some drivers at each start, and it means nothing here. */
const NOISE = /^Warning: maxDynamic\w+ artificially reduced/;

/** The last lines that say something, of what a process wrote. */
export function lastWords(written) {
  const lines = written.split('\n').map((line) => line.trim());
  return lines
    .filter((line) => line !== '' && !NOISE.test(line))
    .slice(-3)
    .join(' / ')
    .slice(-300);
}

/**
 * Starts a peer's process, or another program that talks like one.
 * @param {string} [program]
 */
export function startPeer(program = WORKER) {
  const child = fork(program, [], { serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  let written = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      written = (written + text).slice(-4000);
    });
  }
  // Closed, not only ended: all that it wrote has been read.
  const closed = new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(signal ? `ended by ${signal}` : `ended with exit code ${code}`));
  });
  const failed = (reason) => ({ answer: 'failed', reason });

  return {
    /** Never rejects: what goes wrong, the process's end and want of an answer included, is an answer 'failed'. */
    async ask(question, timeoutSeconds) {
      let timer;
      const answered = new Promise((resolve) => child.once('message', resolve));
      const ended = closed.then((how) => failed([how, lastWords(written)].filter(Boolean).join(': ')));
      const late = new Promise((resolve) => {
        timer = setTimeout(() => {
          child.kill('SIGKILL');
          resolve(failed(`no answer within ${timeoutSeconds} s`));
        }, timeoutSeconds * 1000);
      });
      if (child.connected) child.send(question, () => {}); // where it cannot be sent, the process has ended
      try {
        return parseAnswer(await Promise.race([answered, ended, late]));
      } catch (error) {
        return failed(error.message);
      } finally {
        clearTimeout(timer);
      }
    },
    async end() {
      child.kill('SIGKILL');
      await closed;
    },
  };
}
